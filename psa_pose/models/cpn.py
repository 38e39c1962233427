"""Cascaded Pyramid Network: a feature pyramid over a ResNet finds the easy joints, a second part refines them all.

Chen, Wang, Peng, Zhang, Yu, Sun: Cascaded Pyramid Network for Multi-Person Pose Estimation (arXiv 1711.07319). With
ResNet-50, 17 maps and 256x192 it has 27.0 M parameters and 6.2 G multiply-adds (evaluation mode), as the pose tables
print. Against the authors' released network: the 1x1 convolution of the top-down path stands before the upsampling,
not after it, which is the same function (both are linear, and the interpolation's weights sum to 1) at less cost; the
layers that make maps have a bias in place of a norm, as in the other networks here. Its GlobalNet learns targets of
four widths at half weight; here all five maps learn the codec's one target, each with the same weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psa_pose.errors import ConfigError
from psa_pose.models.blocks import AttentionFactory, Bottleneck, attention_for, conv1x1, conv1x1_bn_relu, init_small
from psa_pose.models.resnet import ResNet, init_backbone


class CPN(nn.Module):
    """Images (B, 3, H, W) -> maps (B, out_channels, H / 4, W / 4); H and W divisible by 32.

    In training mode the answer is a tuple of five such maps: GlobalNet's, from the coarsest level to the finest, and
    RefineNet's, the final ones. Evaluation computes the final ones only.
    depth, width: the trunk's, see `ResNet`. channels: of each pyramid level (256), even. attention, where: see
    `psa_pose.models.blocks`; "all" is the trunk's blocks and RefineNet's bottlenecks. Raises ConfigError for others.

    The convolutions start from He's initialisation, so that the network also trains without ImageNet weights; the
    layers that make maps start from N(0, 0.001).
    """

    def __init__(
        self,
        depth: int,
        out_channels: int,
        attention: AttentionFactory | None = None,
        where: str = "all",
        channels: int = 256,
        width: int = 64,
    ) -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise ConfigError(f"a pyramid of {channels} channels cannot be halved in its blocks; use an even number")
        self.resnet = ResNet(depth, attention, where, width)
        self.global_net = GlobalNet(self.resnet.channels, channels, out_channels)
        self.refine_net = RefineNet(channels, out_channels, attention_for(RefineBottleneck, attention, where))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        pyramid = self.global_net(self.resnet.features(images))
        final = self.refine_net(pyramid)
        return (*self.global_net.maps(pyramid), final) if self.training else final


class GlobalNet(nn.Module):
    """The trunk's stages (B, inputs[i], h / 2^i, w / 2^i) -> a pyramid (B, channels, h / 2^i, w / 2^i), finest first.

    Each level is its lateral 1x1 convolution plus the next coarser level, through a 1x1 convolution and upsampled.
    """

    def __init__(self, inputs: Sequence[int], channels: int, out_channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(conv1x1_bn_relu(c, channels) for c in inputs)
        self.merges = nn.ModuleList(conv1x1(channels, channels) for _ in inputs[1:])
        heads = [_head(channels, out_channels) for _ in inputs]
        self.heads = nn.ModuleList(heads)
        init_backbone(self)
        for head in heads:
            init_small(head[-1])

    def forward(self, stages: list[Tensor]) -> list[Tensor]:
        levels = [lateral(x) for lateral, x in zip(self.laterals, stages, strict=True)]
        for i in reversed(range(len(self.merges))):
            levels[i] = levels[i] + _upsample(self.merges[i](levels[i + 1]), 2)
        return levels

    def maps(self, pyramid: list[Tensor]) -> list[Tensor]:
        """Each level's own maps (B, out_channels, h, w), all at the finest resolution, coarsest level first."""
        answers = [_upsample(head(x), 2**i) for i, (head, x) in enumerate(zip(self.heads, pyramid, strict=True))]
        return answers[::-1]


class RefineBottleneck(Bottleneck):
    """A bottleneck with twice as many channels outside as inside, as the released RefineNet has."""

    expansion: ClassVar[int] = 2


class RefineNet(nn.Module):
    """A pyramid (B, channels, h / 2^i, w / 2^i), i from 0 to 3 -> maps (B, out_channels, h, w).

    Level i goes through i bottlenecks and is upsampled to the finest one; the four are concatenated and mixed.
    """

    def __init__(self, channels: int, out_channels: int, attention: AttentionFactory | None) -> None:
        super().__init__()
        planes = channels // 2
        self.levels = nn.ModuleList(
            nn.Sequential(*(RefineBottleneck(channels, planes, 1, attention) for _ in range(count)))
            for count in range(4)
        )
        self.mix = RefineBottleneck(4 * channels, planes, 1, attention)
        self.final_layer = nn.Conv2d(channels, out_channels, 3, padding=1)
        init_backbone(self)
        init_small(self.final_layer)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        refined = [_upsample(level(x), 2**i) for i, (level, x) in enumerate(zip(self.levels, pyramid, strict=True))]
        return self.final_layer(self.mix(torch.cat(refined, dim=1)))


def _head(channels: int, out_channels: int) -> nn.Sequential:
    """1x1 convolution with norm and ReLU, then the 3x3 convolution that makes the maps."""
    return nn.Sequential(conv1x1_bn_relu(channels, channels), nn.Conv2d(channels, out_channels, 3, padding=1))


def _upsample(x: Tensor, factor: int) -> Tensor:
    """Bilinear, pixel centres aligned as areas: (B, C, h, w) -> (B, C, factor h, factor w)."""
    return x if factor == 1 else F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
