"""Global context block: Cao, Xu, Lin, Wei, Hu, GCNet, arXiv 1904.11492, equation 5."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GlobalContext(nn.Module):
    """(B, C, H, W) -> the same shape: X + W2 relu(LayerNorm(W1 c)), c = X . softmax_HW(Wk X), W1: C -> C / reduction.

    reduction: 8 gives the parameters that the PSA paper's Table 6 prints (GCNet's own default is 16); at least one
    inner channel remains. W2 starts at 0, so that the block starts as the identity, as published.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        inner = max(channels // reduction, 1)
        self.key = nn.Conv2d(channels, 1, 1)
        self.reduce = nn.Linear(channels, inner)
        self.norm = nn.LayerNorm(inner)
        self.expand = nn.Linear(inner, channels)
        nn.init.kaiming_normal_(self.key.weight, mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)

    def forward(self, x: Tensor) -> Tensor:
        attention = self.key(x).flatten(2).softmax(2)
        context = torch.bmm(x.flatten(2), attention.to(x.dtype).transpose(1, 2)).squeeze(2)
        offset = self.expand(self.norm(self.reduce(context)).relu())
        return x + offset.to(x.dtype)[..., None, None]
