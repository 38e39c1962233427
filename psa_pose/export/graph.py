"""The network as a file holds it: from an RGB crop's bytes to maps, or to keypoints, in one traced graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from psa_pose.checkpoints.spec import GRAPH_INPUT, ExportSpec
from psa_pose.predict import CropNetwork


class ExportGraph(nn.Module):
    """RGB crops (N, H, W, 3) uint8 -> maps (N, C, h, w) float32; with `keypoints`, joints, scores and maps.

    joints (N, K, 2) crop pixels and scores (N, K), float32, are what the codec decodes. Channel order, normalisation
    and, with `flip`, the average with the mirrored crop are inside.
    """

    def __init__(self, model: nn.Module, spec: ExportSpec) -> None:
        super().__init__()
        self.spec = spec
        self.network = CropNetwork.of_spec(model, spec.network, torch.device("cpu"), spec.flip)

    def forward(self, crops: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        maps = self.network(crops)
        return (*self.network.codec.decode(maps), maps) if self.spec.keypoints else maps


def trace(graph: ExportGraph) -> ExportedProgram:
    """The graph as a torch.export program for any number of crops from 1 on."""
    width, height = graph.spec.network.input_size
    crops = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(graph.eval(), (crops,), dynamic_shapes={GRAPH_INPUT: {0: Dim("batch", min=1)}})
    # Lines of source with the paths of this machine, which a file would carry at every node.
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program
