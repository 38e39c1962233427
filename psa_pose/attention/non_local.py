"""Non-local block: Wang, Girshick, Gupta, He, arXiv 1711.07971, equations 1, 4 and 6 (embedded Gaussian)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class NonLocal(nn.Module):
    """(B, C, H, W) -> the same shape: X + Wz (V . softmax_HW(Q^T K)), with Q, K, V of C / 2 channels at every position.

    No sub-sampling. Wz starts at 0, so that the block starts as the identity, as published. The H W x H W weights are
    never stored whole: PyTorch's scaled_dot_product_attention works through them in pieces where its device can.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.expand = zeroed(nn.Conv2d(inner, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        attended = attend(self.query(x), self.key(x), self.value(x))
        return x + self.expand(attended).to(x.dtype)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weights and biases of 0, so that what is added to a feature starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """For each position the sum of the values (B, D, H, W), weighted by softmax over positions of query . key.

    query, key: (B, E, H, W). Not scaled by 1 / sqrt(E), as published.
    """
    # (B, one head, positions, channels)
    q, k, v = (t.flatten(2).transpose(1, 2).unsqueeze(1) for t in (query, key, value))
    attended = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return attended.squeeze(1).transpose(1, 2).reshape(value.shape)
