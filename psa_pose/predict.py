"""Crops + model + codec -> keypoints, with the flip test: the one way from pixels to coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from psa_pose.codecs import Codec
from psa_pose.data.batch import Batch
from psa_pose.device import autocast
from psa_pose.skeleton import Skeleton


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of pixel / 255 by channel index, (1, 3, 1, 1) tensors on the model's device."""

    mean: torch.Tensor
    std: torch.Tensor
    memory_format: torch.memory_format = torch.contiguous_format

    @classmethod
    def of(
        cls, mean: Sequence[float], std: Sequence[float], device: torch.device, channels_last: bool = False
    ) -> Normalization:
        """From three numbers each; channels_last: the memory format of the images, which should be the model's."""
        wanted = torch.channels_last if channels_last else torch.contiguous_format
        by_channel = [torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (mean, std)]
        return cls(by_channel[0], by_channel[1], wanted)

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (B, H, W, 3) uint8 on any device -> images (B, 3, H, W) float32 on this one's."""
        crops = crops.to(self.mean.device, non_blocking=True)
        images = crops.permute(0, 3, 1, 2).to(torch.float32, memory_format=self.memory_format)
        return images.div_(255).sub_(self.mean).div_(self.std)


@torch.inference_mode()
def predict_heatmaps(
    model: nn.Module, images: torch.Tensor, codec: Codec, flip_pairs: Sequence[tuple[int, int]], flip: bool
) -> torch.Tensor:
    """Images (B, 3, H, W) -> maps (B, C, h, w); with `flip`, the mean with those of the mirrored images, aligned."""
    maps = model(images)
    if flip:
        maps = (maps + codec.flip_back(model(images.flip(3)), flip_pairs)) / 2
    return maps


def crop_to_image(joints: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Joints (B, K, 2) in crop pixels and the crops' matrices (B, 2, 3) -> joints in image pixels, float64."""
    matrices = matrices.double()
    linear, shift = matrices[:, :, :2], matrices[:, None, :, 2]
    moved = joints.to(matrices) - shift
    return torch.linalg.solve(linear, moved.transpose(1, 2)).transpose(1, 2)


# Batch -> joints (B, K, 2) in crop pixels, scores (B, K), maps (B, C, h, w).
Predictor = Callable[[Batch], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def model_predictor(
    model: nn.Module,
    codec: Codec,
    normalization: Normalization,
    skeleton: Skeleton,
    flip: bool,
    precision: str = "fp32",
) -> Predictor:
    """What the network sees; with `flip`, averaged with what it sees in the mirror. precision: TEST.PRECISION."""
    model.eval()

    def predict(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        images = normalization(batch.crops)
        with autocast(precision, images.device):
            maps = predict_heatmaps(model, images, codec, skeleton.flip_pairs, flip)
        maps = maps.float()
        return *codec.decode(maps), maps

    return predict
