"""DeepLabV3+: atrous spatial pyramid pooling on a dilated trunk, and a decoder with one low-level feature.

Chen, Zhu, Papandreou, Schroff, Adam: Encoder-Decoder with Atrous Separable Convolution (arXiv 1802.02611), in the form
and the layout of VainF's DeepLabV3Plus-Pytorch, whose figures are the baselines of the PSA paper's Table 3: plain
convolutions, one 3x3 in the decoder, the low-level feature from the trunk's first stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from psa_pose.errors import ConfigError
from psa_pose.models.blocks import conv1x1_bn_relu, conv3x3, conv_bn_relu, resize_bilinear
from psa_pose.models.resnet import init_backbone
from psa_pose.segmentation.networks.pixel_network import PixelNetwork

LOW_LEVEL_CHANNELS = 48
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}


class DeepLabV3Plus(PixelNetwork):
    """Images (B, 3, H, W) -> logits (B, classes, H, W); while it trains, the answer of `logits`.

    backbone: a trunk of that output stride; its `features()` begin at a quarter and end at the output stride.
    output_stride: 16 or 8, which chooses the rates of the pyramid. channels: of each branch and of the decoder (256).
    dropout: behind the pyramid's projection. backbone_momentum: of the trunk's batch norms (VainF: 0.01; the head's
    have PyTorch's 0.1). Raises ConfigError for another output stride. The head starts from He's initialisation.
    """

    align_corners = False

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        output_stride: int = 16,
        channels: int = 256,
        dropout: float = 0.1,
        backbone_momentum: float = 0.01,
    ) -> None:
        super().__init__()
        if output_stride not in RATES:
            raise ConfigError(f"DeepLabV3+ has no output stride {output_stride}; choose one of {list(RATES)}")
        self.backbone = backbone
        for part in backbone.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = backbone_momentum
        low, *_, high = cast(Sequence[int], backbone.channels)
        self.classifier = Decoder(low, high, classes, RATES[output_stride], channels, dropout)

    def logits(self, images: Tensor) -> tuple[Tensor]:
        """One map (B, classes, h, w), at a quarter of the images."""
        low, *_, high = cast(Any, self.backbone).features(images)
        return (self.classifier(low, high),)


class Decoder(nn.Module):
    """Features (B, low, h, w) and (B, high, h', w') -> logits (B, classes, h, w)."""

    def __init__(self, low: int, high: int, classes: int, rates: Sequence[int], channels: int, dropout: float) -> None:
        super().__init__()
        self.project = conv1x1_bn_relu(low, LOW_LEVEL_CHANNELS)
        self.aspp = AtrousPyramid(high, rates, channels, dropout)
        self.classifier = nn.Sequential(
            *conv_bn_relu(LOW_LEVEL_CHANNELS + channels, channels), nn.Conv2d(channels, classes, 1)
        )
        init_backbone(self)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        high = resize_bilinear(self.aspp(high), low.shape[2:], DeepLabV3Plus.align_corners)
        return self.classifier(torch.cat([self.project(low), high], dim=1))


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling: (B, inputs, h, w) -> (B, channels, h, w).

    A 1x1 convolution, a 3x3 one per rate, and the image's mean, side by side, then mixed.
    """

    def __init__(self, inputs: int, rates: Sequence[int], channels: int, dropout: float) -> None:
        super().__init__()
        pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv1x1_bn_relu(inputs, channels))
        self.convs = nn.ModuleList(
            [conv1x1_bn_relu(inputs, channels), *(_atrous(inputs, channels, rate) for rate in rates), pooling]
        )
        self.project = nn.Sequential(*conv1x1_bn_relu(len(self.convs) * channels, channels), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        *branches, pooling = self.convs
        maps = [branch(x) for branch in branches]
        # What a bilinear enlargement of one pixel gives.
        maps.append(pooling(x).expand(-1, -1, x.shape[2], x.shape[3]))
        return self.project(torch.cat(maps, dim=1))


def _atrous(inputs: int, channels: int, rate: int) -> nn.Sequential:
    """A 3x3 convolution of that dilation, batch norm, ReLU."""
    return nn.Sequential(conv3x3(inputs, channels, dilation=rate), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
