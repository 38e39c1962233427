"""Efficient attention: Shen, Zhang, Zhao, Yi, Li, arXiv 1812.01243, equation 4 with softmax normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psa_pose.attention.non_local import zeroed


class EfficientAttention(nn.Module):
    """(B, C, H, W) -> the same shape: X + Wz (softmax_C(Q)^T (softmax_HW(K) V^T)), with Q, K, V of C / 2 channels.

    The product of keys and values, C / 2 x C / 2, comes first: linear in H * W. One head. Wz starts at 0, so that the
    block starts as the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.expand = zeroed(nn.Conv2d(inner, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        value = self.value(x)
        query = self.query(x).flatten(2).softmax(1).to(value.dtype)
        key = self.key(x).flatten(2).softmax(2).to(value.dtype)
        context = torch.bmm(value.flatten(2), key.transpose(1, 2))
        attended = torch.bmm(context, query).view(value.shape)
        return x + self.expand(attended).to(x.dtype)
