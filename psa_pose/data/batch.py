"""Persons in batches; crops stay uint8 until they are on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from psa_pose.data.dataset import CropDataset, Sample
from psa_pose.data.loader import Key


class Batch(NamedTuple):
    """Samples stacked: crops (B, H, W, 3) uint8, joints (B, K, 2), visible (B, K), matrices (B, 2, 3), rows (B,)."""

    crops: torch.Tensor
    joints: torch.Tensor
    visible: torch.Tensor
    matrices: torch.Tensor
    rows: torch.Tensor
    problems: tuple[str, ...]


def make_batch(dataset: CropDataset, keys: Sequence[Key]) -> Batch:
    """The samples of (epoch, row) keys as one batch; each crop is written where it stays."""
    width, height = dataset.input_size
    crops = torch.empty((len(keys), height, width, 3), dtype=torch.uint8)
    parts = zip(keys, crops.numpy(), dataset.poses(keys), strict=True)
    return _batch(crops, [dataset.sample(*part) for part in parts])


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples that are there already, as one batch of tensors."""
    return _batch(stack([sample.crop for sample in samples]), samples)


def _batch(crops: torch.Tensor, samples: Sequence[Sample]) -> Batch:
    _, joints, visible, matrices, rows, problems = zip(*samples, strict=True)
    return Batch(crops, stack(joints), stack(visible), stack(matrices), torch.tensor(rows), problems)


def stack(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    """Arrays of one shape as one tensor, along a new first axis."""
    return torch.from_numpy(np.stack(arrays))
