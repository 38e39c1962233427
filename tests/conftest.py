import gc
import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from psa_pose.config import load_config
from psa_pose.synthetic.dataset import generate

REPOSITORY = Path(__file__).parents[1]

# The same cases in every run, so that a change fails by itself alone; a search for new ones says so with FUZZ_CASES.
settings.register_profile("same_cases", derandomize="FUZZ_CASES" not in os.environ)
settings.load_profile("same_cases")


def pytest_configure():
    # A test session keeps a million objects, and a look through them all for garbage takes half a second.
    gc.set_threshold(20_000, 10, 10)
    # Autograd's first pass starts a thread for each kind of device that is known, and torch.compile makes more known;
    # with such threads a process cannot be forked, see tests/processes.py.
    torch.zeros(1, requires_grad=True).sum().backward()


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> Path:
    """A small synthetic data set in COCO's layout."""
    root = tmp_path_factory.mktemp("synthetic") / "data"
    generate(root, {"train2017": 14, "val2017": 8}, seed=1, image_size=(192, 160), workers=1, progress=False)
    return root


@pytest.fixture(scope="session")
def coco_mini() -> Path:
    """A few real COCO photographs beside the repository, for those who have them."""
    root = Path(os.environ.get("COCO_MINI", REPOSITORY.parent / "shared/data/coco_mini"))
    if not root.is_dir():
        pytest.skip(f"no COCO photographs in {root}; set COCO_MINI to a folder in COCO's layout")
    return root


@pytest.fixture
def tiny_config(people, tmp_path):
    """A function: overrides -> frozen config of a very small run on `people`."""

    def make(*overrides: object):
        base = [
            *("DATASET.ROOT", people),
            *("DATASET.TEST_DETECTIONS", "person_detection_results/val2017_person_detections.json"),
            *("OUTPUT_DIR", tmp_path / "run"),
            *("INPUT.SIZE", [64, 64]),
            *("MODEL.WIDTH", 8, "MODEL.HEAD_CHANNELS", 16, "CODEC.SIGMA", 0),
            *("TRAIN.EPOCHS", 2, "TRAIN.BATCH_SIZE", 8, "TRAIN.LOG_EVERY", 2),
            *("LOADER.WORKERS", 0, "DEVICE", "cpu"),
        ]
        words = [str(word) for word in [*base, *overrides]]
        return load_config(REPOSITORY / "configs/synthetic/quickstart.yaml", words)

    return make


@pytest.fixture(autouse=True)
def _one_seed_one_thread():
    """The same figures in every run; and on a shared machine two threads wait for each other longer than they work."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
