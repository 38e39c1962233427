"""Targets and decoded keypoints against the published implementations, on stored arrays."""

from pathlib import Path

import numpy as np
import pytest
import torch

from psa_pose.codecs import CODECS, make_codec

FOLDER = Path(__file__).parents[1] / "golden"
TARGETS = dict(np.load(FOLDER / "targets.npz"))
DECODE = dict(np.load(FOLDER / "decode.npz"))
OFFSET = dict(np.load(FOLDER / "decode_offset.npz"))
SIZES = {"192x256": ((192, 256), (48, 64)), "288x384": ((288, 384), (72, 96))}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CODECS)
def test_targets(name, size):
    codec = make_codec(name, *SIZES[size])
    want, want_weights = TARGETS[f"{size}/{name}_target"], TARGETS[f"{size}/{name}_weight"]
    kept = len(want_weights)  # of one person's joints
    joints = torch.from_numpy(TARGETS[f"{size}/joints_xy"])[None, :kept]
    targets, weights = codec.encode(joints, torch.from_numpy(TARGETS[f"{size}/visible"])[None, :kept])
    np.testing.assert_allclose(targets[0].numpy(), want.reshape(targets.shape[1:]), atol=1e-5, rtol=0)
    np.testing.assert_array_equal(weights[0].numpy(), want_weights)


@pytest.mark.parametrize(
    ("name", "key"),
    [("standard", "standard_xy"), ("dark", "dark_xy_blur11"), ("udp_gaussian", "udp_gaussian_xy_blur11")],
)
def test_decoded_gaussians(name, key):
    """The first two maps, all negative and all zero, have no published answer."""
    codec = make_codec(name, (192, 256), (48, 64))
    joints, scores = codec.decode(torch.from_numpy(DECODE["heatmaps"])[None])
    heatmap_xy = joints[0].numpy() / np.array(codec.stride)
    np.testing.assert_allclose(heatmap_xy[2:], DECODE[key][2:], atol=1e-3, rtol=0)
    np.testing.assert_allclose(scores[0].numpy(), DECODE["score"], atol=1e-6, rtol=0)
    np.testing.assert_array_equal(heatmap_xy[:2], 0)
    assert (scores[0, :2] <= 0).all()


def test_decoded_offsets():
    codec = make_codec("udp_offset", (192, 256), (48, 64))
    joints, scores = codec.decode(torch.from_numpy(OFFSET["maps"])[None])
    np.testing.assert_allclose(joints[0].numpy() / np.array(codec.stride), OFFSET["xy"], atol=1e-3, rtol=0)
    np.testing.assert_allclose(scores[0].numpy(), OFFSET["score"], atol=1e-5, rtol=0)
