"""Attention blocks by themselves: PSA against its written order, every block against a copy of the feature."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from psa_pose.attention import make_attention
from psa_pose.benchmark.measure import Work, alternate, peak_memory, ratio

# (channels, height, width) at which blocks sit, 256x192 images: the bottlenecks of ResNets, the branches of HRNet-W48.
SHAPES = {
    "R50": ((64, 64, 48), (128, 32, 24), (256, 16, 12), (512, 8, 6)),
    "W48": ((48, 64, 48), (96, 32, 24), (192, 16, 12), (384, 8, 6)),
}


def benchmark_attention(
    names: Sequence[str], batch: int, rounds: int, device: torch.device, channels_last: bool = False
) -> list[dict[str, Any]]:
    """Forward, and forward and backward, of each named block at each shape, in milliseconds and as ratios.

    A name of the psa family, with its spatial form after a colon, is compared with itself in the written order, which
    is that of the released module: `speedup`. Any other block has only its time. `copies`: its forward time in units of
    the time that one copy of the feature takes.
    """
    rows = []
    for name in names:
        for network, shapes in SHAPES.items():
            for shape in shapes:
                rows.append(_row(name, network, (batch, *shape), rounds, device, channels_last))
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per name the lowest and the geometric mean of the speedups."""
    answer = []
    for name in dict.fromkeys(row["name"] for row in rows if "speedup_forward" in row):
        line: dict[str, Any] = {"name": name}
        for what in ("forward", "train"):
            values = [row[f"speedup_{what}"] for row in rows if row["name"] == name]
            line |= {f"lowest_{what}": min(values), f"mean_{what}": statistics.geometric_mean(values)}
        answer.append(line)
    return answer


def _row(
    name: str, network: str, shape: tuple[int, ...], rounds: int, device: torch.device, channels_last: bool
) -> dict[str, Any]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(shape, device=device).relu().contiguous(memory_format=layout)
    blocks = {"block": _block(name, shape[1], False).to(device)}
    if name.startswith("psa"):
        blocks["written"] = _block(name, shape[1], True).to(device)
    forward: dict[str, Work] = {key: _forward(block, x) for key, block in blocks.items()}
    train: dict[str, Work] = {key: _forward_backward(block, x) for key, block in blocks.items()}
    forward["copy"] = x.clone
    inner = max(1, int(2e-3 / max(_once(forward["block"], device), 1e-6)))
    seconds = alternate({k: _repeat(w, inner) for k, w in forward.items()}, rounds, device)
    trained = alternate({k: _repeat(w, inner) for k, w in train.items()}, rounds, device)
    row = {
        "name": name,
        "network": network,
        "shape": list(shape),
        "forward_ms": 1e3 * statistics.median(seconds["block"]) / inner,
        "train_ms": 1e3 * statistics.median(trained["block"]) / inner,
        "copies": ratio(seconds["block"], seconds["copy"]),
        "train_memory_mib": peak_memory(train["block"], device) / 2**20,
    }
    if "written" in blocks:
        row["speedup_forward"] = ratio(seconds["written"], seconds["block"])
        row["speedup_train"] = ratio(trained["written"], trained["block"])
        row["written_train_memory_mib"] = peak_memory(train["written"], device) / 2**20
    return row


def _block(name: str, channels: int, direct: bool) -> nn.Module:
    torch.manual_seed(0)
    base, _, spatial = name.partition(":")
    options: dict[str, Any] = {"spatial": spatial} if spatial else {}
    return make_attention(base, channels, **options, **({"direct": True} if direct else {}))


def _forward(block: nn.Module, x: Tensor) -> Work:
    def work() -> None:
        with torch.inference_mode():
            block(x)

    return work


def _forward_backward(block: nn.Module, x: Tensor) -> Work:
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    weight = torch.randn_like(x)

    def work() -> None:
        leaf.grad = None
        block.zero_grad(set_to_none=True)
        block(leaf).backward(weight)

    return work


def _once(work: Work, device: torch.device) -> float:
    return min(alternate({"": work}, 3, device)[""])


def _repeat(work: Work, times: int) -> Work:
    def repeated() -> None:
        for _ in range(times):
            work()

    return repeated
