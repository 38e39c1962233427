"""`tools/test.py`: a checkpoint, or an oracle, on the test persons: table, result files and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.checkpoints import load_checkpoint, load_weights, write_whole
from psa_pose.codecs.build import build_codec
from psa_pose.data.build import build_test_sets
from psa_pose.engine.evaluate import Outcome, evaluate, model_predictor, oracle_predictor
from psa_pose.engine.log import RunLog
from psa_pose.errors import CheckpointError
from psa_pose.evaluation.report import Evaluation, format_table
from psa_pose.models import build_model
from psa_pose.predict import Normalization
from psa_pose.skeleton import COCO
from psa_pose.visualization.draw import write_picture
from psa_pose.visualization.sheets import prediction_sheet


def run_test(cfg: CfgNode, checkpoint: Path | None, oracle: str | None = None) -> list[Evaluation]:
    """Evaluate a checkpoint (or the oracle "keypoints" or "targets") under every box protocol that is there.

    Writes <OUTPUT_DIR>/test: one COCO result file and one picture per protocol, metrics.json and the log.
    """
    device = distributed.choose_device(cfg.DEVICE)
    folder = Path(cfg.OUTPUT_DIR) / "test"
    with distributed.process_group(device), RunLog(folder) as log:
        codec = build_codec(cfg)
        if oracle:
            predictor, flip = oracle_predictor(codec, oracle), False
        else:
            assert checkpoint is not None
            content = load_checkpoint(checkpoint)
            check_same_input(cfg, content, checkpoint)
            model = build_model(cfg)
            log.say(load_weights(model, content["model"], checkpoint))
            normalization = Normalization.of(cfg.INPUT.MEAN, cfg.INPUT.STD, device, cfg.MODEL.CHANNELS_LAST)
            flip = cfg.TEST.FLIP
            predictor = model_predictor(model.to(device), codec, normalization, COCO, flip)
        evaluations = []
        # A detector's box has no truth to answer with.
        boxes = "ground_truth" if oracle else cfg.TEST.BOXES
        for test_set in build_test_sets(cfg, COCO, codec.grid, log.say, boxes):
            log.say(f"testing {len(test_set.dataset):,} persons of {test_set.split}, {test_set.protocol} boxes")
            outcome = evaluate(cfg, test_set, predictor, COCO, flip, log.say)
            evaluations.append(outcome.evaluation)
            log.metrics(0, test={test_set.protocol: outcome.evaluation.stats})
            if distributed.is_main():
                write_outcome(folder, outcome, cfg.TEST.KEYPOINT_SCORE)
        if distributed.is_main():
            write_json(folder / "metrics.json", [evaluation.as_dict() for evaluation in evaluations])
        what = f"oracle: {oracle}, codec {codec.name}" if oracle else str(checkpoint)
        log.say(f"\n{what}\n{format_table(evaluations)}\n")
        log.say(f"results, metrics.json and pictures are in {folder}")
    return evaluations


def check_same_input(cfg: CfgNode, content: dict[str, Any], source: Path) -> None:
    """What the network was trained to see must be what it is shown: raise CheckpointError where they differ."""
    for key, trained in content["input"].items():
        asked = list(cfg.INPUT[key]) if isinstance(cfg.INPUT[key], tuple) else cfg.INPUT[key]
        if trained != asked:
            raise CheckpointError(
                f"checkpoint {source} was trained with INPUT.{key} {trained}, but the config says {asked}; "
                f"write INPUT.{key} {trained}"
            )
    if content["skeleton"]["names"] != list(COCO.names):
        raise CheckpointError(
            f"checkpoint {source} was trained on other keypoints than {COCO.name}'s; use its own config"
        )


def write_outcome(folder: Path, outcome: Outcome, threshold: float) -> None:
    """The COCO result file and the picture of one protocol."""
    name = f"{outcome.evaluation.split}_{outcome.evaluation.protocol}"
    write_json(folder / f"keypoints_{name}_results.json", outcome.results)
    if outcome.crops:
        write_picture(folder / f"predictions_{name}.png", prediction_sheet(outcome.crops, COCO, threshold))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_whole(path, lambda file: file.write(json.dumps(content).encode()))
