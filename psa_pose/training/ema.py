"""A moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn

from psa_pose.distributed import by_dtype


class ModelEma:
    """An exponential moving average of a model's weights, with a copy of its other buffers, as `model`.

    trained: the model that is followed; its weights and buffers are written to in place, never replaced.
    """

    def __init__(self, trained: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(trained).requires_grad_(False).eval()
        self.decay = decay
        # Made once: on a large network the walk through its modules takes longer than the update.
        self._weights = list(zip(by_dtype(self.model.parameters()), by_dtype(trained.parameters()), strict=True))
        self._buffers = list(zip(by_dtype(self.model.buffers()), by_dtype(trained.buffers()), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take up the weights after a step, which counts from 0. Early steps decay faster: (1 + step) / (10 + step)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for own, new in self._weights:
            torch._foreach_lerp_(own, new, 1 - decay)
        for own, new in self._buffers:
            torch._foreach_copy_(own, new)
