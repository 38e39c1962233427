"""HRNet's inference protocols: its network's predictions summed as its code does."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from psa_pose.segmentation.inference.protocols import flipped, multi_scale_scores
from tests.segmentation.published import build, image, load

MODEL = "seg_hrnet_ocr_w48"
MANY = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


@cache
def network() -> nn.Module:
    return load(build(MODEL), MODEL).eval()


@pytest.mark.parametrize(
    ("name", "scales", "flip"),
    [
        ("single", (1.0,), False),
        ("flip", (1.0,), True),
        pytest.param("ms", MANY, False, marks=pytest.mark.slow),
        pytest.param("ms_flip", MANY, True, marks=pytest.mark.slow),
    ],
)
def test_predictions_sum_up_to_the_published_ones(segmentation_golden, name, scales, flip):
    wanted = segmentation_golden("inference_protocol.npz")[f"{MODEL}/{name}"]
    run = flipped(network()) if flip else network()
    images = image("protocol/image", (1, 3, 64, 96))
    with torch.no_grad():
        scores = multi_scale_scores(run, images, scales, 96, (96, 64), join="exp", align_corners=True)
    np.testing.assert_allclose(scores[:, :, ::4, ::4], wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
