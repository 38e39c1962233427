"""Stacked hourglass: eight networks that pool and upsample again, each refining the maps of the one before.

Newell, Yang, Deng: Stacked Hourglass Networks for Human Pose Estimation (arXiv 1603.06937). The layout is that of the
authors' released network: one residual module per place, and no further one between an hourglass and its maps. For 8
stacks, 17 maps and 256x192 it has 14.3 G multiply-adds, as the pose tables print, and 23.7 M parameters where they
print 25.1 M; no layout tried gives both. Left out are the released biases of every convolution but those that make
maps: on each way to a map a batch norm takes them away.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from psa_pose.errors import ConfigError
from psa_pose.models.blocks import (
    AttentionFactory,
    PreActivationBottleneck,
    attention_for,
    conv1x1,
    conv1x1_bn_relu,
    init_small,
)
from psa_pose.models.resnet import init_backbone

POOLINGS = 4


class Hourglass(nn.Module):
    """Images (B, 3, H, W) -> maps (B, out_channels, H / 4, W / 4); H and W divisible by 64.

    In training mode the answer is a tuple of such maps, one per stack, the last one final: each has its own loss.
    stacks: number of hourglasses (8). channels: features of the stacks (256), a multiple of 4; the residual modules
    have half as many inside. attention, where: see `psa_pose.models.blocks`; there are no basic blocks here.
    Raises ConfigError for other channels or places.

    The convolutions start from He's initialisation: every residual branch begins with a norm, and another norm stands
    between each hourglass and what it passes on, so that the network trains from scratch at any number of stacks. The
    maps start near 0, from N(0, 0.001).
    """

    def __init__(
        self,
        stacks: int,
        out_channels: int,
        attention: AttentionFactory | None = None,
        where: str = "all",
        channels: int = 256,
    ) -> None:
        super().__init__()
        if channels < 4 or channels % 4:
            raise ConfigError(f"an hourglass of {channels} channels cannot be halved twice; use a multiple of 4")
        attention = attention_for(PreActivationBottleneck, attention, where)
        quarter, half = channels // 4, channels // 2
        self.conv1 = nn.Conv2d(3, quarter, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(quarter)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = PreActivationBottleneck(quarter, half, attention)
        self.maxpool = nn.MaxPool2d(2)
        self.layer2 = PreActivationBottleneck(half, half, attention)
        self.layer3 = PreActivationBottleneck(half, channels, attention)
        row = [Stack(channels, out_channels, attention, last=number == stacks) for number in range(1, stacks + 1)]
        self.stacks = nn.ModuleList(row)
        init_backbone(self)
        for stack in row:
            init_small(stack.final_layer)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self.maxpool(self.layer1(self.relu(self.bn1(self.conv1(images)))))
        x = self.layer3(self.layer2(x))
        answers = []
        for stack in self.stacks:
            x, maps = stack(x)
            answers.append(maps)
        return tuple(answers) if self.training else answers[-1]


class Stack(nn.Module):
    """An hourglass and its maps: x (B, C, h, w) -> the next stack's x, of the same shape, and maps (B, K, h, w).

    The next x is the sum of this one, the features and the maps, the last two through a 1x1 convolution each; the
    `last` stack has no such convolutions, since no loss would reach them.
    """

    def __init__(self, channels: int, out_channels: int, attention: AttentionFactory | None, last: bool) -> None:
        super().__init__()
        self.hourglass = Level(POOLINGS, channels, attention)
        self.linear = conv1x1_bn_relu(channels, channels)
        self.final_layer = nn.Conv2d(channels, out_channels, 1)
        self.merge_features = None if last else conv1x1(channels, channels)
        self.merge_maps = None if last else conv1x1(out_channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.linear(self.hourglass(x))
        maps = self.final_layer(features)
        if self.merge_features is not None and self.merge_maps is not None:
            x = x + self.merge_features(features) + self.merge_maps(maps)
        return x, maps


class Level(nn.Module):
    """One resolution and, inside it, the coarser ones: (B, C, h, w) -> the same; h and w divisible by 2^poolings."""

    def __init__(self, poolings: int, channels: int, attention: AttentionFactory | None) -> None:
        super().__init__()
        self.skip = PreActivationBottleneck(channels, channels, attention)
        self.down = PreActivationBottleneck(channels, channels, attention)
        self.inner: nn.Module = (
            Level(poolings - 1, channels, attention)
            if poolings > 1
            else PreActivationBottleneck(channels, channels, attention)
        )
        self.up = PreActivationBottleneck(channels, channels, attention)

    def forward(self, x: Tensor) -> Tensor:
        low = self.up(self.inner(self.down(F.max_pool2d(x, 2))))
        return self.skip(x) + F.interpolate(low, scale_factor=2.0, mode="nearest")
