"""A study of several blocks over seeds: AP per protocol, paired differences, the table and the plot."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.errors import DataError
from psa_pose.evaluation.result_files import read_result_file
from psa_pose.metrics.accumulate import STATS, accumulate, coco_stats
from psa_pose.metrics.matching import area_groups, match, pairs_of
from psa_pose.metrics.persons import annotated_persons, found_persons
from psa_pose.metrics.significance import Estimate, bootstrap, differences
from psa_pose.visualization import svg


@dataclass(frozen=True)
class Row:
    """One block under one protocol, AP in percent: of each seed, and their mean minus the first block's.

    images: 95 % interval and two-sided p-value of that difference over resampled test images, the trained networks
    kept. seeds: the standard deviation of the difference over seeds, which differ in initial weights, order and
    augmentation; None for one seed. Both are None for the first block itself.
    """

    block: str
    protocol: str
    ap: tuple[float, ...]
    images: Estimate | None
    seeds: float | None


def analyse(results: Mapping[str, Sequence[Mapping[str, Path]]], resamples: int = 1000) -> list[Row]:
    """Every block against the first one: results[block][seed][protocol] is a result file that tools/test.py wrote.

    Raises DataError where a block has other seeds or protocols than the first.
    """
    first = next(iter(results.values()))
    rows = []
    for protocol in first[0]:
        base: tuple[list[float], np.ndarray] | None = None
        for block, runs in results.items():
            if len(runs) != len(first) or any(run.keys() != first[0].keys() for run in runs):
                raise DataError(f"block {block!r} was not tested with the seeds and boxes of the first; run it again")
            scored = [_scored(run[protocol], resamples) for run in runs]
            ap, samples = [100 * value for value, _ in scored], np.mean([drawn for _, drawn in scored], axis=0)
            base = base or (ap, samples)
            rows.append(_row(block, protocol, ap, samples, *base))
    return rows


def _scored(path: Path, resamples: int) -> tuple[float, np.ndarray]:
    """AP of a result file, 0 to 1, and STATS of each resample of its images."""
    file = read_result_file(path)
    sigmas = np.array(file.skeleton.sigmas)
    annotated = annotated_persons(file.annotations.content, len(sigmas))
    found = found_persons(file.results, annotated)
    matches = match(annotated, found, pairs_of(annotated, found, sigmas), area_groups(annotated, found))
    return coco_stats(accumulate(matches))["AP"], bootstrap(matches, resamples)


def _row(
    block: str, protocol: str, ap: list[float], samples: np.ndarray, base_ap: list[float], base: np.ndarray
) -> Row:
    if samples is base:
        return Row(block, protocol, tuple(ap), None, None)
    means = [dict.fromkeys(STATS, -1.0) | {"AP": statistics.mean(values) / 100} for values in (base_ap, ap)]
    moved = differences(means[0], means[1], base, samples)["AP"]
    images = Estimate(100 * moved.value, 100 * moved.low, 100 * moved.high, moved.p_value)
    by_seed = [b - a for a, b in zip(base_ap, ap, strict=True)]
    return Row(block, protocol, tuple(ap), images, statistics.stdev(by_seed) if by_seed[1:] else None)


def as_dicts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(row) for row in rows]


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """The table as words, its head first: a line per block, the protocols side by side."""
    protocols = list(dict.fromkeys(row.protocol for row in rows))
    head = ["block"]
    for protocol in protocols:
        head += [f"AP, {protocol.replace('_', ' ')} boxes", "difference", "95 % over images", "p"]
    lines = [head]
    for block in dict.fromkeys(row.block for row in rows):
        line = [block]
        for row in (row for row in rows if row.block == block):
            line += [_spread(statistics.mean(row.ap), statistics.stdev(row.ap) if row.ap[1:] else None)]
            if row.images is None:
                line += ["-", "-", "-"]
            else:
                line += [_spread(row.images.value, row.seeds, sign="+")]
                line += [f"{row.images.low:+.1f} to {row.images.high:+.1f}", f"{row.images.p_value:.3f}"]
        lines.append(line)
    return lines


def _spread(mean: float, deviation: float | None, sign: str = "") -> str:
    return f"{mean:{sign}.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")


def plot(rows: Sequence[Row]) -> str:
    """The study as SVG: a panel per protocol, a line per block with the AP of each seed (rings) and their mean (bar).

    The grey band is the first block's mean plus and minus one standard deviation over seeds.
    """
    panels: dict[str, list[tuple[float, ...]]] = {}
    for row in rows:
        panels.setdefault(f"AP (%), {row.protocol.replace('_', ' ')} boxes", []).append(row.ap)
    return svg.dots(list(dict.fromkeys(row.block for row in rows)), panels, "AP of each block and seed")
