"""A study of several blocks over seeds: every run, AP per protocol, paired differences, the table and the plot."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.checkpoints import load_checkpoint, load_weights
from psa_pose.config import dump_config, load_config
from psa_pose.errors import DataError
from psa_pose.evaluation.result_files import read_result_file
from psa_pose.files import write_json, write_text
from psa_pose.metrics.coco_ap import STATS, accumulate, match_results
from psa_pose.metrics.significance import Estimate, bootstrap, differences
from psa_pose.paper.jobs import Write, run_jobs
from psa_pose.paper.plan import Job, Plan, run_steps
from psa_pose.paper.reproduce import finish
from psa_pose.paper.results import read_result, result_list
from psa_pose.tables import format_columns, markdown_table
from psa_pose.tasks import build_task
from psa_pose.training.monitor import gate_deviations
from psa_pose.training.output_dir import LAST
from psa_pose.visualization import svg

# Test persons whose gates are looked at.
_GATE_PERSONS = 64


@dataclass(frozen=True)
class Study:
    """What is compared.

    config: file of the network and its training.
    blocks: attention names, a PSA block's spatial form after a colon; the others are compared with the first.
    seeds: of the runs of each block.
    out: folder of the runs and tables.
    overrides: "KEY", "value", ... of every run.
    """

    config: Path
    blocks: Sequence[str]
    seeds: Sequence[int]
    out: Path
    overrides: Sequence[str] = ()


def run_study(study: Study, write: Write) -> None:
    """Train and test what is not complete yet; print the table and write study.json, study.md and study.svg.

    Raises PsaPoseError where runs failed, and Interrupted where it was stopped; the same call goes on.
    """
    # Seed by seed, so that an early look at the results compares like with like.
    jobs = {(block, seed): _job(study, block, seed) for seed in study.seeds for block in study.blocks}
    failures: dict[Path, str] = {}
    run_jobs(list(jobs.values()), failures, write)
    if not failures:
        _write_study(study, {b: [jobs[b, seed] for seed in study.seeds] for b in study.blocks}, write)
    follow = "tools/compare.py on the result lists of two runs"
    finish(list(jobs.values()), failures, f"folder {study.out}", follow, write)


def _job(study: Study, block: str, seed: int) -> Job:
    folder = study.out / f"{block.replace(':', '_')}_seed{seed}"
    name, _, spatial = block.partition(":")
    keys = ["MODEL.ATTENTION.NAME", name, *(["MODEL.ATTENTION.SPATIAL", spatial] if spatial else [])]
    keys = [*study.overrides, *keys, "SEED", str(seed), "OUTPUT_DIR", str(folder)]
    steps = run_steps(Plan(Path(), study.out), study.config, folder, keys)
    return Job(f"{block}, seed {seed}", folder, load_config(study.config, keys), 1, steps, 1.0)


def _write_study(study: Study, jobs: Mapping[str, Sequence[Job]], write: Write) -> None:
    runs = {block: [_run(job) for job in of_block] for block, of_block in jobs.items()}
    rows = _analyse({block: [_result_lists(job) for job in of_block] for block, of_block in jobs.items()})
    gates = {
        block: {name: statistics.mean(run["gates"][name] for run in of_block) for name in of_block[0]["gates"]}
        for block, of_block in runs.items()
    }
    header, *lines = _cells(rows)
    header.append("std of spatial gates")
    for line, spread in zip(lines, gates.values(), strict=True):
        line.append(f"{min(spread.values()):.4f} to {max(spread.values()):.4f}" if spread else "-")
    content = {"seeds": study.seeds, "rows": [asdict(row) for row in rows], "gates": gates, "runs": runs}
    write_json(study.out / "study.json", content)
    write_text(study.out / "study.md", markdown_table(header, lines) + "\n")
    write_text(study.out / "study.svg", _plot(rows))
    write(f"\nAP in percent, mean ± standard deviation over {len(study.seeds)} seeds; ")
    write(f"differences from {study.blocks[0]!r}\n")
    write(f"{format_columns(header, lines, left=len(header), rule=False)}\n\n")


def _run(job: Job) -> dict[str, Any]:
    """config: as text. ap: protocol -> percent. gates: standard deviation of each spatial gate over positions."""
    ap = {evaluation["protocol"]: 100 * evaluation["stats"]["AP"] for evaluation in _evaluations(job)}
    return {"config": dump_config(job.cfg), "ap": ap, "gates": _gate_deviations(job)}


def _result_lists(job: Job) -> dict[str, Path]:
    return {evaluation["protocol"]: result_list(job.folder, evaluation) for evaluation in _evaluations(job)}


def _evaluations(job: Job) -> list[dict[str, Any]]:
    result = read_result(job.folder)
    assert result is not None, "the job is complete"
    return result["evaluations"]


def _gate_deviations(job: Job) -> dict[str, float]:
    """Of the trained network, on its first test persons."""
    task, checkpoint = build_task(job.cfg), job.folder / LAST
    model = task.build_model().eval()
    load_weights(model, load_checkpoint(checkpoint)["model"], checkpoint)
    (test_set,) = task.test_sets(lambda _: None, annotated=True)
    return gate_deviations(task, model, test_set.dataset, _GATE_PERSONS)


@dataclass(frozen=True)
class _BlockResult:
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


def _analyse(results: Mapping[str, Sequence[Mapping[str, Path]]]) -> list[_BlockResult]:
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
            scored = [_scored(run[protocol]) for run in runs]
            ap, samples = [100 * value for value, _ in scored], np.mean([drawn for _, drawn in scored], axis=0)
            base = base or (ap, samples)
            rows.append(_row(block, protocol, ap, samples, *base))
    return rows


def _scored(path: Path) -> tuple[float, np.ndarray]:
    """AP of a result file, 0 to 1, and STATS of each resample of its images."""
    file = read_result_file(path)
    matches = match_results(file.annotations.content, file.results, np.array(file.skeleton.sigmas))
    return accumulate(matches).stats()["AP"], bootstrap(matches)


def _row(
    block: str, protocol: str, ap: list[float], samples: np.ndarray, base_ap: list[float], base: np.ndarray
) -> _BlockResult:
    if samples is base:
        return _BlockResult(block, protocol, tuple(ap), None, None)
    means = [dict.fromkeys(STATS, -1.0) | {"AP": statistics.mean(values) / 100} for values in (base_ap, ap)]
    moved = differences(means[0], means[1], base, samples)["AP"]
    images = Estimate(100 * moved.value, 100 * moved.low, 100 * moved.high, moved.p_value)
    by_seed = [b - a for a, b in zip(base_ap, ap, strict=True)]
    return _BlockResult(block, protocol, tuple(ap), images, statistics.stdev(by_seed) if by_seed[1:] else None)


def _cells(rows: Sequence[_BlockResult]) -> list[list[str]]:
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
            line += _difference(row.images, row.seeds) if row.images else ["-", "-", "-"]
        lines.append(line)
    return lines


def _difference(images: Estimate, seeds: float | None) -> list[str]:
    interval = f"{images.low:+.1f} to {images.high:+.1f}"
    return [_spread(images.value, seeds, sign="+"), interval, f"{images.p_value:.3f}"]


def _spread(mean: float, deviation: float | None, sign: str = "") -> str:
    return f"{mean:{sign}.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")


def _plot(rows: Sequence[_BlockResult]) -> str:
    """The study as SVG: a panel per protocol, a line per block with the AP of each seed (rings) and their mean (bar).

    The grey band is the first block's mean plus and minus one standard deviation over seeds.
    """
    panels: dict[str, list[tuple[float, ...]]] = {}
    for row in rows:
        panels.setdefault(f"AP (%), {row.protocol.replace('_', ' ')} boxes", []).append(row.ap)
    return svg.dots(list(dict.fromkeys(row.block for row in rows)), panels, "AP of each block and seed")
