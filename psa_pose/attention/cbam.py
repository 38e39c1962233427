"""CBAM, Convolutional Block Attention Module: Woo, Park, Lee, Kweon, arXiv 1807.06521, equations 1 to 3."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CBAM(nn.Module):
    """(B, C, H, W) -> the same shape: a channel gate, then a spatial gate of the gated feature.

    channel: sigmoid(M(mean_HW X) + M(max_HW X)) with one shared M: C -> C / reduction -> ReLU -> C, with biases.
    spatial: sigmoid of a 7x7 convolution of [mean_C, max_C], bias-free as in the paper's equation.
    reduction: 8 gives the parameters that the PSA paper's Table 6 prints (CBAM's own default is 16); at least one inner
    channel remains. All layers start from PyTorch's default.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        inner = max(channels // reduction, 1)
        self.reduce = nn.Linear(channels, inner)
        self.expand = nn.Linear(inner, channels)
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.stack([x.mean((2, 3)), x.amax((2, 3))])
        channel = self.expand(self.reduce(pooled).relu()).sum(0).sigmoid()
        x = x * channel.to(x.dtype)[..., None, None]
        spatial = self.spatial(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)).sigmoid()
        return x * spatial.to(x.dtype)
