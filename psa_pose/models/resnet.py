"""The ResNet trunk, and SimpleBaseline: the trunk, three transposed convolutions and a 1x1 convolution.

He et al.: Deep Residual Learning for Image Recognition (arXiv 1512.03385), with the stride in the bottleneck's 3x3
convolution. Xiao, Wu, Wei: Simple Baselines for Human Pose Estimation and Tracking (arXiv 1804.06208).
"""

from __future__ import annotations

from torch import Tensor, nn

from psa_pose.errors import ConfigError
from psa_pose.models.blocks import (
    AttentionFactory,
    BasicBlock,
    Block,
    Bottleneck,
    attention_for,
    block_row,
    init_small,
    own_modules,
)

DEPTHS: dict[int, tuple[Block, tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}

# Output stride -> of the last two stages: the stride, and the dilations of the first block and of the others.
DILATIONS = {
    32: ((2, (1, 1)), (2, (1, 1))),
    16: ((2, (1, 1)), (1, (1, 2))),
    8: ((1, (1, 2)), (1, (2, 4))),
}


class ResNet(nn.Module):
    """The trunk: a stem and four stages.

    depth: 18, 34, 50, 101 or 152. width: channels of the stem; 64 is the published layout, less makes a small network.
    attention, where: see `psa_pose.models.blocks`. output_stride: 32, or 16 or 8 for dense prediction (Chen et al.,
    arXiv 1706.05587): the last one or two stages have dilation 2, or 2 and 4, in place of their stride; the first block
    of each keeps the dilation of the stage before it, as published. Raises ConfigError for any other value.
    channels: those of the four stages. It starts from He's initialisation, so that it also trains without ImageNet
    weights at small widths.
    """

    def __init__(
        self,
        depth: int,
        attention: AttentionFactory | None = None,
        where: str = "all",
        width: int = 64,
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ConfigError(f"there is no ResNet of depth {depth}; choose one of {sorted(DEPTHS)}")
        if output_stride not in DILATIONS:
            raise ConfigError(f"there is no ResNet of output stride {output_stride}; choose one of {list(DILATIONS)}")
        block, counts = DEPTHS[depth]
        attention = attention_for(block, attention, where)
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        expanded = width * block.expansion
        self.layer1 = block_row(block, counts[0], width, width, 1, attention)
        self.layer2 = block_row(block, counts[1], expanded, 2 * width, 2, attention)
        (stride3, dilations3), (stride4, dilations4) = DILATIONS[output_stride]
        self.layer3 = block_row(block, counts[2], 2 * expanded, 4 * width, stride3, attention, dilations3)
        self.layer4 = block_row(block, counts[3], 4 * expanded, 8 * width, stride4, attention, dilations4)
        self.channels = (expanded, 2 * expanded, 4 * expanded, 8 * expanded)
        init_backbone(self)

    def features(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) -> the four stages' outputs (B, channels[i], H / 2^(i+2), W / 2^(i+2)), finest first.

        No map is coarser than the output stride.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        stages = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            stages.append(x)
        return stages


class SimpleBaseline(ResNet):
    """Images (B, 3, H, W) -> maps (B, out_channels, H / 4, W / 4); H and W divisible by 32.

    deconv_channels: of each transposed convolution; the rest as for `ResNet`. The deconvolutions and the final layer
    start as published, the trunk as `ResNet` does.
    """

    def __init__(
        self,
        depth: int,
        out_channels: int,
        attention: AttentionFactory | None = None,
        where: str = "all",
        deconv_channels: int = 256,
        width: int = 64,
    ) -> None:
        super().__init__(depth, attention, where, width)
        self.deconv_layers = _deconvolutions(self.channels[-1], deconv_channels)
        self.final_layer = nn.Conv2d(deconv_channels, out_channels, 1)
        init_small(self.deconv_layers)
        init_small(self.final_layer)

    def forward(self, images: Tensor) -> Tensor:
        return self.final_layer(self.deconv_layers(self.features(images)[-1]))


def _deconvolutions(inputs: int, channels: int) -> nn.Sequential:
    """Three 4x4 transposed convolutions of stride 2, each with batch norm and ReLU: (B, inputs, H, W) -> 8H, 8W."""
    layers: list[nn.Module] = []
    for stage_inputs in (inputs, channels, channels):
        layers.append(nn.ConvTranspose2d(stage_inputs, channels, 4, stride=2, padding=1, bias=False))
        layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def init_backbone(module: nn.Module) -> None:
    """He's normal initialisation (arXiv 1502.01852, fan out) of every convolution outside the attention slots."""
    for part in own_modules(module):
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
