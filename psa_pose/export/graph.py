"""The network as a file holds it: from an RGB crop's bytes to maps, or to keypoints, in one traced graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.codecs import Codec
from psa_pose.predict import Normalization

INPUT = "crops"


class CropNetwork(nn.Module):
    """Crops (N, H, W, 3) uint8, always RGB -> maps (N, C, h, w) float32; with `keypoints`, joints, scores and maps.

    joints (N, K, 2) crop pixels and scores (N, K), float32, are what the codec decodes. Channel order, normalisation
    and, with `flip`, the average with the mirrored crop are inside.
    """

    def __init__(self, model: nn.Module, spec: ModelSpec, flip: bool, keypoints: bool) -> None:
        super().__init__()
        self.model = model
        self.flip, self.keypoints, self.channel_order = flip, keypoints, spec.channel_order
        self.size = spec.input_size
        self.codec: Codec = spec.make_codec()
        self._pairs = spec.skeleton.flip_pairs
        self._normalization = Normalization.of(spec.mean, spec.std, torch.device("cpu"))

    def forward(self, crops: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        images = self._normalization(crops if self.channel_order == "rgb" else crops.flip(3))
        maps = self.model(images)
        if self.flip:
            # As psa_pose.predict does, whose inference mode cannot be traced.
            maps = (maps + self.codec.flip_back(self.model(images.flip(3)), self._pairs)) / 2
        return (*self.codec.decode(maps), maps) if self.keypoints else maps


def output_names(keypoints: bool) -> list[str]:
    """Of the graph's outputs, in order."""
    return ["joints", "scores", "maps"] if keypoints else ["maps"]


def trace(network: CropNetwork) -> ExportedProgram:
    """The network as a torch.export program for any number of crops from 1 on."""
    width, height = network.size
    crops = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    with torch.no_grad():
        return torch.export.export(network.eval(), (crops,), dynamic_shapes={INPUT: {0: Dim("batch", min=1)}})
