"""Hierarchical multi-scale attention: HRNet-OCR at several scales of the image, joined by a learned weight per pixel.

Tao, Sapra, Catanzaro: Hierarchical Multi-Scale Attention for Semantic Segmentation (arXiv 2005.10821); the network
behind the PSA rows of the PSA paper's Table 5. Parts are named as in HRNetOCR; NVIDIA's names are a table of
`psa_pose.checkpoints`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from fractions import Fraction

from torch import Tensor, nn

from psa_pose.errors import ConfigError
from psa_pose.models.blocks import AttentionFactory, conv1x1, conv3x3, init_small, resize_bilinear
from psa_pose.segmentation.networks.hrnet import HRNetOCR

TRAINING_SCALE = 0.5


class HMSA(HRNetOCR):
    """Images (B, 3, H, W) -> logits (B, classes, H, W); while it trains, the answer of `logits`.

    scales: of the image, joined in evaluation; 1 is one of them, or ConfigError. Training joins 0.5 and 1. Every
    enlargement has align_corners=False. The rest as for `HRNetOCR`.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        attention: AttentionFactory | None = None,
        where: str = "all",
        scales: Sequence[float] = (0.5, 1.0, 2.0),
        key_channels: int = 256,
        dropout: float = 0.05,
    ) -> None:
        super().__init__(width, classes, attention, where, False, key_channels, dropout)
        if 1.0 not in scales or min(scales) <= 0:
            raise ConfigError(f"scales {list(scales)} cannot be joined; give positive numbers, 1.0 among them")
        self.scales = tuple(scales)
        self.scale_attn = _scale_attention(2 * key_channels, key_channels)
        init_small(self.scale_attn)

    def logits(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, classes, H, W): in evaluation one, all scales joined.

        In training four: the joined auxiliary map, the half scale's own, the full scale's own, and the joined one.
        """
        if not self.training:
            return (self.join_scales(images, self.scales),)
        low_aux, low, weight = self.at_scale(images, TRAINING_SCALE)
        aux, full, _ = self.at_scale(images, 1.0)
        size = images.shape[2:]
        return (
            _add_coarser(aux, low_aux, weight),
            resize_bilinear(low, size, self.align_corners),
            full,
            _add_coarser(full, low, weight),
        )

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        maps = self.logits(images)
        return maps if self.training else maps[-1]

    def join_scales(self, images: Tensor, scales: Sequence[float]) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, classes, H, W), joined from the largest scale down.

        Each scale weighs its own logits against those so far. scales: 1 among them.
        """
        first, *others = sorted(scales, reverse=True)
        joined = self.at_scale(images, first)[1]
        for scale in others:
            _, own, weight = self.at_scale(images, scale)
            if scale < 1:
                joined = _add_coarser(joined, own, weight)
            else:
                joined = weight * own + (1 - weight) * resize_bilinear(joined, own.shape[2:], self.align_corners)
        return joined

    def at_scale(self, images: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        """Auxiliary and final logits and the weight in (0, 1), (B, 1, H, W), all at the size of the scaled images."""
        # Whole numbers only, so that a size that an export leaves open stays open.
        ratio = Fraction(scale).limit_denominator(1000)
        height, width = (images.shape[i] * ratio.numerator // ratio.denominator for i in (2, 3))
        size = height, width
        scaled = images if scale == 1 else resize_bilinear(images, size, self.align_corners)
        auxiliary, final, features = self.classify(scaled)
        maps = auxiliary, final, self.scale_attn(features)
        auxiliary, final, weight = (resize_bilinear(x, size, self.align_corners) for x in maps)
        return auxiliary, final, weight


def _add_coarser(finer: Tensor, coarser: Tensor, weight: Tensor) -> Tensor:
    """Logits (B, K, H, W) joined with those (B, K, h, w) of a smaller scale, whose weight is (B, 1, h, w)."""
    size = finer.shape[2:]
    return resize_bilinear(weight * coarser, size, False) + (1 - resize_bilinear(weight, size, False)) * finer


def _scale_attention(inputs: int, channels: int) -> nn.Sequential:
    """Features (B, inputs, h, w) -> weights (B, 1, h, w) in (0, 1)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, width in enumerate((inputs, channels)):
        layers[f"conv{i}"] = conv3x3(width, channels)
        layers[f"bn{i}"] = nn.BatchNorm2d(channels)
        layers[f"re{i}"] = nn.ReLU(inplace=True)
    layers["conv2"] = conv1x1(channels, 1)
    layers["sig"] = nn.Sigmoid()
    return nn.Sequential(layers)
