from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from psa_pose.errors import ConfigError
from psa_pose.segmentation.cityscapes_classes import CLASS_WEIGHTS
from psa_pose.segmentation.losses.build import OutputsLoss
from psa_pose.segmentation.losses.pixelwise import CrossEntropy, Focal, Ohem
from psa_pose.segmentation.losses.rmi import BinaryCrossEntropy, RegionMutualInformation, lower_bounds

GOLDEN = np.load(Path(__file__).parents[1] / "golden/segmentation/losses.npz")


def golden_maps(dtype=torch.float64):
    logits, aux = (torch.from_numpy(GOLDEN[name]).to(dtype) for name in ("logits", "aux"))
    return (aux, logits), torch.from_numpy(GOLDEN["label"])


def whole(loss, outputs, labels) -> float:
    return float(loss(outputs, labels, loss.size(labels)))


def close(value, name) -> None:
    assert value == pytest.approx(float(GOLDEN[name]), rel=1e-6)


def test_losses_of_one_map_equal_the_published_ones():
    (_, logits), labels = golden_maps()
    close(whole(CrossEntropy(), logits, labels), "ce")
    close(whole(CrossEntropy(align_corners=True), logits, labels), "ce_align_corners")
    close(whole(Focal(over_all_pixels=True), logits, labels), "focal_gamma2_mean_over_all_pixels")
    close(whole(BinaryCrossEntropy(), logits, labels), "bce_sum_over_classes")
    close(whole(RegionMutualInformation(), logits, labels), "rmi_half_bce_half")
    close(whole(RegionMutualInformation(bce=0.0), logits, labels), "rmi_lower_bound_only")


def test_sums_over_maps_equal_the_published_ones():
    maps, labels = golden_maps()
    for name, weights in (("hrnet_ce_0.4_1", None), ("hrnet_ce_weighted_0.4_1", CLASS_WEIGHTS)):
        losses = [CrossEntropy(weights, align_corners=True) for _ in range(2)]
        close(whole(OutputsLoss(losses, (0.4, 1)), maps, labels), name)
    hmsa = OutputsLoss([BinaryCrossEntropy(), RegionMutualInformation()], (0.4, 1))
    close(whole(hmsa, maps, labels), "hmsa_total")


@pytest.mark.parametrize("name", [name for name in GOLDEN.files if "ohem" in name])
def test_ohem_equals_the_published_one(name):
    maps, labels = golden_maps()
    parts = name.split("_")
    weights = CLASS_WEIGHTS if "weighted" in parts else None
    threshold, kept = float(parts[2].removeprefix("thresh")), int(parts[3].removeprefix("keep"))
    aux = CrossEntropy(weights, align_corners=True, over_all_pixels=True)
    close(whole(OutputsLoss([aux, Ohem(threshold, kept, weights, True)], (0.4, 1)), maps, labels), name)


def all_losses():
    weights = np.linspace(0.5, 2, 5).tolist()
    losses = [CrossEntropy(), CrossEntropy(weights), CrossEntropy(weights, over_all_pixels=True), Focal()]
    return [*losses, Ohem(0.3, 20, weights), BinaryCrossEntropy(), RegionMutualInformation()]


