"""Codecs against what cannot be avoided: filling the target array once, and finding the maximum of every map."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch

from psa_pose.benchmark import published_loops as plain
from psa_pose.benchmark.measure import Work, alternate, ratio
from psa_pose.codecs import CODECS, make_codec

SIZES = {"256x192": ((192, 256), (48, 64)), "384x288": ((288, 384), (72, 96))}
JOINTS = 17


def benchmark_codecs(batch: int, rounds: int, size: str, device: torch.device) -> list[dict[str, Any]]:
    """Milliseconds to encode and decode a batch of persons with 17 joints each; size: a key of SIZES.

    encode writes into a reused array; its floor fills that array with one number. decode reads targets with noise; its
    floor is NumPy's argmax and maximum over the class maps, or torch's on a GPU. times_as_fast: as the published codes'
    loops over persons and joints. Ratios are medians over rounds.
    """
    input_size, heatmap_size = SIZES[size]
    generator = torch.Generator().manual_seed(0)
    joints = torch.rand(batch, JOINTS, 2, generator=generator) * (torch.tensor(input_size) - 1)
    visible = torch.ones(batch, JOINTS)
    rows = []
    for name in CODECS:
        codec = make_codec(name, input_size, heatmap_size)
        targets, _ = codec.encode(joints, visible)
        maps = (targets + 0.02 * torch.randn(targets.shape, generator=generator)).to(device)
        rows.append(_row(name, codec, joints.to(device), visible.to(device), maps, rounds))
    return rows


def _row(
    name: str, codec: Any, joints: torch.Tensor, visible: torch.Tensor, maps: torch.Tensor, rounds: int
) -> dict[str, Any]:
    reused, device = torch.empty_like(maps), maps.device
    classes = maps[:, :: codec.channels_per_joint].reshape(len(maps) * JOINTS, -1).contiguous()
    works: dict[str, Work] = {
        "encode": lambda: codec.encode(joints, visible, out=reused),
        "fill": lambda: reused.fill_(0.5),
        "decode": lambda: codec.decode(maps),
        "maximum": lambda: _maximum(classes),
    }
    works |= _plain(name, codec, joints, maps)
    seconds = alternate(works, rounds, device)
    row: dict[str, Any] = {"codec": name}
    for work, floor in (("encode", "fill"), ("decode", "maximum")):
        row[f"{work}_ms"] = 1e3 * statistics.median(seconds[work])
        row[f"{floor}_ms"] = 1e3 * statistics.median(seconds[floor])
        row[f"{work}_ratio"] = ratio(seconds[work], seconds[floor])
        if f"plain {work}" in seconds:
            row[f"{work}_times_as_fast"] = ratio(seconds[f"plain {work}"], seconds[work])
    return row


def _plain(name: str, codec: Any, joints: torch.Tensor, maps: torch.Tensor) -> dict[str, Work]:
    """The usual loops over persons and joints for the same work, on a CPU, where they are written down."""
    if maps.device.type != "cpu":
        return {}
    persons, arrays = joints.numpy(), maps.numpy()
    if name == "standard":
        return {
            "plain encode": lambda: np.stack(
                [plain.encode_standard(p, codec.heatmap_size, codec.stride[0], codec.sigma) for p in persons]
            )
        }
    return {"plain decode": lambda: plain.decode_dark(arrays)} if name == "dark" else {}


def _maximum(classes: torch.Tensor) -> object:
    if classes.device.type == "cuda":
        return classes.max(dim=1)
    values = classes.numpy()
    return np.argmax(values, axis=1), np.max(values, axis=1)
