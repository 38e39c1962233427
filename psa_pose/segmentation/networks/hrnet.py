"""HRNetV2 for segmentation, plain and with object-contextual representations (OCR).

Wang et al.: Deep High-Resolution Representation Learning for Visual Recognition (arXiv 1908.07919). Yuan, Chen, Wang:
Object-Contextual Representations for Semantic Segmentation (arXiv 1909.11065). The layouts are those of
HRNet-Semantic-Segmentation, branch HRNet-OCR; the trunk is that of the pose network, with all four resolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psa_pose.models.blocks import AttentionFactory, conv1x1, init_small, resize_bilinear
from psa_pose.models.hrnet import HRNetTrunk
from psa_pose.segmentation.networks.pixel_network import PixelNetwork


class JoinedTrunk(HRNetTrunk, PixelNetwork):
    """HRNetV2's trunk: all four resolutions side by side.

    width, attention, where: see `HRNetTrunk`. align_corners: of every enlargement in it; True is how the published
    weights were trained.
    """

    def __init__(self, width: int, attention: AttentionFactory | None, where: str, align_corners: bool) -> None:
        super().__init__(width, attention, where, 4, align_corners)
        self.align_corners = align_corners

    def joined_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> (B, sum of channels, H / 4, W / 4), the coarser resolutions enlarged to the finest."""
        finest, *coarser = self.features(images)
        enlarged = (resize_bilinear(x, finest.shape[2:], self.align_corners) for x in coarser)
        return torch.cat([finest, *enlarged], dim=1)


class HRNetV2(JoinedTrunk):
    """Images (B, 3, H, W) -> logits (B, classes, H, W); while it trains, the answer of `logits`.

    width, attention, where, align_corners: see `JoinedTrunk`. All convolutions start from N(0, 0.001), as published.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        attention: AttentionFactory | None = None,
        where: str = "all",
        align_corners: bool = True,
    ) -> None:
        super().__init__(width, attention, where, align_corners)
        self.last_layer = conv_head(sum(self.channels), classes)
        init_small(self)

    def logits(self, images: Tensor) -> tuple[Tensor, ...]:
        """One map (B, classes, H / 4, W / 4)."""
        return (self.last_layer(self.joined_features(images)),)


class HRNetOCR(JoinedTrunk):
    """HRNetV2 whose pixels look at the classes' mean features: images (B, 3, H, W) -> logits (B, classes, H, W).

    While it trains, the answer is that of `logits`. key_channels: of the attention between pixels and classes (256);
    the features it mixes have twice as many. dropout: of whole channels, in front of the classifier. The rest as for
    `HRNetV2`.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        attention: AttentionFactory | None = None,
        where: str = "all",
        align_corners: bool = True,
        key_channels: int = 256,
        dropout: float = 0.05,
    ) -> None:
        super().__init__(width, attention, where, align_corners)
        inputs, channels = sum(self.channels), 2 * key_channels
        self.aux_head = conv_head(inputs, classes)
        self.conv3x3_ocr = nn.Sequential(
            nn.Conv2d(inputs, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.ocr_distri_head = ObjectContext(channels, key_channels, dropout)
        self.cls_head = nn.Conv2d(channels, classes, 1)
        init_small(self)

    def logits(self, images: Tensor) -> tuple[Tensor, ...]:
        """Two maps (B, classes, H / 4, W / 4): the soft object regions, and the final one."""
        auxiliary, final, _ = self.classify(images)
        return auxiliary, final

    def classify(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 3, H, W) -> both maps of logits, and the features behind the final one (B, C, H / 4, W / 4)."""
        joined = self.joined_features(images)
        auxiliary = self.aux_head(joined)
        features = self.conv3x3_ocr(joined)
        features = self.ocr_distri_head(features, class_features(features, auxiliary))
        return auxiliary, self.cls_head(features), features


class ObjectContext(nn.Module):
    """Pixels (B, C, H, W) and classes (B, C, K, 1) -> pixels (B, C, H, W) that know what the classes look like.

    Each pixel weighs the K classes by the softmax of a scaled product, and their mix is concatenated and projected.
    """

    def __init__(self, channels: int, key_channels: int, dropout: float) -> None:
        super().__init__()
        self.object_context_block = ObjectAttention(channels, key_channels)
        self.conv_bn_dropout = nn.Sequential(*_conv_then_bn_relu(2 * channels, channels), nn.Dropout2d(dropout))

    def forward(self, pixels: Tensor, objects: Tensor) -> Tensor:
        context = self.object_context_block(pixels, objects)
        return self.conv_bn_dropout(torch.cat([context, pixels], dim=1))


class ObjectAttention(nn.Module):
    """Pixels (B, C, H, W) and classes (B, C, K, 1) -> each pixel's mix of the classes (B, C, H, W)."""

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.key_channels = key_channels
        twice = [(channels, key_channels), (key_channels, key_channels)]
        self.f_pixel = nn.Sequential(*(layer for pair in twice for layer in _conv_then_bn_relu(*pair)))
        self.f_object = nn.Sequential(*(layer for pair in twice for layer in _conv_then_bn_relu(*pair)))
        self.f_down = nn.Sequential(*_conv_then_bn_relu(channels, key_channels))
        self.f_up = nn.Sequential(*_conv_then_bn_relu(key_channels, channels))

    def forward(self, pixels: Tensor, objects: Tensor) -> Tensor:
        query = self.f_pixel(pixels).flatten(2)
        key = self.f_object(objects).flatten(2)
        value = self.f_down(objects).flatten(2)
        weights = (torch.bmm(query.transpose(1, 2), key) * self.key_channels**-0.5).softmax(2)
        context = torch.bmm(value, weights.transpose(1, 2))
        return self.f_up(context.unflatten(2, pixels.shape[2:]))


def class_features(features: Tensor, logits: Tensor) -> Tensor:
    """Features (B, C, h, w) averaged by the softmax over pixels of each class's logits (B, K, h, w): (B, C, K, 1)."""
    weights = logits.flatten(2).softmax(2)
    return torch.bmm(features.flatten(2), weights.transpose(1, 2)).unsqueeze(3)


def conv_head(channels: int, classes: int) -> nn.Sequential:
    """A 1x1 convolution with batch norm and ReLU, then the one that makes logits; both with biases."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, classes, 1),
    )


def _conv_then_bn_relu(inputs: int, outputs: int) -> list[nn.Module]:
    """A 1x1 convolution, and batch norm and ReLU as one module: the published nesting."""
    return [conv1x1(inputs, outputs), nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))]
