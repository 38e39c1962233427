"""A trial of every row on three synthetic people: its real network and input, one training step, one test per boxes."""

from __future__ import annotations

from pathlib import Path

from psa_pose.synthetic.dataset import generate

# No file to download, and a batch of two: BatchNorm needs more than one person.
SMOKE_KEYS = (
    *("MODEL.PRETRAINED", "", "TRAIN.EPOCHS", "1", "TRAIN.BATCH_SIZE", "2", "TEST.BATCH_SIZE", "2"),
    *("TEST.FLIP", "false", "LOADER.WORKERS", "0", "TRAIN.LOG_EVERY", "1"),
    *("DATASET.TEST_DETECTIONS", "person_detection_results/val2017_person_detections.json"),
)


def smoke_data(folder: Path) -> Path:
    """Two people to train on and one to test on, each in a picture, with a detector's boxes; DATASET.ROOT."""
    generate(folder, {"train2017": 2, "val2017": 1}, people=(1, 1), workers=1, progress=False)
    return folder
