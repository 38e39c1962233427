"""The MobileNetV2 trunk, as DeepLabV3+ uses it: dilated instead of coarser than the output stride.

Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks (arXiv 1801.04381). The
layout and the padding are those of VainF's DeepLabV3Plus-Pytorch, whose checkpoints they must fit: the stem has no
padding (513 pixels give maps of 256, 128, 64 and 32), and a block pads its input before the 1x1 expansion, so that the
border of the hidden map holds ReLU6 of the batch norm's bias instead of zeros.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from psa_pose.errors import ConfigError
from psa_pose.models.blocks import AttentionFactory
from psa_pose.models.resnet import init_backbone

# Of each row of blocks: expansion, channels, blocks, stride of the first.
ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM = 32
LOW_LEVEL_BLOCKS = 3
PLACES = ("all", "outputs", "inputs")
INPUTS_WITH_ATTENTION = 3


class MobileNetV2(nn.Module):
    """The trunk: a stem and 17 inverted residual blocks.

    output_stride: 8, 16 or 32. attention, where: "all" puts it behind the depthwise 3x3 of every block, "outputs"
    behind the sum of the 10 blocks that have a shortcut, "inputs" in front of the first three blocks. The text of the
    PSA paper says the first, but of the figures in its Table 3 (5.22 M parameters, 17.1 G) that gives none; the second
    gives the G, and the last both, if one is cut and the other rounded. Raises ConfigError for any other value.
    channels: those of the two maps. It starts from He's initialisation.
    """

    def __init__(self, output_stride: int = 32, attention: AttentionFactory | None = None, where: str = "all") -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ConfigError(f"there is no MobileNetV2 of output stride {output_stride}; choose one of [8, 16, 32]")
        if where not in PLACES:
            raise ConfigError(f"attention cannot be placed at {where!r} in a MobileNet; choose one of {list(PLACES)}")
        layers = [_conv_bn_relu6(3, STEM, 3, stride=2), *_blocks(output_stride, attention, where)]
        self.low_level_features = nn.Sequential(*layers[: LOW_LEVEL_BLOCKS + 1])
        self.high_level_features = nn.Sequential()
        for number, layer in enumerate(layers[LOW_LEVEL_BLOCKS + 1 :], LOW_LEVEL_BLOCKS + 1):
            # The published numbers go on where the low levels end.
            self.high_level_features.add_module(str(number), layer)
        self.channels = (24, 320)
        init_backbone(self)

    def features(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) -> maps of 24 channels at a quarter and of 320 at the output stride, finest first."""
        low = self.low_level_features(images)
        return [low, self.high_level_features(low)]


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3, 1x1 projection: (B, inputs, H, W) -> (B, outputs, H / stride, W / stride).

    A shortcut where shapes allow. attention: in the slot behind the depthwise convolution, on the block's output, or on
    its input, as `where` says.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        expansion: int,
        stride: int,
        dilation: int,
        attention: AttentionFactory | None = None,
        where: str = "all",
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [] if expansion == 1 else [_conv_bn_relu6(inputs, hidden, 1)]
        depthwise = _conv_bn_relu6(hidden, hidden, 3, stride, dilation, groups=hidden)
        self.conv = nn.Sequential(
            *expand, depthwise, nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.padding = dilation
        self.shortcut = stride == 1 and inputs == outputs
        self.where = where
        width = {"all": hidden, "outputs": outputs, "inputs": inputs}[where]
        self.attention = attention(width) if attention else None

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "inputs":
            x = self._attend(x)
        out = F.pad(x, (self.padding,) * 4)
        *hidden, project, norm = self.conv
        for layer in hidden:
            out = layer(out)
        if self.where == "all":
            out = self._attend(out)
        out = norm(project(out))
        if self.shortcut:
            out = x + out
        return self._attend(out) if self.where == "outputs" else out

    def _attend(self, x: Tensor) -> Tensor:
        return x if self.attention is None else self.attention(x)


def _blocks(output_stride: int, attention: AttentionFactory | None, where: str) -> list[nn.Module]:
    """The rows of blocks; once the output stride is reached, a row's stride multiplies the dilation of what follows.

    The first block of a row keeps the dilation of the row before, as published.
    """
    blocks: list[nn.Module] = []
    inputs, reached, dilation = STEM, 2, 1
    for expansion, outputs, count, row_stride in ROWS:
        before, stride = dilation, row_stride
        if reached == output_stride:
            stride, dilation = 1, dilation * row_stride
        reached *= stride
        for i in range(count):
            shortcut = i > 0
            has_it = {"all": True, "outputs": shortcut, "inputs": len(blocks) < INPUTS_WITH_ATTENTION}[where]
            blocks.append(
                InvertedResidual(
                    inputs,
                    outputs,
                    expansion,
                    1 if shortcut else stride,
                    dilation if shortcut else before,
                    attention if has_it else None,
                    where,
                )
            )
            inputs = outputs
    return blocks


def _conv_bn_relu6(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution without padding, batch norm, ReLU6."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, dilation=dilation, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))
