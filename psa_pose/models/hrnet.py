"""The HRNet trunk, parallel branches of four resolutions that exchange features throughout, and HRNet for pose.

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
    resize_bilinear,
)

BLOCKS_PER_BRANCH = 4
MODULES_PER_STAGE = (1, 4, 3)


class HRNetTrunk(nn.Module):
    """The trunk: a stem, four bottlenecks, and three stages of two, three and four branches.

    width: channels of the finest branch; each coarser branch has twice as many (32 and 48 are published, any works).
    outputs: how many of the four resolutions are computed at the end, finest first: 1 for pose, 4 for segmentation.
    align_corners: None enlarges coarser branches by their factor, nearest pixel, as in pose; then H and W are divisible
    by 32. A bool enlarges them to the finer branch's size, bilinearly, as in HRNetV2; then any H and W will do.
    attention, where: see `psa_pose.models.blocks`; "all" includes the 4 bottlenecks of `layer1`, "basic" is the 104
    basic blocks of the stages. A network on this trunk initialises it together with its head, by `init_small`.
    channels: those of the outputs.
    """

    def __init__(
        self,
        width: int,
        attention: AttentionFactory | None = None,
        where: str = "all",
        outputs: int = 4,
        align_corners: bool | None = None,
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
        self.stage2 = _stage(MODULES_PER_STAGE[0], w2, basic, align_corners)
        self.transition2 = Transition(w2, w3)
        self.stage3 = _stage(MODULES_PER_STAGE[1], w3, basic, align_corners)
        self.transition3 = Transition(w3, w4)
        self.stage4 = _stage(MODULES_PER_STAGE[2], w4, basic, align_corners, outputs)
        self.channels = tuple(w4[:outputs])

    def features(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) -> the outputs (B, channels[i], H / 2^(i+2), W / 2^(i+2)), finest first."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer1(self.relu(self.bn2(self.conv2(x))))
        branches = self.stage2(self.transition1([x]))
        branches = self.stage3(self.transition2(branches))
        return self.stage4(self.transition3(branches))


class HRNet(HRNetTrunk):
    """Images (B, 3, H, W) -> maps (B, out_channels, H / 4, W / 4); H and W divisible by 32.

    The rest as for `HRNetTrunk`. All convolutions start from N(0, 0.001), as published.
    """

    def __init__(
        self, width: int, out_channels: int, attention: AttentionFactory | None = None, where: str = "all"
    ) -> None:
        super().__init__(width, attention, where, outputs=1)
        self.final_layer = nn.Conv2d(width, out_channels, 1)
        init_small(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.final_layer(self.features(images)[0])


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

    [(B, C_i, H / 2^i, W / 2^i)] -> the same shapes, of which only the `outputs` finest are computed. align_corners:
    see `HRNetTrunk`.
    """

    def __init__(
        self, channels: list[int], attention: AttentionFactory | None, align_corners: bool | None, outputs: int
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.branches = nn.ModuleList(
            block_row(BasicBlock, BLOCKS_PER_BRANCH, c, c, attention=attention) for c in channels
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_resample(channels, source, target, align_corners) for source in range(len(channels)))
            for target in range(outputs)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        features = [branch(x) for branch, x in zip(self.branches, branches, strict=True)]
        return [
            self.relu(_sum_into(target, layers, features, self.align_corners))
            for target, layers in enumerate(self.fuse_layers)
        ]


def _stage(
    modules: int,
    channels: list[int],
    attention: AttentionFactory | None,
    align_corners: bool | None,
    outputs: int = 0,
) -> nn.Sequential:
    """`modules` exchanges in a row, the last with only `outputs` results (0: all)."""
    kept = [len(channels)] * (modules - 1) + [outputs or len(channels)]
    return nn.Sequential(*(Exchange(channels, attention, align_corners, n) for n in kept))


def _resample(channels: list[int], source: int, target: int, align_corners: bool | None) -> nn.Module:
    """Source branch's shape -> target's: a 1x1 convolution and nearest upsampling, or stride-2 convolutions.

    With align_corners the upsampling is left to `_sum_into`, which knows the target's size.
    """
    if source == target:
        return nn.Identity()
    if source > target:
        mix = [conv1x1(channels[source], channels[target]), nn.BatchNorm2d(channels[target])]
        up = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(*mix, *([up] if align_corners is None else []))
    halvings: list[nn.Module] = [
        conv_bn_relu(channels[source], channels[source], stride=2) for _ in range(target - source - 1)
    ]
    last = nn.Sequential(conv3x3(channels[source], channels[target], stride=2), nn.BatchNorm2d(channels[target]))
    return nn.Sequential(*halvings, last)


def _sum_into(target: int, layers: nn.Module, features: list[Tensor], align_corners: bool | None) -> Tensor:
    """The target's own feature plus every other one resampled; a new tensor, filled in place."""
    assert isinstance(layers, nn.ModuleList)
    own = features[target]
    total: Tensor | None = None
    for source, (layer, x) in enumerate(zip(layers, features, strict=True)):
        if source == target:
            continue
        x = layer(x)
        if align_corners is not None and source > target:
            x = resize_bilinear(x, own.shape[2:], align_corners)
        total = own + x if total is None else total.add_(x)
    assert total is not None
    return total
