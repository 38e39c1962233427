"""What the runs of a study scored, and how far a block is from the first one.

Two intervals. "images": the test images are drawn again, the trained networks kept. "images and seeds": of the runs of
each block as many are drawn too, with replacement, the same seeds for both blocks. Three seeds have ten such draws: the
second interval is honest about what was varied, and cannot be sure of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from psa_pose.errors import DataError
from psa_pose.evaluation.result import read_result_file
from psa_pose.metrics.coco_ap import accumulate, match_results
from psa_pose.metrics.pck.torso import GROUPS, PCK, pck_samples, pck_stats, result_errors
from psa_pose.metrics.significance import Estimate, bootstrap, estimate

# A run failed to train if it scores less than this part of the median of the first block's runs.
FAILED = 0.5
_SEED_DRAWS = 0


@dataclass(frozen=True)
class RunScores:
    """One trained network under one protocol.

    values: statistic -> percent, the one that the study is about first. samples: statistic -> its value in each
    resample of the test images (resamples,), the same images for every run.
    """

    values: dict[str, float]
    samples: dict[str, np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """A block minus the first one, in percent points: the mean over seeds.

    images, both: 95 % interval and two-sided p-value over drawn images, and over drawn images and seeds. seeds: the
    standard deviation of the difference over seeds; None for one seed.
    """

    images: Estimate
    both: Estimate
    seeds: float | None


@dataclass(frozen=True)
class BlockScores:
    """A block's runs under one protocol.

    values: statistic -> percent of each seed. failed: runs that did not train. differences: statistic -> from the first
    block; empty for the first itself.
    """

    block: str
    protocol: str
    values: dict[str, tuple[float, ...]]
    failed: int
    differences: dict[str, Comparison]


def run_scores(path: Path, pck: bool) -> RunScores:
    """The scores of a result file that tools/test.py wrote: AP, and before it PCK@0.2 and that of the groups."""
    file = read_result_file(path)
    values, samples = dict[str, float](), dict[str, np.ndarray]()
    if pck:
        errors = result_errors(file.annotations.content, file.results, file.skeleton)
        stats, drawn = pck_stats(errors), pck_samples(errors)
        for name in (PCK, *GROUPS):
            if stats[name] >= 0:
                values[name], samples[name] = 100 * stats[name], 100 * drawn[name]
    matches = match_results(file.annotations.content, file.results, np.array(file.skeleton.sigmas))
    values["AP"], samples["AP"] = 100 * accumulate(matches).stats()["AP"], 100 * bootstrap(matches)[:, 0]
    return RunScores(values, samples)


def compare_blocks(runs: Mapping[str, Sequence[Mapping[str, RunScores]]]) -> list[BlockScores]:
    """Every block against the first: runs[block][seed][protocol].

    Raises DataError where a block has other seeds or protocols than the first.
    """
    first = next(iter(runs.values()))
    for block, of_block in runs.items():
        if len(of_block) != len(first) or any(run.keys() != first[0].keys() for run in of_block):
            raise DataError(f"block {block!r} was not tested with the seeds and boxes of the first; run it again")
    return [
        _block(name, protocol, [run[protocol] for run in of_block], [run[protocol] for run in first])
        for protocol in first[0]
        for name, of_block in runs.items()
    ]


def _block(name: str, protocol: str, runs: Sequence[RunScores], first: Sequence[RunScores]) -> BlockScores:
    values = {key: tuple(run.values[key] for run in runs) for key in runs[0].values}
    main = next(iter(values))
    floor = FAILED * statistics.median(run.values[main] for run in first)
    failed = sum(not value >= floor for value in values[main])
    same = all(run is other for run, other in zip(runs, first, strict=True))
    return BlockScores(
        name, protocol, values, failed, {} if same else {key: difference(first, runs, key) for key in values}
    )


def difference(first: Sequence[RunScores], second: Sequence[RunScores], statistic: str) -> Comparison:
    """Second minus first, paired by seed and by resample."""
    by_seed = [b.values[statistic] - a.values[statistic] for a, b in zip(first, second, strict=True)]
    moved = np.stack([b.samples[statistic] - a.samples[statistic] for a, b in zip(first, second, strict=True)])
    seeds, resamples = moved.shape
    drawn = np.random.default_rng(_SEED_DRAWS).integers(seeds, size=(resamples, seeds))
    with_seeds = moved[drawn, np.arange(resamples)[:, None]].mean(1)
    value = statistics.mean(by_seed)
    return Comparison(
        estimate(value, _defined(moved.mean(0)), paired=True),
        estimate(value, _defined(with_seeds), paired=True),
        statistics.stdev(by_seed) if by_seed[1:] else None,
    )


def _defined(samples: np.ndarray) -> np.ndarray:
    return samples[np.isfinite(samples)]
