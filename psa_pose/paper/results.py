"""What a complete row leaves in its folder, whether a folder is of the same run, and a table's content from all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from psa_pose.config import dump_config
from psa_pose.config.load import parse_config
from psa_pose.errors import ConfigError, DataError
from psa_pose.evaluation.result import RESULTS, read_result_file
from psa_pose.files import read_json, write_json
from psa_pose.metrics.coco_ap import match_results
from psa_pose.metrics.protocol import guess_protocol
from psa_pose.metrics.significance import bootstrap, intervals
from psa_pose.paper import segmentation
from psa_pose.paper.complexity import Row, mismatches, row_complexity
from psa_pose.paper.plan import Job
from psa_pose.training.output_dir import LAST
from psa_pose.training.resume import changed_keys

PROTOCOLS = ("ground_truth", "detector")
STATS = ("AP", "AP50", "AP75", "APM", "APL", "AR")
RUN, _RESULT = "reproduce.json", "result.json"

# Keys that decide where and how fast, not what comes out; of the batch only the effective one does.
_PLACE: tuple[str, ...] = ("OUTPUT_DIR", "DEVICE", "AUTO_RESUME", "LOADER.", "TEST.BATCH_SIZE")
_PLACE += ("TRAIN.BATCH_SIZE", "TRAIN.ACCUMULATE", "TRAIN.LOG_EVERY", "TRAIN.SAVE_EVERY", "TRAIN.KEEP_EPOCHS")
_PLACE += ("TRAIN.LOG_RECORDS", "TRAIN.EVAL_EVERY", "MODEL.CHANNELS_LAST", "GPU.CUDNN_BENCHMARK", "GPU.CUDA_GRAPHS")
_PLACE += ("GPU.FUSED_PSA",)
_TEST = ("TEST.", "DATASET.TEST_")


def describe(job: Job) -> dict[str, Any]:
    """What a run is, as it is written down: the whole config, the effective batch, and what else tells it apart."""
    return {"config": dump_config(job.cfg), "batch": job.cfg.TRAIN.BATCH_SIZE * job.processes, **job.extra}


def _differences(before: dict[str, Any], job: Job, skip: tuple[str, ...] = ()) -> list[str]:
    """What is not as it was: "KEY: old -> new", without the keys that change nothing in a result."""
    keys = [line for line in changed_keys(before, job.cfg) if not line.startswith((*_PLACE, *skip))]
    now = describe(job)
    others = [key for key in now if key != "config" and before.get(key) != now[key]]
    return keys + [f"{key}: {before.get(key, 'unset')} -> {now[key]}" for key in others]


def finished_result(job: Job) -> dict[str, Any] | None:
    """The result of exactly this run, or None. Raises ConfigError where the folder holds another training."""
    path = job.folder / RUN
    if not path.exists():
        if (job.folder / LAST).exists():
            raise ConfigError(f"{job.folder} holds a run that this command did not start; give another --out")
        return None
    changed = _differences(read_json(path, "file"), job, _TEST)
    if changed:
        raise ConfigError(
            f"{job.folder} holds a run of another config ({'; '.join(changed[:3])}); remove the folder or give another "
            "--out"
        )
    result = read_result(job.folder)
    return result if result and not _differences(result, job) else None


def read_result(folder: Path) -> dict[str, Any] | None:
    """What `write_result` wrote, None where nothing is. Raises DataError for a file of something else."""
    path = folder / _RESULT
    if not path.exists():
        return None
    content = read_json(path, "result")
    known = isinstance(content, dict) and {"config", "evaluations", "seconds"} <= content.keys()
    if not known or not all({"protocol", "stats", "intervals"} <= e.keys() for e in content["evaluations"]):
        raise DataError(f"result {path} is not one that this command wrote; remove it and run the row again")
    return content


def write_result(job: Job, seconds: float) -> dict[str, Any]:
    """Gather what the tests of a job wrote, with bootstrap intervals, in its folder's result.json."""
    evaluations = read_json(job.folder / "test" / "metrics.json", "file")
    for evaluation in evaluations:
        if job.cfg.TASK == "segmentation":
            evaluation["intervals"] = segmentation.miou_intervals(job.folder, evaluation)
        else:
            evaluation["intervals"] = _intervals(result_list(job.folder, evaluation), evaluation["stats"])
    content = {**describe(job), "seconds": seconds, "evaluations": evaluations}
    write_json(job.folder / _RESULT, content)
    return content


