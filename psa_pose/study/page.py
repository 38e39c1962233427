"""A study to read and to look at: the table, scores of every seed, differences per joint, and what the gates do."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from psa_pose.metrics.significance import Estimate
from psa_pose.skeleton import Skeleton
from psa_pose.study.gates import CANVAS, BodyGates
from psa_pose.study.scores import FAILED, BlockScores
from psa_pose.visualization import html, svg
from psa_pose.visualization.captions import captioned
from psa_pose.visualization.draw import draw_skeleton, grid

# Pictures of the canvas are so many times as large.
_ZOOM = 2


@dataclass(frozen=True)
class RunGates:
    """The spatial gates of a run.

    history: step -> block's name -> standard deviation over positions. score: percent, as trained. constant: percent,
    with each gate set to its mean over positions.
    """

    history: dict[int, dict[str, float]]
    score: float
    constant: float


def study_table(
    blocks: Sequence[BlockScores], gates: Mapping[str, Sequence[RunGates]]
) -> tuple[list[str], list[list[str]]]:
    """Head and lines of words: a line per block, the protocols side by side."""
    protocols, main = list(dict.fromkeys(row.protocol for row in blocks)), main_statistic(blocks)
    head = ["block"]
    for protocol in protocols:
        head += [
            f"{main}, {protocol.replace('_', ' ')} boxes",
            "difference",
            "95 % images",
            "95 % images and seeds",
            "p",
        ]
    head += ["failed", "std of spatial gates", "lost with constant gates"]
    lines = []
    for block in dict.fromkeys(row.block for row in blocks):
        line, rows = [block], [row for row in blocks if row.block == block]
        for row in rows:
            moved = row.differences.get(main)
            line += [spread(row.values[main])]
            line += (
                [_spread(moved.images.value, moved.seeds, "+"), _interval(moved.images), _interval(moved.both)]
                if moved
                else ["-"] * 3
            )
            line += [f"{moved.both.p_value:.3f}" if moved else "-"]
        failed, runs = max(row.failed for row in rows), len(rows[0].values[main])
        lines.append([*line, f"{failed} of {runs}", *_gate_cells(gates.get(block, []))])
    return head, lines


def main_statistic(blocks: Sequence[BlockScores]) -> str:
    """What the study is about: PCK@0.2 or AP."""
    return next(iter(blocks[0].values))


def scores_chart(blocks: Sequence[BlockScores]) -> str:
    """SVG: a panel per protocol, a line per block with the score of each seed (rings) and their mean (bar).

    The grey band is the first block's mean plus and minus one standard deviation over seeds.
    """
    panels, main = dict[str, list[tuple[float, ...]]](), main_statistic(blocks)
    for row in blocks:
        panels.setdefault(f"{main} (%), {row.protocol.replace('_', ' ')} boxes", []).append(row.values[main])
    return svg.dots(list(dict.fromkeys(row.block for row in blocks)), panels, f"{main} of each block and seed")


def differences_chart(blocks: Sequence[BlockScores]) -> str:
    """SVG: each block's difference from the first per group of joints, with the interval over images and seeds.

    "" where only AP was scored.
    """
    first = blocks[0].protocol
    series = {
        row.block: [row.differences[name].both for name in row.values if name != "AP"]
        for row in blocks
        if row.protocol == first and row.differences
    }
    labels = [name for name in blocks[0].values if name != "AP"]
    if not series or not labels:
        return ""
    spans = {block: [(e.value, e.low, e.high) for e in each] for block, each in series.items()}
    return svg.differences(labels, spans, f"difference from {blocks[0].block}, percent points")


def gates_sheet(body: BodyGates, skeleton: Skeleton) -> np.ndarray:
    """Each block's mean relative gate around the persons' mean skeleton, (H, W, 3) uint8: no photograph in it."""
    size = (CANVAS[0] * _ZOOM, CANVAS[1] * _ZOOM)
    tiles = []
    for name, values in body.maps.items():
        low, high = np.nanmin(values), np.nanmax(values)
        share = np.nan_to_num((values - low) / max(high - low, 1e-9)).astype(np.float32)
        share = cv2.resize(share, size, interpolation=cv2.INTER_LINEAR)
        picture = cv2.applyColorMap((255 * share).round().astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]
        joints = (body.joints + 0.5) * _ZOOM - 0.5
        picture = draw_skeleton(np.ascontiguousarray(picture), joints, np.isfinite(joints[:, 0]), skeleton)
        tiles.append(captioned(picture, [name, f"gate / its mean: {low:.2f} to {high:.2f}"]))
    return grid(tiles, min(4, len(tiles)))


def study_page(
    blocks: Sequence[BlockScores],
    gates: Mapping[str, Sequence[RunGates]],
    bodies: Mapping[str, BodyGates],
    sheets: Mapping[str, np.ndarray],
    seeds: int,
) -> str:
    """One HTML file with everything."""
    header, lines = study_table(blocks, gates)
    title = f"{main_statistic(blocks)} of {len(lines)} blocks over {seeds} seeds"
    body = [f"<h1>{title}</h1>", html.table(header, lines), html.note(_reading(blocks[0].block, seeds))]
    body += [scores_chart(blocks), "<h2>Per joint</h2>" if differences_chart(blocks) else "", differences_chart(blocks)]
    for block, of_block in gates.items():
        body += [f"<h2>Spatial gates of {html.escape(block)}</h2>", html.table(*_history_table(of_block))]
        if block in sheets:
            note = (
                f"Below, of the first seed: each gate divided by its mean over the crop, averaged over "
                f"{bodies[block].persons} test persons whose torsos are laid on one another, under their mean skeleton."
            )
            body += [html.note(note), html.figure_grid([html.Figure([sheets[block]], [block])], 40)]
    return html.page(title, body, 70)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation."""
    return _spread(statistics.mean(values), statistics.stdev(values) if values[1:] else None)


def _spread(mean: float, deviation: float | None, sign: str = "") -> str:
    return f"{mean:{sign}.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")


def _interval(span: Estimate) -> str:
    return f"{span.low:+.1f} to {span.high:+.1f}"


def _gate_cells(runs: Sequence[RunGates]) -> list[str]:
    if not runs:
        return ["-", "-"]
    last = [value for run in runs for value in run.history[max(run.history)].values()]
    return [f"{min(last):.4f} to {max(last):.4f}", spread([run.score - run.constant for run in runs])]


def _history_table(runs: Sequence[RunGates]) -> tuple[list[str], list[list[str]]]:
    """Standard deviation of each block's gate over positions, at each evaluation: the mean of the runs."""
    steps = [step for step in runs[0].history if all(step in run.history for run in runs)]
    names = list(runs[0].history[steps[0]])
    mean = {(n, s): statistics.mean(run.history[s][n] for run in runs) for n in names for s in steps}
    rows = [[name, *(f"{mean[name, step]:.4f}" for step in steps)] for name in names]
    return ["std over positions, after step", *map(str, steps)], rows


def _reading(first: str, seeds: int) -> str:
    return (
        f"Percent: mean ± standard deviation over seeds. Difference: from {first!r}, paired by seed. Intervals: "
        "bootstrap over test images, the trained networks kept; and over images and seeds, drawn within each block and "
        f"paired. p is of the latter. With {seeds} seeds the second says little about other seeds. Failed: below "
        f"{FAILED:g} of the median of {first!r}. Lost with constant gates: the score minus that of the same network "
        "with each spatial gate set to its mean over positions."
    )
