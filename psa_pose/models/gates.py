"""Looking at the gates of polarized attention in a whole network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psa_pose.attention import PolarizedAttention

Gates = tuple[Tensor | None, Tensor | None]


def collect_gates(model: nn.Module, images: Tensor) -> dict[str, Gates]:
    """The gates of every PSA block for images (B, 3, H, W), by module name in the order of the network.

    Each: channel gate (B, C, 1, 1) and spatial gate (B, 1, h, w), None where the block has none. Evaluates the network
    once, without gradients and in the mode that it is in. Without PSA blocks the answer is empty.
    """
    gates: dict[str, Gates] = {}

    def keep(name: str, block: PolarizedAttention) -> torch.utils.hooks.RemovableHandle:
        def read(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            gates[name] = block.gates(inputs[0])

        return block.register_forward_pre_hook(read)

    handles = [keep(name, m) for name, m in model.named_modules() if isinstance(m, PolarizedAttention)]
    if not handles:
        return gates
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return gates


def spatial_gate_deviation(gates: dict[str, Gates]) -> dict[str, float]:
    """Standard deviation of each spatial gate over the positions of a map, averaged over the batch; 0: constant."""
    spatial = {name: gate for name, (_, gate) in gates.items() if gate is not None}
    return {name: gate.float().flatten(1).std(dim=1, correction=0).mean().item() for name, gate in spatial.items()}