@pytest.mark.parametrize("loss", all_losses(), ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_add_up_to_the_whole_in_value_and_gradient(loss, dtype):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 5, 16, 20, generator=generator).to(dtype).requires_grad_()
    labels = torch.randint(0, 5, (4, 32, 40), generator=generator).to(torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    if isinstance(loss, Ohem):
        # Its choice is of a part: parts that are alike choose alike.
        logits, labels = logits.detach()[:1].repeat(4, 1, 1, 1).requires_grad_(), labels[:1].repeat(4, 1, 1)
    size = loss.size(labels)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        total = loss(logits, labels, size)
        (wanted,) = torch.autograd.grad(total, logits)
        parts = [loss(logits[i:j], labels[i:j], size) for i, j in ((0, 1), (1, 4))]
        (got,) = torch.autograd.grad(sum(parts), logits)
    assert torch.allclose(sum(loss.size(labels[i : i + 1]) for i in range(4)), size)
    # The kept pixels of four equal images are four times those of one, up to the pixel at the limit.
    tolerance = 5e-3 if isinstance(loss, Ohem) else 1e-5
    assert sum(parts).item() == pytest.approx(total.item(), rel=tolerance)
    assert torch.allclose(got.float(), wanted.float(), atol=float(wanted.float().abs().max()) * (0.05 + tolerance))
    assert total.dtype in (torch.float32, torch.float64)


@pytest.mark.parametrize("loss", all_losses(), ids=lambda loss: type(loss).__name__)
def test_a_batch_without_labels_has_a_finite_gradient(loss):
    logits = torch.randn(1, 5, 8, 8, requires_grad=True)
    labels = torch.full((1, 32, 32), 255, dtype=torch.uint8)
    total = loss(logits, labels, loss.size(labels))
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", all_losses(), ids=lambda loss: type(loss).__name__)
def test_half_precision_and_autocast_change_no_loss(loss):
    half = torch.randn(2, 5, 8, 10, generator=torch.Generator().manual_seed(2)).bfloat16()
    logits = half.float()
    labels = torch.randint(0, 5, (2, 32, 40), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    expected = whole(loss, logits, labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert whole(loss, logits, labels) == pytest.approx(expected, rel=1e-6)
        assert whole(loss, half, labels) == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95), st.integers(1, 60))
def test_ohem_keeps_what_a_plain_sort_keeps(seed, threshold, kept):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 3, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 5, (2, 3, 5), generator=generator).to(torch.uint8)
    labels[labels == 4] = 255
    chances, losses = [], []
    for image, label in zip(logits.softmax(1), labels, strict=True):
        for y in range(3):
            for x in range(5):
                if label[y, x] != 255:
                    chances.append(float(image[int(label[y, x]), y, x]))
                    losses.append(-np.log(chances[-1]))
    limit = max(threshold, sorted(chances)[min(kept, len(chances) - 1)]) if chances else 0
    hard = [loss for chance, loss in zip(chances, losses, strict=True) if chance < limit - 1e-12]
    assert whole(Ohem(threshold, kept), logits, labels) == pytest.approx(np.mean(hard) if hard else 0, rel=1e-6)


def test_focal_without_gamma_is_cross_entropy():
    maps, labels = golden_maps()
    expected = F.cross_entropy(
        F.interpolate(maps[1], labels.shape[1:], mode="bilinear"), labels.long(), ignore_index=255
    )
    assert whole(Focal(gamma=0.0), maps[1], labels) == pytest.approx(float(expected), rel=1e-9)


def test_a_network_with_other_maps_is_refused():
    maps, labels = golden_maps()
    loss = OutputsLoss([CrossEntropy()], (1.0,))
    with pytest.raises(ConfigError, match="2 maps"):
        loss(maps, labels, loss.size(labels))
    with pytest.raises(ConfigError, match="weights"):
        OutputsLoss([CrossEntropy()], (1.0, 2.0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_losses_on_a_gpu_equal_those_on_the_cpu():
    (_, logits), labels = golden_maps(torch.float32)
    for loss in [CrossEntropy(CLASS_WEIGHTS), Ohem(0.3, 500), BinaryCrossEntropy(), RegionMutualInformation()]:
        expected = whole(loss, logits, labels)
        with torch.autocast("cuda", torch.bfloat16):
            assert whole(loss, logits.cuda(), labels.cuda()) == pytest.approx(expected, rel=1e-5)


def test_what_has_no_logarithm_is_a_nan_that_the_run_notices():
    maps = torch.rand(2, 3, 20, 24)
    assert torch.isfinite(lower_bounds(maps, maps)).all()
    assert torch.isnan(lower_bounds(maps, torch.stack([maps[0], maps[1] * torch.nan]))).tolist() == [False, True]
