import json
from pathlib import Path

import numpy as np
import pytest

from psa_pose.config import load_config
from psa_pose.segmentation.data.synthetic import generate

SHARED = Path(__file__).parents[2].parent / "shared/golden/segmentation"


@pytest.fixture(scope="session")
def segmentation_golden():
    """A function: file name -> its arrays or JSON, for those who have the golden data beside the repository."""

    def read(name: str):
        path = SHARED / name
        if not path.is_file():
            pytest.skip(f"no golden data in {SHARED}")
        return json.loads(path.read_text()) if path.suffix == ".json" else np.load(path)

    return read


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """A small synthetic data set of segmentation."""
    root = tmp_path_factory.mktemp("scenes") / "data"
    generate(root, {"train": 12, "val": 5}, seed=1, image_size=(96, 80), workers=1, progress=False)
    return root


@pytest.fixture
def scene_config(scenes, tmp_path):
    """A function: overrides -> frozen config of a very small segmentation run on `scenes`."""

    def make(*overrides: object):
        base = [
            *("DATASET.ROOT", scenes, "OUTPUT_DIR", tmp_path / "run", "INPUT.CROP_SIZE", [64, 64]),
            *("MODEL.WIDTH", 8, "MODEL.HEAD_CHANNELS", 8, "TRAIN.EPOCHS", 2, "TRAIN.BATCH_SIZE", 4),
            *("TRAIN.LOG_EVERY", 1, "TEST.BATCH_SIZE", 2, "LOADER.WORKERS", 0, "DEVICE", "cpu"),
            *("MODEL.CHANNELS_LAST", False, "LOSS.CLASS_WEIGHTS", [1.0], "TRAIN.EMA", 0.0),
        ]
        return load_config("synthetic/segmentation", [str(word) for word in [*base, *overrides]])

    return make
