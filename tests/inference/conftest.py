from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from psa_pose.checkpoints import checkpoint_content, save_checkpoint
from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.inference.estimator import PoseEstimator
from psa_pose.models import build_model

FRAMES, BROKEN = 12, 5


@pytest.fixture
def saved(tiny_config, tmp_path):
    """A function: overrides -> config and checkpoint of an untrained network."""

    def make(*overrides: object):
        cfg = tiny_config(*overrides)
        torch.manual_seed(0)
        model = build_model(cfg)
        # Untrained maps are almost flat: made steep, their peaks and order are the same however they are batched.
        torch.nn.init.normal_([m for m in model.modules() if isinstance(m, torch.nn.Conv2d)][-1].weight, std=1e6)
        save_checkpoint(tmp_path / "c.pt", checkpoint_content(cfg, ModelSpec.of_config(cfg), model, None, 1, -1.0))
        return cfg, tmp_path / "c.pt"

    return make


@pytest.fixture
def checkpoint(saved) -> Path:
    return saved()[1]


@pytest.fixture
def estimator(checkpoint) -> PoseEstimator:
    return PoseEstimator.from_checkpoint(checkpoint, "cpu", flip=False)


@pytest.fixture
def video(tmp_path) -> Path:
    """Frames whose brightness is their number times 20."""
    path = tmp_path / "short.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for number in range(FRAMES):
        writer.write(np.full((64, 96, 3), number * 20, np.uint8))
    writer.release()
    return path


@pytest.fixture
def spoiled(video) -> Path:
    """The video, with one frame's JPEG overwritten with zeros."""
    data = bytearray(video.read_bytes())
    starts = [i for i in range(len(data)) if data[i : i + 3] == b"\xff\xd8\xff"]
    end = data.index(b"\xff\xd9", starts[BROKEN]) + 2
    data[starts[BROKEN] : end] = bytes(end - starts[BROKEN])
    video.write_bytes(data)
    return video
