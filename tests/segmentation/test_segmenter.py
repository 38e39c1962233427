"""Pictures in, labels out: the same from `Segmenter`, the tool and a test."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import psa_pose
from psa_pose.checkpoints import checkpoint_content, save_checkpoint
from psa_pose.errors import CheckpointError, ConfigError
from psa_pose.evaluation.test import run_test
from psa_pose.segmentation.data.label_files import read_indices
from psa_pose.tasks import build_task
from tests.commands import run_here
from tests.segmentation.test_task import HMSA, REPOSITORY


def save(cfg, path):
    """A checkpoint of a network that answers otherwise from pixel to pixel: its norms have seen images."""
    task = build_task(cfg)
    model = task.build_model()
    images = torch.randn(4, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 0.9
    with torch.no_grad():
        for _ in range(3):
            model.train()(images)
        final = [c for c in convolutions if c.out_channels == len(task.classes) and c.bias is not None][-1]
        final.bias -= model.eval()(images).mean((0, 2, 3))
    save_checkpoint(path, checkpoint_content(cfg, task.spec(), model))
    return path


@pytest.fixture
def checkpoint(scene_config, tmp_path):
    return save(scene_config(), tmp_path / "network.pt")


def test_segmenter_and_tools_answer_what_a_test_answers(checkpoint, scene_config, scenes, tmp_path):
    cfg = scene_config("OUTPUT_DIR", tmp_path / "run")
    run_test(build_task(cfg), checkpoint)
    segmenter = psa_pose.Segmenter.from_checkpoint(checkpoint, "cpu")
    assert segmenter.protocol == "full"
    out, pictures = tmp_path / "out", scenes / "images/val"
    done = run_here(
        REPOSITORY / "tools/infer.py", pictures, "--checkpoint", checkpoint, "--out", out, "--no-flip",
        "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for picture in sorted(pictures.iterdir()):
        mask = read_indices(tmp_path / f"run/test/masks_val_full/{picture.stem}.png")
        assert len(np.unique(mask)) > 1
        # A test stacks pictures of a size: a tie may fall otherwise.
        assert (segmenter(picture) != mask).mean() < 1e-3
        np.testing.assert_array_equal(read_indices(out / f"{picture.stem}_labels.png"), segmenter(picture))
        assert cv2.imread(str(out / f"{picture.stem}_blend.jpg")).shape[:2] == mask.shape


def test_what_does_not_fit_is_refused(checkpoint):
    with pytest.raises(CheckpointError, match=r"give it to psa_pose\.Segmenter"):
        psa_pose.PoseEstimator.from_checkpoint(checkpoint)
    with pytest.raises(ConfigError, match="leaves out the rim"):
        psa_pose.Segmenter.from_checkpoint(checkpoint, "cpu", "crop")
    with pytest.raises(ConfigError, match="did you mean 'full'"):
        psa_pose.Segmenter.from_checkpoint(checkpoint, "cpu", "fulll")
    with pytest.raises(ConfigError, match="'bf61' is no precision; did you mean 'bf16'"):
        psa_pose.Segmenter.from_checkpoint(checkpoint, "cpu", precision="bf61")
    with pytest.raises(ConfigError, match="cannot be used on a cpu"):
        psa_pose.Segmenter.from_checkpoint(checkpoint, "cpu", precision="fp16")


@pytest.mark.parametrize("protocol", ["flip", "hmsa"])
def test_the_tool_mirrors_pictures_or_joins_scales(scene_config, scenes, tmp_path, protocol):
    words = HMSA if protocol == "hmsa" else ["TEST.PROTOCOLS", ["ms_flip"]]
    checkpoint = save(scene_config(*words), tmp_path / "network.pt")
    picture, out = scenes / "images/val/000001.jpg", tmp_path / "out"
    done = run_here(REPOSITORY / "tools/infer.py", picture, "--checkpoint", checkpoint, "--out", out, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    found = read_indices(out / "000001_labels.png")
    np.testing.assert_array_equal(found, psa_pose.Segmenter.from_checkpoint(checkpoint, "cpu", protocol)(picture))
    assert (found != psa_pose.Segmenter.from_checkpoint(checkpoint, "cpu", "full")(picture)).any()
