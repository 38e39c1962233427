"""Dual attention: Fu et al., Dual Attention Network for Scene Segmentation, arXiv 1809.02983, equations 1 to 4."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psa_pose.attention.non_local import attend


class DualAttention(nn.Module):
    """(B, C, H, W) -> the same shape: X + alpha P(X) + beta C(X), alpha and beta learned from 0.

    P, position attention: the values (C channels) summed over positions, weighted by softmax of the products of queries
    and keys (C / 8 channels each). C, channel attention: softmax of X X^T (C x C), times X; without parameters.
    In the published network each part has its own residual and its own 3x3 convolutions around it; inside a residual
    block they share one residual. The published code takes the softmax of the negated X X^T; this is the equation.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 8, 1)
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.position_scale = nn.Parameter(torch.zeros(1))
        self.channel_scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        position = attend(self.query(x), self.key(x), self.value(x))
        flat = x.flatten(2)
        similarity = torch.bmm(flat, flat.transpose(1, 2)).softmax(2)
        channel = torch.bmm(similarity.to(x.dtype), flat).view(x.shape)
        return x + (self.position_scale * position + self.channel_scale * channel).to(x.dtype)
