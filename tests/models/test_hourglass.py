"""The stacked hourglass: shapes, supervision, the attention slot, published figures, and whether it learns."""

from functools import partial

import pytest
import torch
from torch import nn

from psa_pose.attention import make_attention
from psa_pose.errors import ConfigError
from psa_pose.losses import heatmap_mse, supervised
from psa_pose.models.blocks import PreActivationBottleneck, attention_modules
from psa_pose.models.complexity import count, shapes_alone
from psa_pose.models.hourglass import Hourglass


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 64), (64, 192)])
def test_a_tuple_of_maps_in_training_and_the_last_in_evaluation(height, width):
    model = Hourglass(3, 5, channels=8)
    images = torch.randn(2, 3, height, width)
    outputs = model(images)
    assert isinstance(outputs, tuple)
    assert [tuple(maps.shape) for maps in outputs] == [(2, 5, height // 4, width // 4)] * 3
    # Norms without running statistics take those of the batch in either mode.
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = part.running_var = None
    final = model.eval()(images)
    torch.testing.assert_close(final, outputs[-1])


@pytest.mark.parametrize("attention", [None, "psa_p"])
def test_the_loss_reaches_every_parameter(attention):
    model = Hourglass(2, 5, partial(make_attention, attention) if attention else None, channels=16)
    # The coarsest maps have two positions here: a softmax over a single one would have no gradient.
    images, targets = torch.randn(2, 3, 128, 64), torch.rand(2, 5, 32, 16)
    supervised(heatmap_mse, model(images), targets, torch.ones(2, 5)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_each_stack_sees_the_maps_of_the_one_before():
    model = Hourglass(2, 5, channels=8).eval()
    images = torch.randn(1, 3, 64, 64)
    before = model(images)
    nn.init.ones_(model.stacks[0].final_layer.bias)
    assert not torch.equal(model(images), before)


def test_attention_fills_every_residual_module_and_changes_no_other_key():
    with shapes_alone():
        plain = Hourglass(3, 17)
        made = Hourglass(3, 17, partial(make_attention, "psa_p"))
    blocks = [m for m in made.modules() if isinstance(m, PreActivationBottleneck)]
    assert len(blocks) == len(attention_modules(made)) == 3 + 3 * 13
    assert not attention_modules(plain)
    assert [key for key in made.state_dict() if ".attention." not in key] == list(plain.state_dict())


def test_the_slot_sits_between_the_3x3_and_the_last_convolution():
    class Seven(nn.Module):
        def forward(self, x):
            self.seen = x.clone()
            return torch.full_like(x, 7.0)

    block = PreActivationBottleneck(6, 8, lambda channels: Seven()).eval()
    x = torch.randn(2, 6, 4, 4)
    kept = x.clone()
    inner = block.conv1(block.bn1(x).relu())
    torch.testing.assert_close(block(x), block.conv3(torch.full((2, 4, 4, 4), 7.0)) + block.downsample(x))
    torch.testing.assert_close(block.attention.seen, block.bn3(block.conv2(block.bn2(inner).relu())).relu())
    assert torch.equal(x, kept)


def test_the_initialisation_leaves_attention_alone_and_starts_maps_near_zero():
    made = []

    def factory(channels):
        module = make_attention("psa_s", channels)
        made.append((module, {key: w.clone() for key, w in module.state_dict().items()}))
        return module

    model = Hourglass(2, 17, factory, channels=64)
    for module, weights in made:
        assert all(torch.equal(w, weights[key]) for key, w in module.state_dict().items())
    inside = model.stacks[1].hourglass.inner.skip.conv2.weight
    assert inside.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.1)
    assert all(stack.final_layer.weight.std() < 0.002 and not stack.final_layer.bias.any() for stack in model.stacks)


@pytest.mark.parametrize(
    ("stacks", "attention", "params", "macs"),
    [
        (8, None, 23_661_384, 15_357_444_096),
        (1, None, 3_203_793, 3_209_232_384),
        (1, "psa_p", 3_680_849, 3_532_081_664),
    ],
)
def test_parameters_and_multiply_adds(stacks, attention, params, macs):
    """The pose tables print 14.3 G for 8 stacks, which is macs / 2^30, and 25.1 M: see the module's docstring."""
    factory = partial(make_attention, attention, direct=True) if attention else None
    with shapes_alone():
        found = count(Hourglass(stacks, 17, factory), (192, 256))
    assert (found.params, found.macs) == (params, macs)


def test_it_learns():
    model = Hourglass(2, 3, channels=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    images, targets, weights = torch.randn(4, 3, 64, 64), torch.zeros(4, 3, 16, 16), torch.ones(4, 3)
    for person, rows in enumerate((slice(2, 5), slice(5, 8), slice(8, 11), slice(11, 14))):
        targets[person, :, rows, 5:8] = 1
        images[person, :, 4 * rows.start : 4 * rows.stop, 20:32] += 2
    for _ in range(40):
        loss = supervised(heatmap_mse, model(images), targets, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    empty = heatmap_mse(torch.zeros_like(targets), targets, weights)
    assert heatmap_mse(model.eval()(images), targets, weights) < 0.25 * empty


@pytest.mark.parametrize("channels", [0, 6])
def test_channels_must_be_halved_twice(channels):
    with pytest.raises(ConfigError, match="multiple of 4"):
        Hourglass(1, 5, channels=channels)
