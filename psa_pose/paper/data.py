"""The files that a table needs, looked at before hours are spent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from yacs.config import CfgNode

from psa_pose.config.skeleton import build_skeleton
from psa_pose.dataset_tools.check_files import check_annotation_file, check_detection_file
from psa_pose.errors import DataError
from psa_pose.paper.plan import Job


def check_data(cfg: CfgNode, train: bool, info: Callable[[str], object]) -> None:
    """Check annotations, images and detections; train: those of training too. Raises DataError for what spoils an AP.

    Without a detection file only one of the two protocols could be told: DATASET.TEST_DETECTIONS '' accepts that.
    """
    root, data, skeleton = Path(cfg.DATASET.ROOT).expanduser(), cfg.DATASET, build_skeleton(cfg)
    errors = []
    splits = [(data.TRAIN_ANNOTATIONS, data.TRAIN_IMAGES)] if train else []
    for persons, images in [*splits, (data.TEST_ANNOTATIONS, data.TEST_IMAGES)]:
        findings, counts = check_annotation_file(root / persons, root / images, skeleton)
        errors += [f"{root / persons}: {f.text}" for f in findings if f.level == "error"]
        info(f"{root / persons}: {', '.join(counts)}")
    if data.TEST_DETECTIONS:
        path = root / data.TEST_DETECTIONS
        findings, counts = check_detection_file(path, root / data.TEST_ANNOTATIONS)
        errors += [f"{path}: {f.text}" for f in findings if f.level == "error"]
        info(f"{path}: {', '.join(counts)}")
    if errors:
        more = f" (and {len(errors) - 1} more: tools/check_dataset.py lists them)" if errors[1:] else ""
        raise DataError(f"{errors[0]}{more}; mend the data, see data/README.md")


def missing_weights(jobs: Sequence[Job]) -> list[str]:
    """One line per file of MODEL.PRETRAINED that is not there: the rows that name it will fail."""
    waiting: dict[str, list[str]] = {}
    for job in jobs:
        path = job.cfg.MODEL.PRETRAINED
        if path and path != "imagenet" and not Path(path).exists():
            waiting.setdefault(path, []).append(job.name)
    return [
        f"missing: {path}, without which these rows will fail: {', '.join(names)}; data/README.md says where it is "
        "published, MODEL.PRETRAINED '' trains without"
        for path, names in waiting.items()
    ]
