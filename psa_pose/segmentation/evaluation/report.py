"""One result as one HTML page: figures with intervals, classes, what is taken for what, the worst pictures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from psa_pose.files import write_text
from psa_pose.metrics.significance import Estimate
from psa_pose.segmentation.data.build import SegmentationTestSet, build_test_sets
from psa_pose.segmentation.data.dataset import make_whole_pictures
from psa_pose.segmentation.evaluation.evaluate import Truth, predict, shown
from psa_pose.segmentation.evaluation.result import COLUMNS, SegmentationResult
from psa_pose.segmentation.inference.labeller import Labeller
from psa_pose.segmentation.inference.protocols import PROTOCOL_WORDS
from psa_pose.segmentation.metrics.confusion import class_iou, summary
from psa_pose.segmentation.metrics.intervals import intervals
from psa_pose.segmentation.visualization import PicturePanel, fitted, panel_pictures
from psa_pose.visualization import html, svg

WORST, CONFUSED = 12, 15
SHOWN = (
    "Each picture: the image, its labels, the prediction, and wrong pixels in red; pixels that do not count in white."
)


def write_report(
    path: Path, cfg: CfgNode, title: str, result: SegmentationResult, model: Labeller | Truth, resamples: int = 1000
) -> None:
    """Write the page of a result into `path`; the worst pictures are predicted again."""
    (test_set,) = build_test_sets(cfg, lambda _: None, (result.protocol,))
    write_text(path, render(title, result, intervals(result.counts, resamples), _worst(cfg, test_set, result, model)))


def render(
    title: str, result: SegmentationResult, estimates: dict[str, Estimate], figures: Sequence[html.Figure]
) -> str:
    """The page's text."""
    protocol = f"protocol {PROTOCOL_WORDS[result.protocol]}, {result.split}, {len(result.names):,} images"
    iou = result.class_iou
    body = [
        f"<h1>{escape(title)}</h1><p>{escape(protocol)}</p>",
        _figures(result, estimates),
        f"<h2>IoU of each class, percent</h2>{svg.bars(list(iou), list(iou.values()), 'IoU of each class')}",
        _confusion(result),
        f"<h2>The pictures with the lowest mIoU</h2>{html.figure_grid(figures, width=30)}",
        html.note(SHOWN),
    ]
    return html.page(f"{title}: {protocol}", body, width=75)


def _figures(result: SegmentationResult, estimates: dict[str, Estimate]) -> str:
    rows = []
    for name, value in result.stats.items():
        found = estimates.get(name)
        span = f"{100 * found.low:.2f} to {100 * found.high:.2f}" if found else "-"
        rows.append([COLUMNS.get(name, name.replace("_", " ")), f"{100 * value:.2f}", span])
    note = (
        "95 % interval: bootstrap over images. mIoU: over the classes that occur; absent 0: those that occur nowhere "
        "count as 0. boundary: IoU of the pixels near an edge."
    )
    return f"<h2>Figures, percent</h2>{html.table(['', 'value', '95 % interval'], rows)}{html.note(note)}"


def _confusion(result: SegmentationResult) -> str:
    """The pairs of classes that cost most pixels."""
    total, names = result.confusion.sum(0), result.classes.names
    wrong = total * (1 - np.eye(len(names), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED]
    rows = []
    for label, taken in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[label, taken]:
            share = 100 * wrong[label, taken] / total[label].sum()
            rows.append([f"{names[label]} as {names[taken]}", f"{wrong[label, taken]:,}", f"{share:.1f}"])
    return f"<h2>What is taken for what</h2>{html.table(['', 'pixels', '% of the class'], rows)}"


def _worst(
    cfg: CfgNode, test_set: SegmentationTestSet, result: SegmentationResult, model: Labeller | Truth
) -> list[html.Figure]:
    """The pictures with the lowest mIoU, worst first."""
    scores = summary(result.counts)[:, 0]
    rows = {name: row for row, name in enumerate(test_set.dataset.pictures.names)}
    figures = []
    for number in np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable")[:WORST]:
        name = result.names[number]
        (picture,) = make_whole_pictures(test_set.dataset, [(0, rows[name])])
        images, labels = shown(cfg, test_set.protocol, [picture])
        prediction = predict(model, images, labels)[0].cpu().numpy()
        rgb = images[0] if test_set.dataset.channel_order == "rgb" else torch.flip(images[0], [2])
        panel = PicturePanel(rgb.numpy(), labels[0].numpy(), prediction)
        parts = [fitted(part) for part in panel_pictures(panel, result.classes)]
        each = class_iou(result.counts[number])
        missed = [f"{n} {100 * v:.0f}" for n, v in zip(result.classes.names, each, strict=True) if not np.isnan(v)]
        figures.append(html.Figure(parts, [f"{name}: mIoU {100 * scores[number]:.1f}", ", ".join(missed)]))
    return figures
