"""`tools/check_dataset.py`: every file that a config trains and evaluates on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from yacs.config import CfgNode

from psa_pose.data.preflight import Finding, check_annotation_file, check_detection_file
from psa_pose.skeleton import COCO


def run_check(cfg: CfgNode, say: Callable[[str], None] = print) -> int:
    """Print what is found in each file; the answer is the number of errors. Raises DataError for unreadable files."""
    root, data = Path(cfg.DATASET.ROOT).expanduser(), cfg.DATASET
    errors = 0
    for persons, images in (
        (data.TRAIN_ANNOTATIONS, data.TRAIN_IMAGES),
        (data.TEST_ANNOTATIONS, data.TEST_IMAGES),
    ):
        errors += _tell(root / persons, *check_annotation_file(root / persons, root / images, COCO), say)
    if data.TEST_DETECTIONS:
        path = root / data.TEST_DETECTIONS
        errors += _tell(path, *check_detection_file(path, root / data.TEST_ANNOTATIONS), say)
    say("no errors" if not errors else f"{errors} errors: mend them before you train")
    return errors


def _tell(path: Path, findings: list[Finding], counts: list[str], say: Callable[[str], None]) -> int:
    say(f"{path}")
    for line in counts:
        say(f"  {line}")
    for finding in sorted(findings, key=lambda f: f.level):
        say(f"  {finding.level}: {finding.text}")
    return sum(finding.level == "error" for finding in findings)
