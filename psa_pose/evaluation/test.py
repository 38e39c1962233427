"""`tools/test.py`: a checkpoint, an oracle or a result file on the test persons; or a file for COCO's test server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.checkpoints import load_checkpoint, load_weights
from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.codecs import Codec
from psa_pose.codecs.build import build_codec
from psa_pose.config.skeleton import build_skeleton
from psa_pose.data.build import TestSet, build_test_sets
from psa_pose.device import check_device, choose_device
from psa_pose.errors import ConfigError
from psa_pose.evaluation.compare import described
from psa_pose.evaluation.oracle import oracle_predictor
from psa_pose.evaluation.predict_set import EvalResult, evaluate
from psa_pose.evaluation.report import write_report
from psa_pose.evaluation.result import Evaluation, format_table, published_rows
from psa_pose.evaluation.result_files import RESULTS, read_result_file, write_result_file
from psa_pose.files import write_json
from psa_pose.metrics.coco_ap import keypoint_ap
from psa_pose.models import build_model
from psa_pose.predict import Normalization, Predictor, model_predictor
from psa_pose.run_log import RunLog
from psa_pose.skeleton import COCO, Skeleton
from psa_pose.visualization.draw import write_picture
from psa_pose.visualization.sheets import prediction_sheet


def run_test(
    cfg: CfgNode, checkpoint: Path | None, oracle: str | None = None, report: bool = False, baselines: bool = False
) -> list[Evaluation]:
    """Evaluate a checkpoint (or the oracle "keypoints" or "targets") under every box protocol that is there.

    Writes <OUTPUT_DIR>/test: per protocol a result file, its evaluation file and a picture, with `report` an HTML page
    too, but for MPII; metrics.json and the log. baselines: print the published rows of both protocols below.
    """
    device, skeleton = choose_device(cfg.DEVICE), build_skeleton(cfg)
    folder = Path(cfg.OUTPUT_DIR) / "test"
    if baselines:
        _check_coco(skeleton, "the table of published results (--baselines)")
    with distributed.process_group(device), RunLog(folder) as log:
        codec = build_codec(cfg)
        flip = cfg.TEST.FLIP and not oracle
        if oracle:
            predictor = oracle_predictor(codec, oracle)
        else:
            assert checkpoint is not None
            predictor = checkpoint_predictor(cfg, skeleton, checkpoint, codec, device, log)
        what = f"oracle: {oracle}, codec {codec.name}" if oracle else str(checkpoint)
        evaluations = []
        # A detector's box has no truth to answer with.
        boxes = "ground_truth" if oracle else cfg.TEST.BOXES
        for test_set in build_test_sets(cfg, skeleton, codec.grid, log.info, boxes):
            log.info(f"testing {len(test_set.dataset):,} persons of {test_set.split}, {test_set.protocol} boxes")
            outcome = evaluate(cfg, test_set, predictor, skeleton, flip, log.info)
            evaluations.append(outcome.evaluation)
            log.metrics(0, test={test_set.protocol: outcome.evaluation.stats})
            if distributed.is_main():
                path = write_outcome(folder, outcome, test_set, skeleton, cfg.TEST.KEYPOINT_SCORE)
                if report and test_set.heads is None:
                    page, (e, results) = report_path(path), (outcome.evaluation, outcome.results)
                    write_report(page, cfg, what, e, results, test_set.annotations, skeleton, codec.grid, predictor)
                    log.info(f"report: {page}")
        if distributed.is_main():
            write_json(folder / "metrics.json", [evaluation.as_dict() for evaluation in evaluations])
        log.info(f"\n{what}\n{format_table(evaluations)}\n")
        if baselines:
            log.info(f"published, not reproduced here\n{baseline_table()}\n")
        log.info(f"results, metrics.json and pictures are in {folder}")
    return evaluations


def run_results(cfg: CfgNode, path: Path, report: bool = False, baselines: bool = False) -> Evaluation:
    """Evaluate a result file, without a network, on DATASET.TEST_ANNOTATIONS; with `report` write a page beside it.

    Protocol, flip and persons are those of the evaluation file beside it; without one they are "not stated".
    """
    annotations, skeleton = Path(cfg.DATASET.ROOT).expanduser() / cfg.DATASET.TEST_ANNOTATIONS, build_skeleton(cfg)
    if baselines:
        _check_coco(skeleton, "the table of published results (--baselines)")
    if cfg.DATASET.FORMAT != "coco":
        raise ConfigError(
            "--results scores a COCO keypoint result file, not with DATASET.FORMAT 'mpii'; give --checkpoint"
        )
    scored = read_result_file(path, annotations, skeleton)
    stats = keypoint_ap(scored.annotations.content, scored.results, np.array(skeleton.sigmas))
    evaluation = described(scored, stats)
    print(f"{path}\n{format_table([evaluation])}")
    if baselines:
        print(f"\npublished, not reproduced here\n{baseline_table()}")
    if report:
        page, grid = report_path(path), build_codec(cfg).grid
        write_report(page, cfg, str(path), evaluation, scored.results, scored.annotations, skeleton, grid, None)
        print(f"\nreport: {page}")
    return evaluation


def checkpoint_predictor(
    cfg: CfgNode, skeleton: Skeleton, checkpoint: Path, codec: Codec, device: torch.device, log: RunLog
) -> Predictor:
    """The network of a checkpoint, ready to predict as the config's TEST section says."""
    content = load_checkpoint(checkpoint)
    ModelSpec.of_config(cfg).check(content, checkpoint)
    check_device(cfg, device)
    model = build_model(cfg)
    log.info(load_weights(model, content["model"], checkpoint))
    normalization = Normalization.of(cfg.INPUT.MEAN, cfg.INPUT.STD, device, cfg.MODEL.CHANNELS_LAST)
    return model_predictor(model.to(device), codec, normalization, skeleton, cfg.TEST.FLIP, cfg.TEST.PRECISION)


def _check_coco(skeleton: Skeleton, what: str) -> None:
    if skeleton.names != COCO.names:
        raise ConfigError(f"{what} is of COCO's keypoints, not of the skeleton {skeleton.name}'s; leave it out")


def baseline_table() -> str:
    """The published rows of both protocols."""
    names, rows = published_rows()
    return format_table(rows, names)


def report_path(results: Path) -> Path:
    """The page beside a result file."""
    return results.with_name(results.name.removesuffix(RESULTS).removesuffix(".json") + "_report.html")


def write_outcome(folder: Path, outcome: EvalResult, test_set: TestSet, skeleton: Skeleton, threshold: float) -> Path:
    """The result file, the evaluation file and the picture of one protocol; the answer is the result file's path."""
    path = write_result_file(folder, outcome.evaluation, outcome.results, test_set.annotations.path, skeleton)
    if outcome.crops:
        name = f"{outcome.evaluation.split}_{outcome.evaluation.protocol}"
        write_picture(folder / f"predictions_{name}.png", prediction_sheet(outcome.crops, skeleton, threshold))
    return path
