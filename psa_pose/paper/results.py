"""What a complete row leaves in its folder, and whether a folder is of the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from psa_pose.config import dump_config
from psa_pose.config.load import parse_config
from psa_pose.errors import ConfigError, DataError
from psa_pose.evaluation.result_files import RESULTS, read_result_file
from psa_pose.files import read_json, write_json
from psa_pose.metrics.coco_ap import match_results
from psa_pose.metrics.significance import bootstrap, intervals
from psa_pose.paper.plan import Job
from psa_pose.training.output_dir import LAST
from psa_pose.training.resume import changed_keys

RUN, RESULT = "reproduce.json", "result.json"

# Keys that decide where and how fast, not what comes out; of the batch only the effective one does.
_PLACE: tuple[str, ...] = ("OUTPUT_DIR", "DEVICE", "AUTO_RESUME", "LOADER.", "TEST.BATCH_SIZE")
_PLACE += ("TRAIN.BATCH_SIZE", "TRAIN.ACCUMULATE", "TRAIN.LOG_EVERY", "TRAIN.SAVE_EVERY", "TRAIN.KEEP_EPOCHS")
_PLACE += ("TRAIN.LOG_RECORDS", "TRAIN.EVAL_EVERY")
_TEST = ("TEST.", "DATASET.TEST_")


def describe(job: Job) -> dict[str, Any]:
    """What a run is, as it is written down: the whole config, the effective batch, and what else tells it apart."""
    return {"config": dump_config(job.cfg), "batch": job.cfg.TRAIN.BATCH_SIZE * job.processes, **job.extra}


def differences(before: dict[str, Any], job: Job, skip: tuple[str, ...] = ()) -> list[str]:
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
    changed = differences(read_json(path, "file"), job, _TEST)
    if changed:
        raise ConfigError(
            f"{job.folder} holds a run of another config ({'; '.join(changed[:3])}); remove the folder or give another "
            "--out"
        )
    result = read_result(job.folder)
    return result if result and not differences(result, job) else None


def read_result(folder: Path) -> dict[str, Any] | None:
    """What `write_result` wrote, None where nothing is. Raises DataError for a file of something else."""
    path = folder / RESULT
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
        evaluation["intervals"] = _intervals(result_list(job.folder, evaluation), evaluation["stats"])
    content = {**describe(job), "seconds": seconds, "evaluations": evaluations}
    write_json(job.folder / RESULT, content)
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


def changed_from_row(result: dict[str, Any], row_config: CfgNode) -> list[str]:
    """What of the config that a result was made with is not as in the row's file."""
    before = {"config": dump_config(row_config)}
    used = parse_config(result["config"], "result")
    return [line for line in changed_keys(before, used) if not line.startswith((*_PLACE, "DATASET.ROOT"))]
