"""BatchNorm folded into convolutions: the same function, for every network, and the network itself untouched."""

import pytest
import torch
from torch import nn

from psa_pose.attention import ATTENTIONS
from psa_pose.models.fold import fold_batchnorm
from psa_pose.models.gates import collect_gates
from tests.export.small import BACKBONES, small_network


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def check(model: nn.Module) -> None:
    images = torch.randn(2, 3, 64, 64)
    folded = fold_batchnorm(model)
    with torch.no_grad():
        expected = model(images)
        assert 1e-2 < expected.abs().max() < 1e3
        assert (folded(images) - expected).abs().max() <= 1e-4 * max(1.0, expected.abs().max().item())
        # Deep attention multiplies rounding; in double precision hardly anything is left.
        exact = model.double()
        expected, found = exact(images.double()), fold_batchnorm(exact)(images.double())
    assert (found - expected).abs().max() < 1e-9 * max(1.0, expected.abs().max().item())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_folded_network_answers_the_same(backbone):
    model = small_network(backbone, "MODEL.ATTENTION.NAME", "psa_p")
    check(model)
    left = norms(fold_batchnorm(model))
    # A pre-activation's norm stands behind a sum; in CPN those of the training heads are never called.
    assert left == {"hourglass": left, "cpn": 4}.get(backbone, 0)
    assert norms(model) - left > 0
    assert not fold_batchnorm(model).training


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["none", *ATTENTIONS])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_network_with_every_attention(backbone, attention):
    check(small_network(backbone, "MODEL.ATTENTION.NAME", attention))


def test_the_network_that_was_folded_is_as_it_was():
    model = small_network("simple_baseline").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = fold_batchnorm(model)
    assert model.training
    assert norms(model) > 0
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in folded.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_gates_have_the_same_names_and_values():
    model = small_network("simple_baseline", "MODEL.ATTENTION.NAME", "psa_p")
    images = torch.randn(1, 3, 64, 64)
    expected, found = collect_gates(model, images), collect_gates(fold_batchnorm(model), images)
    assert list(expected) == list(found)
    for one, other in zip(expected.values(), found.values(), strict=True):
        assert torch.allclose(one[1], other[1], atol=1e-4)


class Shared(nn.Module):
    """Convolutions whose norm may not be folded: one is used twice, the answer of the other is needed bare."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.bare = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.after_twice, self.after_bare = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twice(self.after_twice(self.twice(x)))
        bare = self.bare(x)
        return bare + self.after_bare(bare)


def test_what_cannot_be_folded_stays():
    model = Shared().eval()
    for norm in (model.after_twice, model.after_bare):
        nn.init.uniform_(norm.running_var, 0.5, 2)
    folded = fold_batchnorm(model)
    assert norms(folded) == 2
    x = torch.randn(2, 4, 3, 3)
    assert torch.allclose(folded(x), model(x), atol=1e-6)


def test_a_transposed_convolution_with_a_bias_is_folded():
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1), nn.BatchNorm2d(6)).eval()
    nn.init.uniform_(model[1].running_var, 0.5, 2)
    nn.init.normal_(model[1].running_mean)
    x = torch.randn(2, 4, 5, 5)
    folded = fold_batchnorm(model)
    assert norms(folded) == 0
    assert torch.allclose(folded(x), model(x), atol=1e-5)
