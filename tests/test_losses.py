"""Losses against the published ones on stored arrays, and against plain loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_losses_joint_by_joint_with_weights_between_0_and_1(seed, topk):
    rng = np.random.default_rng(seed)
    B, K, h, w = 2, 4, 3, 5
    maps, targets = rng.normal(size=(B, K, h, w)), rng.random((B, K, h, w))
    weights = rng.choice([0.0, 0.25, 0.5, 1.0], (B, K))
    errors = np.zeros((B, K))
    for b, k in np.ndindex(B, K):
        pairs = zip(maps[b, k].flat, targets[b, k].flat, strict=True)
        errors[b, k] = np.mean([((p - t) * weights[b, k]) ** 2 for p, t in pairs]) / 2
    tensors = [torch.tensor(v, dtype=torch.float32) for v in (maps, targets, weights)]
    assert heatmap_mse(*tensors).item() == pytest.approx(errors.mean(), rel=1e-4)
    hardest = [sorted(row, reverse=True)[: min(topk, K)] for row in errors.tolist()]
    assert heatmap_mse_ohkm(*tensors, topk=topk).item() == pytest.approx(np.mean(hardest), rel=1e-4)
    # Of three maps per joint: the class, and both offsets where the class is.
    maps, targets = rng.normal(size=(B, 3 * K, h, w)), rng.random((B, 3 * K, h, w))
    targets[:, ::3] = rng.random((B, K, h, w)) < 0.5
    total = 0.0
    for b, k in np.ndindex(B, K):
        (c, x, y), (wc, wx, wy) = maps[b, 3 * k : 3 * k + 3], targets[b, 3 * k : 3 * k + 3]
        share = weights[b, k]
        total += 0.5 * (((c - wc) * share) ** 2).sum()
        total += 0.5 * (((x - wx) * wc * share) ** 2).sum() + 0.5 * (((y - wy) * wc * share) ** 2).sum()
    tensors = [torch.tensor(v, dtype=torch.float32) for v in (maps, targets, weights)]
    assert udp_offset_loss(*tensors).item() == pytest.approx(total / (B * K * h * w), rel=1e-4)
    one, two = tensors[0], 2 * tensors[0]
    both = supervised(udp_offset_loss, (one, two), *tensors[1:], final=lambda m, *_: m.sum() * 0 + 7)
    assert both.item() == pytest.approx(udp_offset_loss(one, *tensors[1:]).item() + 7, rel=1e-5)
