"""Squeeze-and-Excitation: Hu, Shen, Albanie, Sun, Wu, arXiv 1709.01507, equations 2 to 4."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """(B, C, H, W) -> the same shape: X * sigmoid(W2 relu(W1 mean_HW(X))), with W1: C -> C / reduction.

    reduction: 16, as published; at least one inner channel remains. The two fully connected layers have biases and
    start from PyTorch's default.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        inner = max(channels // reduction, 1)
        self.reduce = nn.Linear(channels, inner)
        self.expand = nn.Linear(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.expand(self.reduce(x.mean((2, 3))).relu()))
        return x * gate.to(x.dtype)[..., None, None]
