"""HRNet for pose: parallel branches of four resolutions that exchange features throughout.

Sun, Xiao, Liu, Wang: Deep High-Resolution Representation Learning for Human Pose Estimation (arXiv 1902.09212).
"""

from __future__ import annotations

from torch import Tensor, nn

from psa_pose.models.blocks import (
    AttentionFactory,
    BasicBlock,
    Bottleneck,
    attention_for,
    block_row,
    conv1x1,
    conv3x3,
    conv_bn_relu,
    init_small,
)

BLOCKS_PER_BRANCH = 4
MODULES_PER_STAGE = (1, 4, 3)


class HRNet(nn.Module):
    """Images (B, 3, H, W) -> maps (B, out_channels, H / 4, W / 4); H and W divisible by 32.

    width: channels of the finest branch; each coarser branch has twice as many (32 and 48 are published, any works).
    attention, where: see `psa_pose.models.blocks`; "all" includes the 4 bottlenecks of `layer1`, "basic" is the 104
    basic blocks of the stages. All convolutions start from N(0, 0.001), as published.
    """

    def __init__(
        self, width: int, out_channels: int, attention: AttentionFactory | None = None, where: str = "all"
    ) -> None:
        super().__init__()
        w2, w3, w4 = ([width * 2**i for i in range(branches)] for branches in (2, 3, 4))
        basic = attention_for(BasicBlock, attention, where)
        self.conv1 = conv3x3(3, 64, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = conv3x3(64, 64, stride=2)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = block_row(Bottleneck, 4, 64, 64, 1, attention_for(Bottleneck, attention, where))
        self.transition1 = Transition([256], w2)
        self.stage2 = _stage(MODULES_PER_STAGE[0], w2, basic)
        self.transition2 = Transition(w2, w3)
        self.stage3 = _stage(MODULES_PER_STAGE[1], w3, basic)
        self.transition3 = Transition(w3, w4)
        self.stage4 = _stage(MODULES_PER_STAGE[2], w4, basic, outputs=1)
        self.final_layer = nn.Conv2d(width, out_channels, 1)
        init_small(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer1(self.relu(self.bn2(self.conv2(x))))
        branches = self.stage2(self.transition1([x]))
        branches = self.stage3(self.transition2(branches))
        branches = self.stage4(self.transition3(branches))
        return self.final_layer(branches[0])


class Transition(nn.ModuleList):
    """Prepares n branches for a stage of n + 1: the new one is a stride-2 convolution of the coarsest."""

    def __init__(self, inputs: list[int], outputs: list[int]) -> None:
        kept = [
            nn.Identity() if before == after else conv_bn_relu(before, after)
            for before, after in zip(inputs, outputs[:-1], strict=True)
        ]
        super().__init__([*kept, nn.Sequential(conv_bn_relu(inputs[-1], outputs[-1], stride=2))])

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        return [layer(x) for layer, x in zip(self, [*branches, branches[-1]], strict=True)]


class Exchange(nn.Module):
    """A row of basic blocks per branch, then each output is the ReLU of the sum over all branches, resampled.

    [(B, C_i, H / 2^i, W / 2^i)] -> the same shapes, of which only the `outputs` finest are computed.
    """

    def __init__(self, channels: list[int], attention: AttentionFactory | None, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            block_row(BasicBlock, BLOCKS_PER_BRANCH, c, c, attention=attention) for c in channels
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_resample(channels, source, target) for source in range(len(channels)))
            for target in range(outputs)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        features = [branch(x) for branch, x in zip(self.branches, branches, strict=True)]
        return [self.relu(_sum_into(target, layers, features)) for target, layers in enumerate(self.fuse_layers)]


def _stage(modules: int, channels: list[int], attention: AttentionFactory | None, outputs: int = 0) -> nn.Sequential:
    """`modules` exchanges in a row, the last with only `outputs` results (0: all)."""
    kept = [len(channels)] * (modules - 1) + [outputs or len(channels)]
    return nn.Sequential(*(Exchange(channels, attention, n) for n in kept))


def _resample(channels: list[int], source: int, target: int) -> nn.Module:
    """Source branch's shape -> target's: a 1x1 convolution and nearest upsampling, or stride-2 convolutions."""
    if source == target:
        return nn.Identity()
    if source > target:
        up = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(conv1x1(channels[source], channels[target]), nn.BatchNorm2d(channels[target]), up)
    halvings: list[nn.Module] = [
        conv_bn_relu(channels[source], channels[source], stride=2) for _ in range(target - source - 1)
    ]
    last = nn.Sequential(conv3x3(channels[source], channels[target], stride=2), nn.BatchNorm2d(channels[target]))
    return nn.Sequential(*halvings, last)


def _sum_into(target: int, layers: nn.Module, features: list[Tensor]) -> Tensor:
    """The target's own feature plus every other one resampled; a new tensor, filled in place."""
    assert isinstance(layers, nn.ModuleList)
    others = [(layer, x) for source, (layer, x) in enumerate(zip(layers, features, strict=True)) if source != target]
    first, x = others[0]
    total = features[target] + first(x)
    for layer, x in others[1:]:
        total += layer(x)
    return total
