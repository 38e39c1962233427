"""Crops + model + codec -> keypoints, with the flip test: the one way from pixels to coordinates."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.codecs import Codec
from psa_pose.data.dataset import Batch
from psa_pose.device import DTYPES, autocast
from psa_pose.models.fold import fold_batchnorm
from psa_pose.models.gates import Gates, collect_gates
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


class CropNetwork(nn.Module):
    """Crops (N, H, W, 3) uint8 -> maps (N, C, h, w), whoever asks: the evaluation, an estimator, an exported graph.

    model: normalised images (N, 3, H, W) -> maps. codec: what the maps are. flip: average with the mirrored crop.
    flip_pairs: indices of the joints that change places in it. swap_channels: crops are RGB and the model's images
    BGR. Nothing here keeps it from being traced.
    """

    def __init__(
        self,
        model: nn.Module,
        codec: Codec,
        normalization: Normalization,
        flip_pairs: Sequence[tuple[int, int]],
        flip: bool,
        swap_channels: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.codec, self.normalization = model, codec, normalization
        self.flip_pairs, self.flip, self.swap_channels = flip_pairs, flip, swap_channels

    @classmethod
    def of_spec(
        cls, model: nn.Module, spec: ModelSpec, device: torch.device, flip: bool, channels_last: bool = False
    ) -> CropNetwork:
        """For RGB crops and a model on the device. channels_last: the memory format of the images."""
        normalization = Normalization.of(spec.mean, spec.std, device, channels_last)
        return cls(model, spec.make_codec(), normalization, spec.skeleton.flip_pairs, flip, spec.channel_order == "bgr")

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        images = self.images(crops)
        maps = self.model(images)
        if self.flip:
            maps = (maps + self.codec.flip_back(self.model(images.flip(3)), self.flip_pairs)) / 2
        return maps

    def images(self, crops: torch.Tensor) -> torch.Tensor:
        """What the model is shown of crops: (N, 3, H, W) float32 on its device."""
        return self.normalization(crops.flip(3) if self.swap_channels else crops)


@torch.inference_mode()
def predict_heatmaps(network: CropNetwork, crops: torch.Tensor, precision: str = "fp32") -> torch.Tensor:
    """Crops (N, H, W, 3) uint8 -> maps (N, C, h, w) float32, computed in "fp32", "bf16" or "fp16"."""
    with autocast(precision, network.normalization.mean.device):
        return network(crops).float()


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
    network = CropNetwork(model, codec, normalization, skeleton.flip_pairs, flip).eval()

    def predict(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        maps = predict_heatmaps(network, batch.crops, precision)
        return *codec.decode(maps), maps

    return predict


# Joints (N, K, 2) in crop pixels, scores (N, K), and maps (N, C, h, w) if asked for, all float32.
Answer = tuple[np.ndarray, np.ndarray, np.ndarray | None]


class TorchBackend:
    """A network in PyTorch, prepared for answering only.

    model: it is put on the device and changed. spec: of its checkpoint. flip: average with the mirrored crop.
    dtype: what convolutions and products are computed in. fold: see `psa_pose.models.fold`. channels_last: the memory
    format. compile: hand it to torch.compile, which takes minutes at the first call.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: ModelSpec,
        device: torch.device,
        flip: bool = True,
        dtype: torch.dtype = torch.float32,
        fold: bool = True,
        channels_last: bool = True,
        compile: bool = False,
    ) -> None:
        self.spec, self.device = spec, device
        self._precision = {dtype: name for name, dtype in DTYPES.items()}.get(dtype, "fp32")
        model = fold_batchnorm(model) if fold else model.eval().requires_grad_(False)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._model = model.to(device).to(memory_format=memory_format)
        if dtype != torch.float32:
            _cast_products(self._model, dtype)
        called: Any = torch.compile(self._model, dynamic=True) if compile else self._model
        self._network = CropNetwork.of_spec(called, spec, device, flip, channels_last).eval()

    def __call__(self, crops: np.ndarray, heatmaps: bool) -> Answer:
        maps = self.maps(crops)
        joints, scores = self.decode(maps)
        return joints, scores, maps.cpu().numpy() if heatmaps else None

    def maps(self, crops: np.ndarray) -> torch.Tensor:
        """The first half of a call: maps (N, C, h, w) float32, on the device."""
        return predict_heatmaps(self._network, torch.from_numpy(crops), self._precision)

    @torch.inference_mode()
    def decode(self, maps: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The second half: joints (N, K, 2) crop pixels and scores (N, K)."""
        joints, scores = self._network.codec.decode(maps)
        return joints.cpu().numpy(), scores.cpu().numpy()

    def gates(self, crops: np.ndarray) -> dict[str, Gates]:
        """Of every PSA block, by module name; see `psa_pose.models.gates`."""
        # The hooks are put on a copy that shares the weights, so that other threads do not meet them.
        shared = {id(t): t for t in itertools.chain(self._model.parameters(), self._model.buffers())}
        with autocast(self._precision, self.device):
            return collect_gates(copy.deepcopy(self._model, shared), self._network.images(torch.from_numpy(crops)))


def _cast_products(model: nn.Module, dtype: torch.dtype) -> None:
    """Give the layers that autocast computes in `dtype` their weights in it, which it would convert at every call."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.to(dtype)
