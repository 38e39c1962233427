"""Whole networks against each other: time and peak memory per image, forward only or a training step."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from psa_pose.benchmark.measure import Work, alternate, peak_memory, ratio
from psa_pose.config import load_config
from psa_pose.device import channels_last, choose_device, place
from psa_pose.models import build_model


def compare_models(
    configs: Mapping[str, CfgNode], batch: int, rounds: int, train: bool = False, memory: bool = True
) -> list[dict[str, Any]]:
    """Each config's network on the same random images, alternately, in one run; the first is what is compared with.

    train: forward and backward of the mean square of the maps, without the optimiser; otherwise forward only.
    Per network: time_ms and memory_mib of one image (medians; the peak divided by the batch), ratio to the first.
    """
    first = next(iter(configs.values()))
    device = choose_device(first.DEVICE)
    works = {name: _work(cfg, batch, device, train) for name, cfg in configs.items()}
    seconds = alternate(works, rounds, device, "rounds")
    reference = next(iter(seconds.values()))
    rows = []
    for name, work in works.items():
        row = {
            "name": name,
            "time_ms": 1e3 * statistics.median(seconds[name]) / batch,
            "ratio": ratio(seconds[name], reference),
        }
        rows.append(row | ({"memory_mib": peak_memory(work, device) / 2**20 / batch} if memory else {}))
    return rows


def measure_rows(rows: Sequence[dict[str, Any]], overrides: Sequence[str], batch: int, rounds: int, root: Path) -> None:
    """Add time_ms and memory_mib of one image, forward only, to rows of complexity; one network per config."""
    own = [row.get("overrides", []) for row in rows]
    names = [" ".join([row["config"], *words]) for row, words in zip(rows, own, strict=True)]
    loaded = [load_config(root / row["config"], [*words, *overrides]) for row, words in zip(rows, own, strict=True)]
    measured = {m["name"]: m for m in compare_models(dict(zip(names, loaded, strict=True)), batch, rounds)}
    for row, name in zip(rows, names, strict=True):
        row |= {key: measured[name][key] for key in ("time_ms", "memory_mib")}


def _work(cfg: CfgNode, batch: int, device: torch.device, train: bool) -> Work:
    torch.manual_seed(0)
    model = place(build_model(cfg), cfg, device).train(train)
    images = random_images(cfg, batch, device)

    def infer() -> None:
        with torch.inference_mode():
            model(images)

    return (lambda: _step(model, images)) if train else infer


def random_images(cfg: CfgNode, batch: int, device: torch.device) -> Tensor:
    """(B, 3, H, W) of the config's size, in its memory format."""
    width, height = cfg.INPUT.SIZE
    layout = torch.channels_last if channels_last(cfg, device) else torch.contiguous_format
    return torch.randn(batch, 3, height, width, device=device).contiguous(memory_format=layout)


def _step(model: nn.Module, images: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    maps = model(images)
    outputs = maps if isinstance(maps, tuple) else (maps,)
    torch.stack([m.square().mean() for m in outputs]).sum().backward()