def result_list(folder: Path, evaluation: dict[str, Any]) -> Path:
    """The result list of an evaluation of the run in a folder."""
    return folder / "test" / f"keypoints_{evaluation['split']}_{evaluation['protocol']}{RESULTS}"


def _intervals(path: Path, stats: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Statistic -> its 95 % interval, 0 to 1, of a result list on the annotations that are stated beside it."""
    file = read_result_file(path)
    matches = match_results(file.annotations.content, file.results, np.array(file.skeleton.sigmas))
    estimates = intervals(stats, bootstrap(matches))
    return {name: (estimate.low, estimate.high) for name, estimate in estimates.items()}


def _changed_from_row(result: dict[str, Any], row_config: CfgNode) -> list[str]:
    """What of the config that a result was made with is not as in the row's file."""
    before = {"config": dump_config(row_config)}
    used = parse_config(result["config"], "result")
    return [line for line in changed_keys(before, used) if not line.startswith((*_PLACE, "DATASET.ROOT"))]


def table_content(
    title: str, rows: Sequence[Row], out: Path, root: Path, failures: Mapping[Path, str], smoke: bool
) -> dict[str, Any]:
    """title, smoke, and a dict per row: what is in its folder in `out`, what its config says, what is printed."""
    content = []
    for row in rows:
        figures, folder = row_complexity(row, root), out / row.folder
        result = read_result(folder)
        content.append(
            {
                **figures,
                "not_reproduced": mismatches(figures),
                "like_for_like": row.like_for_like,
                "status": status(folder, failures),
                "printed_looks_like": looks_like(row.printed),
                **our_scores(row, result, smoke),
                "changed": _changed_from_row(result, row.load(root)) if result and not smoke else [],
            }
        )
    return {"title": title, "smoke": smoke, "rows": content}


def our_scores(row: Row, result: Mapping[str, Any] | None, smoke: bool) -> dict[str, Any]:
    """What a row's table says of our evaluations; a trial's AP is nothing to subtract from."""
    if row.config.startswith(("voc/", "cityscapes/")):
        return segmentation.scores(result)
    return scores(result, {} if smoke else row.printed)


def status(folder: Path, failures: Mapping[Path, str]) -> str:
    """ "complete", "failed: why", "unfinished" or "not run"."""
    if folder in failures:
        return f"failed: {failures[folder]}"
    if read_result(folder):
        return "complete"
    return "unfinished" if (folder / LAST).exists() else "not run"


def looks_like(printed: Mapping[str, float]) -> str | None:
    """The box protocol that printed figures (percent) look like; None where that cannot be told."""
    if any(name not in printed for name in STATS):
        return None
    return guess_protocol({name: printed[name] / 100 for name in STATS})


def scores(result: Mapping[str, Any] | None, printed: Mapping[str, float]) -> dict[str, Any]:
    """Per protocol our evaluation, and our AP minus the printed one, percent."""
    ours = {e["protocol"]: e for e in result["evaluations"]} if result else {}
    known = {name: e["stats"]["AP"] for name, e in ours.items() if e["stats"]["AP"] >= 0 and "AP" in printed}
    difference = {name: round(100 * ap - printed["AP"], 2) for name, ap in known.items()}
    return {"ours": ours, "ours_minus_printed": difference, "seconds": result["seconds"] if result else None}
