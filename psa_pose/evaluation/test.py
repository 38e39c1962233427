"""`tools/test.py`: a checkpoint or an oracle on the test sets of a task; or a result file of keypoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.checkpoints import load_checkpoint, load_weights
from psa_pose.codecs import build_codec
from psa_pose.config.skeleton import build_skeleton
from psa_pose.data.build import read_split
from psa_pose.data.loader import loader_workers
from psa_pose.device import backends, check_device, describe_computing
from psa_pose.errors import ConfigError
from psa_pose.evaluation.compare import described
from psa_pose.evaluation.pck import add_pck
from psa_pose.evaluation.report import write_report
from psa_pose.evaluation.result import RESULTS, Evaluation, format_table, published_rows, read_result_file
from psa_pose.files import write_json
from psa_pose.metrics.coco_ap import keypoint_ap
from psa_pose.run_log import RunLog
from psa_pose.skeleton import COCO, Skeleton
from psa_pose.task import Info, Task
from psa_pose.threads import ThreadWaiting


def run_test(
    task: Task, checkpoint: Path | None, oracle: str | None = None, report: bool = False, baselines: bool = False
) -> list[Any]:
    """The results of a checkpoint (or of the task's oracle of that name) under every protocol that is there.

    Writes <OUTPUT_DIR>/test: what each result writes, with `report` an HTML page too, metrics.json and the log.
    baselines: print the published rows below.
    """
    folder = Path(task.cfg.OUTPUT_DIR) / "test"
    published = task.published() if baselines else ""
    with (
        distributed.process_group(task.device),
        RunLog(folder) as log,
        ThreadWaiting(task.device, log.info) as waiting,
        backends(task.cfg, task.device, training=False),
    ):
        if checkpoint is None:
            assert oracle is not None
            model = task.oracle(oracle)
        else:
            model = load_model(task, checkpoint, log.info)
            workers = loader_workers(task.cfg.LOADER.WORKERS)
            computing = describe_computing(task.cfg, task.device, task.cfg.TEST.PRECISION, training=False)
            log.info(f"{computing}; {workers} loader workers per process")
        what, results = str(checkpoint or model), []
        for test_set in task.test_sets(log.info, annotated=checkpoint is None):
            count, protocol = len(test_set.dataset), test_set.protocol
            log.info(f"testing {count:,} {task.unit} of {test_set.split}, protocol {protocol}")
            waiting.start()
            results.append(task.evaluate(model, test_set, waiting.lap, log.info))
            log.metrics(0, test={protocol: results[-1].stats})
            if distributed.is_main():
                page = _report_path(results[-1].write(folder))
                if report and task.write_report(page, what, results[-1], model):
                    log.info(f"report: {page}")
        if distributed.is_main():
            write_json(folder / "metrics.json", [result.row() for result in results])
        log.info(f"\n{what}\n{task.table(results)}\n")
        if published:
            log.info(f"published, not reproduced here\n{published}\n")
        log.info(f"results, metrics.json and pictures are in {folder}")
    return results


def load_model(task: Task, checkpoint: Path, info: Info) -> nn.Module:
    """The network of a checkpoint; who predicts with it puts it into evaluation mode.

    Raises CheckpointError for one that is not the task's.
    """
    content = load_checkpoint(checkpoint)
    task.spec().check(content, checkpoint)
    check_device(task.cfg, task.device)
    model = task.build_model()
    info(load_weights(model, content["model"], checkpoint))
    return model


def run_results(cfg: CfgNode, path: Path, report: bool = False, baselines: bool = False) -> Evaluation:
    """The scores of a result file, without a network, on DATASET.TEST_ANNOTATIONS; with `report` a page beside it.

    Protocol, flip and persons are those of the evaluation file beside it; without one they are "not stated".
    """
    skeleton = build_skeleton(cfg)
    if baselines:
        check_coco(skeleton, "the table of published results (--baselines)")
    if cfg.DATASET.FORMAT == "mpii":
        raise ConfigError(
            "--results scores a COCO keypoint result file, not with DATASET.FORMAT 'mpii'; give --checkpoint"
        )
    scored = read_result_file(path, read_split(cfg, "TEST", skeleton), skeleton)
    stats = keypoint_ap(scored.annotations.content, scored.results, np.array(skeleton.sigmas))
    if cfg.DATASET.FORMAT == "lsp":
        stats = add_pck(stats, scored.annotations.content, scored.results, skeleton, print)
    evaluation = described(scored, stats)
    print(f"{path}\n{format_table([evaluation])}")
    if baselines:
        print(f"\npublished, not reproduced here\n{baseline_table()}")
    if report:
        page, grid = _report_path(path), build_codec(cfg).grid
        write_report(page, cfg, str(path), evaluation, scored.results, scored.annotations, skeleton, grid, None)
        print(f"\nreport: {page}")
    return evaluation


def check_coco(skeleton: Skeleton, what: str) -> None:
    if skeleton.names != COCO.names:
        raise ConfigError(f"{what} is of COCO's keypoints, not of the skeleton {skeleton.name}'s; leave it out")


def baseline_table() -> str:
    """The published rows of both protocols."""
    names, rows = published_rows()
    return format_table(rows, names)


def _report_path(results: Path) -> Path:
    """The page beside a result file."""
    return results.with_name(results.name.removesuffix(RESULTS).removesuffix(".json") + "_report.html")
