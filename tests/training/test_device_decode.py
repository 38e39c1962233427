"""Whole runs with LOADER.DEVICE_DECODE; on a CPU, where torchvision decodes with libjpeg."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from psa_pose.device import prefetch
from psa_pose.errors import DataError
from tests.runs import run_test, run_train

REPOSITORY = Path(__file__).parents[2]


def losses(folder: Path) -> np.ndarray:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return np.array([line["train"]["loss"] for line in lines if "train" in line])


def records(folder: Path) -> str:
    return (folder / "records.0.jsonl").read_text()


def keypoints(folder: Path) -> np.ndarray:
    (file,) = (folder / "test").glob("*_results.json")
    return np.array([entry["keypoints"] for entry in json.loads(file.read_text())]).reshape(-1, 17, 3)


def test_training_takes_the_same_persons_to_nearly_the_same_losses(tiny_config, tmp_path):
    words = ["TRAIN.LOG_RECORDS", True, "LOADER.WORKERS", 1]
    off = run_train(tiny_config(*words, "OUTPUT_DIR", tmp_path / "off"))
    on = tiny_config(*words, "OUTPUT_DIR", tmp_path / "on", "LOADER.DEVICE_DECODE", True)
    run_train(on)
    assert records(tmp_path / "on") == records(off)
    assert len(losses(off)) == 8
    # A step makes a small difference larger: 1e-6 in the first, 2e-3 in the eighth.
    # OpenCV 4 interpolates on a grid of 1/32 pixel.
    first = 1e-5 if cv2.__version__ >= "5" else 1e-3
    assert np.allclose(losses(tmp_path / "on")[:1], losses(off)[:1], rtol=first, atol=0)
    assert np.allclose(losses(tmp_path / "on"), losses(off), rtol=0.02, atol=0)


def test_a_network_that_has_learned_something_finds_the_same_keypoints(tiny_config, tmp_path):
    """Trained and tested on the same few persons: where maps are nearly flat, any grey level moves their peak."""
    words = ["TRAIN.EPOCHS", 12, "TRAIN.EVAL_EVERY", 12, "TRAIN.SCHEDULE.WARMUP_STEPS", 0, "AUGMENT.FLIP_PROB", 0.0]
    words += ["AUGMENT.SCALE", 0.0, "AUGMENT.ROTATION_PROB", 0.0, "TRAIN.SCHEDULE.MILESTONES", [12]]
    words += ["DATASET.TEST_ANNOTATIONS", "annotations/person_keypoints_train2017.json"]
    words += ["DATASET.TEST_IMAGES", "train2017", "TEST.BOXES", "ground_truth"]
    off = tiny_config(*words, "OUTPUT_DIR", tmp_path / "off")
    on = tiny_config(*words, "OUTPUT_DIR", tmp_path / "on", "LOADER.DEVICE_DECODE", True, "LOADER.WORKERS", 2)
    checkpoint = run_train(off) / "last.pt"
    run_test(off, checkpoint)
    run_test(on, checkpoint)
    one, other = keypoints(tmp_path / "off"), keypoints(tmp_path / "on")
    assert one.shape == other.shape == (25, 17, 3)
    assert one[..., 2].mean() > 0.05
    assert np.abs(one - other)[..., :2].max() < 0.05


def test_a_truncated_image_ends_the_run_or_is_skipped_as_on_the_cpu_path(tiny_config, people, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(people, root)
    victim = sorted((root / "train2017").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:700])
    words = ["DATASET.ROOT", root, "LOADER.DEVICE_DECODE", True, "TRAIN.EPOCHS", 1]
    with pytest.raises(DataError, match=rf"{victim.name} is truncated.*ON_ERROR skip"):
        run_train(tiny_config(*words))
    folder = run_train(tiny_config(*words, "DATASET.ON_ERROR", "skip"), overwrite=True)
    assert f"{victim.name} is truncated" in (folder / "log.txt").read_text()


class Stream:
    """In the place of a GPU's queue, where there is none: notes when the current one waits for the other."""

    def __init__(self, events):
        self.events = events

    def record_event(self):
        return sum(event.startswith("prepare") for event in self.events)

    def wait_event(self, event):
        self.events.append(f"wait for {event}")


def test_a_gpus_next_batch_is_prepared_before_this_one_is_handed_over(monkeypatch):
    """The order of calls alone; no GPU takes part."""
    events: list[str] = []
    queue = Stream(events)
    for name, answer in (("Stream", queue), ("stream", nullcontext()), ("current_stream", queue)):
        monkeypatch.setattr(torch.cuda, name, lambda _, answer=answer: answer)

    def prepare(batch):
        events.append(f"prepare {batch}")
        return (torch.tensor(batch),)

    for (batch,) in prefetch([1, 2, 3], prepare, torch.device("cuda", 0)):
        events.append(f"take {batch}")
    # Batch 2 is ready or on its way while 1 is worked on, and nobody takes a batch that was not waited for.
    assert events == [
        *("prepare 1", "wait for 1", "prepare 2", "take 1"),
        *("wait for 2", "prepare 3", "take 2", "wait for 3", "take 3"),
    ]
    assert list(prefetch([1, 2], prepare, torch.device("cpu"))) == [(1,), (2,)]
