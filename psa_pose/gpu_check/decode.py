"""Crops made on the device against those of the plain way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from psa_pose.data.batch import make_batch
from psa_pose.data.device_decode import batch_maker, decode_on_device
from psa_pose.gpu_check.bench import Bench
from psa_pose.gpu_check.lines import Line, at_most
from psa_pose.tasks import build_task

CROPS = 64
# Mean difference in grey levels; a GPU's decoder brings colours to the size of the picture in another way.
LIMITS = {"cpu": 0.1, "cuda": 2.0}


def decode_lines(bench: Bench) -> Iterator[Line]:
    """LOADER.DEVICE_DECODE: the mean difference of grey levels; decoders and interpolations are not the same."""
    levels, largest = decode_difference(bench)
    note = f"{CROPS} crops, decoded on the {bench.device.type}; largest difference of a pixel {largest:.0f}"
    yield at_most(
        "DEVICE_DECODE against the plain way, mean difference", levels, LIMITS[bench.device.type], "grey levels", note
    )


def decode_difference(bench: Bench) -> tuple[float, float]:
    """Mean and largest difference of grey levels between crops of both ways."""
    config, words = next(iter(bench.networks.values()))
    dataset: Any = build_task(bench.config(config, *words)).train_set(lambda _: None)
    keys = [(0, row) for row in range(CROPS)]
    plain = make_batch(dataset, keys)
    encoded = batch_maker(True, bench.device)(dataset, keys)
    found = decode_on_device(encoded, dataset, bench.device).crops.cpu()
    apart = (found.int() - plain.crops.int()).abs().float()
    return apart.mean().item(), apart.max().item()
