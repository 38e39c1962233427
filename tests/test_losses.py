"""Losses against the published ones on stored arrays."""

from pathlib import Path

import numpy as np
import pytest
import torch

from psa_pose.losses import heatmap_mse, heatmap_mse_ohkm, supervised, udp_offset_loss

FOLDER = Path(__file__).parent / "golden"
GOLDEN = {k: torch.from_numpy(np.array(v)) for k, v in np.load(FOLDER / "losses.npz").items()}
OFFSET = {k: torch.from_numpy(np.array(v)) for k, v in np.load(FOLDER / "losses_offset.npz").items()}


def test_heatmap_mse():
    got = heatmap_mse(GOLDEN["maps"], GOLDEN["targets"], GOLDEN["weights"])
    torch.testing.assert_close(got, GOLDEN["heatmap_mse"], atol=1e-6, rtol=0)


def test_heatmap_mse_ohkm():
    got = heatmap_mse_ohkm(GOLDEN["maps"], GOLDEN["targets"], GOLDEN["weights"])
    torch.testing.assert_close(got, GOLDEN["heatmap_mse_ohkm8"], atol=1e-6, rtol=0)


def test_ohkm_with_all_joints_is_the_plain_loss():
    arguments = GOLDEN["maps"], GOLDEN["targets"], GOLDEN["weights"]
    torch.testing.assert_close(heatmap_mse_ohkm(*arguments, topk=99), heatmap_mse(*arguments))


def test_udp_offset_loss():
    got = udp_offset_loss(OFFSET["combined_maps"], OFFSET["combined_targets"], OFFSET["weights"])
    torch.testing.assert_close(got, OFFSET["udp_offset"], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("loss", "channels"), [(heatmap_mse, 1), (heatmap_mse_ohkm, 1), (udp_offset_loss, 3)])
def test_only_weighted_joints_pull(loss, channels):
    """A joint of weight 0 gets no gradient; half precision maps give a float32 loss."""
    targets = torch.rand(2, 4 * channels, 6, 5)
    maps = torch.zeros(targets.shape, dtype=torch.bfloat16, requires_grad=True)
    weights = torch.ones(2, 4)
    weights[0, 2] = 0
    value = loss(maps, targets, weights)
    value.backward()
    assert value.dtype == torch.float32
    per_joint = maps.grad.float().unflatten(1, (4, channels)).abs().sum(dim=(2, 3, 4))
    assert torch.equal(per_joint > 0, weights > 0)


def test_supervision_adds_up_the_outputs():
    rest = GOLDEN["targets"], GOLDEN["weights"]
    outputs = GOLDEN["maps"], 2 * GOLDEN["maps"], GOLDEN["maps"] - 1
    plain = [heatmap_mse(maps, *rest) for maps in outputs]
    assert len({round(value.item(), 6) for value in plain}) == 3
    torch.testing.assert_close(supervised(heatmap_mse, outputs, *rest), sum(plain))
    mined = supervised(heatmap_mse, outputs, *rest, final=heatmap_mse_ohkm)
    torch.testing.assert_close(mined, plain[0] + plain[1] + heatmap_mse_ohkm(outputs[2], *rest))


def test_supervision_of_one_output_is_its_loss():
    arguments = GOLDEN["maps"], GOLDEN["targets"], GOLDEN["weights"]
    assert torch.equal(supervised(heatmap_mse, *arguments), heatmap_mse(*arguments))
    assert torch.equal(supervised(heatmap_mse, *arguments, final=heatmap_mse_ohkm), heatmap_mse_ohkm(*arguments))
