"""The network as a file holds it: from an RGB crop's bytes to maps, or to keypoints, in one traced graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from psa_pose.checkpoints.spec import GRAPH_INPUT, ExportSpec
from psa_pose.predict import CropNetwork


class ExportGraph(nn.Module):
    """RGB crops (N, H, W, 3) uint8 -> maps (N, C, h, w) float32; with `keypoints`, joints, scores and maps.

    joints (N, K, 2) crop pixels and scores (N, K), float32, are what the codec decodes. Channel order, normalisation
    and, with `flip`, the average with the mirrored crop are inside. Any N from 1 on. A `psa_pose.export.files.Graph`.
    """

    input_name = GRAPH_INPUT

    def __init__(self, model: nn.Module, spec: ExportSpec) -> None:
        super().__init__()
        self.spec, self.output_names = spec, spec.outputs
        self.network = CropNetwork.of_spec(model, spec.network, torch.device("cpu"), spec.flip)
        width, height = spec.network.input_size
        self.example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
        self.open_sizes: dict[int, Any] = {0: Dim("batch", min=1)}

    def forward(self, crops: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        maps = self.network(crops)
        return (*self.network.codec.decode(maps), maps) if self.spec.keypoints else maps

    def to_json(self, versions: dict[str, str]) -> str:
        return self.spec.to_json(versions)
