"""Residual blocks with one named slot, `attention`, behind their first 3x3 convolution.

The slot is empty (None) by default, and then the state-dict keys are those of the published ResNet and HRNet. Where it
is filled follows the PSA paper, section 4: "after the first 3x3 convolution in every residual block".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from psa_pose.errors import ConfigError

AttentionFactory = Callable[[int], nn.Module]
"""Takes a channel count C, returns a module (B, C, H, W) -> (B, C, H, W)."""

PLACES = ("all", "basic")


def conv3x3(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A padded 3x3 convolution without bias."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


def conv_bn_relu(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def conv1x1_bn_relu(inputs: int, outputs: int) -> nn.Sequential:
    """1x1 convolution, batch norm, ReLU."""
    return nn.Sequential(conv1x1(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, inputs, H, W) -> (B, planes, H / stride, W / stride).

    Stride and dilation are those of the first 3x3 convolution.
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: int = 1,
        attention: AttentionFactory | None = None,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, planes, stride, dilation)
        self.bn1 = nn.BatchNorm2d(planes)
        self.attention = attention(planes) if attention else None
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        if self.attention is not None:
            out = self.attention(out)
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut: (B, inputs, H, W) -> (B, 4 planes, H / stride, W / stride).

    Stride and dilation are those of the 3x3 convolution.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: int = 1,
        attention: AttentionFactory | None = None,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = conv1x1(inputs, planes)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes, stride, dilation)
        self.bn2 = nn.BatchNorm2d(planes)
        self.attention = attention(planes) if attention else None
        self.conv3 = conv1x1(planes, outputs)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        if self.attention is not None:
            out = self.attention(out)
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class PreActivationBottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions, each behind its norm and ReLU: (B, inputs, H, W) -> (B, outputs, H, W).

    Half of the outputs' channels inside (He et al., Identity Mappings in Deep Residual Networks, arXiv 1603.05027, as
    in the stacked hourglass). Nothing acts on the sum; a shortcut between different widths is a bare 1x1 convolution.
    """

    def __init__(self, inputs: int, outputs: int, attention: AttentionFactory | None = None) -> None:
        super().__init__()
        planes = outputs // 2
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv1x1(inputs, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes)
        self.bn3 = nn.BatchNorm2d(planes)
        self.attention = attention(planes) if attention else None
        self.conv3 = conv1x1(planes, outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None if inputs == outputs else conv1x1(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.relu(self.bn1(x)))
        out = self.conv2(self.relu(self.bn2(out)))
        out = self.relu(self.bn3(out))
        if self.attention is not None:
            out = self.attention(out)
        out = self.conv3(out)
        out += x if self.downsample is None else self.downsample(x)
        return out


Block = type[BasicBlock] | type[Bottleneck]


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The projection of a shortcut whose two ends differ in shape, else None."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))


def block_row(
    block: Block,
    count: int,
    inputs: int,
    planes: int,
    stride: int = 1,
    attention: AttentionFactory | None = None,
    dilations: tuple[int, int] = (1, 1),
) -> nn.Sequential:
    """`count` blocks in a row; the first takes `inputs` channels and the stride. dilations: its, the others'."""
    first = block(inputs, planes, stride, attention, dilations[0])
    rest = (block(planes * block.expansion, planes, 1, attention, dilations[1]) for _ in range(count - 1))
    return nn.Sequential(first, *rest)


def attention_for(block: type[nn.Module], attention: AttentionFactory | None, where: str) -> AttentionFactory | None:
    """The factory for this kind of block: `where` is "all" (every block) or "basic" (basic blocks only).

    "basic" is what the parameter counts of the PSA paper's HRNet rows (Table 2) show. Raises ConfigError elsewhere.
    """
    if where not in PLACES:
        raise ConfigError(f"attention cannot be placed in {where!r} blocks; choose one of {list(PLACES)}")
    return attention if where == "all" or block is BasicBlock else None


def own_modules(module: nn.Module) -> Iterator[nn.Module]:
    """The module and all below it, without what sits in an attention slot: that initialises itself."""
    yield module
    for name, child in module.named_children():
        if name != "attention":
            yield from own_modules(child)


def attention_modules(model: nn.Module) -> list[nn.Module]:
    """What fills the attention slots of a network, in the order of its blocks."""
    return [child for m in model.modules() for name, child in m.named_children() if name == "attention"]


def resize_bilinear(x: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """(B, C, h, w) -> (B, C, *size), size (H, W). align_corners: the centres of the corner pixels fall together."""
    return F.interpolate(x, (size[0], size[1]), mode="bilinear", align_corners=align_corners)


def init_small(module: nn.Module) -> None:
    """Initialise as the published pose networks: (transposed) convolutions from N(0, 0.001), biases 0."""
    for part in own_modules(module):
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=0.001)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
