from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from psa_pose.errors import ConfigError
from psa_pose.segmentation.inference.protocols import (
    crop_for_validation,
    flipped,
    multi_scale_scores,
    padded,
    sliding_scores,
    window_starts,
)

GOLDEN = np.load(Path(__file__).parents[1] / "golden/segmentation/crop_validation.npz")


@pytest.mark.parametrize("case", range(4))
def test_the_crop_protocol_equals_the_published_one(case):
    image, label = crop_for_validation(GOLDEN[f"{case}/image"], GOLDEN[f"{case}/label"], 57)
    np.testing.assert_array_equal(label, GOLDEN[f"{case}/network_label"])
    normalised = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(normalised.transpose(2, 0, 1), GOLDEN[f"{case}/network_input"], atol=1e-6)


def pointwise(images):
    """Logits that depend on a pixel alone: 4 classes."""
    weights = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, -0.5, 0.2]], dtype=images.dtype)
    return torch.einsum("kc,bchw->bkhw", weights, images)


def lopsided(images):
    """Logits that depend on the column as well."""
    return pointwise(images) + torch.linspace(0, 1, images.shape[3], dtype=images.dtype)


@pytest.fixture
def images():
    return torch.randn(2, 3, 20, 31, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("join", ["probabilities", "logits", "exp"])
@pytest.mark.parametrize("step", [(5, 5), (8, 9), (3, 7)])
def test_windows_answer_like_the_whole_image_where_a_pixel_stands_alone(images, join, step):
    whole = multi_scale_scores(pointwise, images, join=join)
    torch.testing.assert_close(sliding_scores(pointwise, images, (8, 9), step, join), whole)
    torch.testing.assert_close(sliding_scores(pointwise, images, (99, 99), step, join), whole)


def test_overlapping_windows_are_averaged(images):
    scores = sliding_scores(lopsided, images, (20, 20), (11, 20), "logits")
    left, right = lopsided(images[..., :20]), lopsided(images[..., 11:])
    torch.testing.assert_close(scores[..., :11], left[..., :11])
    torch.testing.assert_close(scores[..., 11:20], (left[..., 11:] + right[..., :9]) / 2)
    torch.testing.assert_close(scores[..., 20:], right[..., 9:])


@pytest.mark.parametrize(
    ("length", "window", "step", "starts"),
    [(10, 4, 4, [0, 4, 6]), (8, 4, 4, [0, 4]), (4, 4, 4, [0]), (3, 4, 4, [0]), (9, 4, 2, [0, 2, 4, 5])],
)
def test_windows_cover_a_side_and_end_flush(length, window, step, starts):
    assert window_starts(length, window, step) == starts


def test_flip_averages_logits_of_both_views(images):
    scores = flipped(lopsided)(images)
    torch.testing.assert_close(scores, pointwise(images) + 0.5)
    torch.testing.assert_close(scores.flip(3), flipped(lopsided)(images.flip(3)))


def test_padding_is_cut_off(images):
    seen = []

    def network(padded_images):
        seen.append(padded_images.shape[2:])
        return pointwise(padded_images)

    torch.testing.assert_close(padded(network, 8)(images), pointwise(images))
    assert seen == [(24, 32)]


def test_scales_are_resized_as_opencv_does_and_summed(images):
    images = images.float()
    scores = multi_scale_scores(pointwise, images, (0.5, 1.0, 1.5), base_size=40, join="exp", align_corners=True)
    expected = torch.zeros(2, 4, 20, 31)
    for scale in (0.5, 1.0, 1.5):
        width = int(40 * scale + 0.5)
        height = int(20 * width / 31 + 0.5)
        small = np.stack([cv2.resize(i.numpy().transpose(1, 2, 0), (width, height)).transpose(2, 0, 1) for i in images])
        part = pointwise(torch.from_numpy(small)).exp()
        expected += torch.nn.functional.interpolate(part, (20, 31), mode="bilinear", align_corners=True)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


def test_windows_are_used_above_scale_one_only(images):
    widths = []

    def network(part):
        widths.append(part.shape[3])
        return pointwise(part)

    multi_scale_scores(network, images, (1.0, 2.0), window=(30, 40))
    assert widths == [31, 30, 30, 30]


def test_wrong_requests_are_named(images):
    with pytest.raises(ConfigError, match="'probabilities'"):
        multi_scale_scores(pointwise, images, join="probability")
    with pytest.raises(ConfigError, match="at least one scale"):
        multi_scale_scores(pointwise, images, ())
