"""What a test of a segmentation network found: figures, tables and files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.files import write_bytes, write_json
from psa_pose.metrics.means import mean_of_known
from psa_pose.segmentation.classes import ClassList
from psa_pose.segmentation.inference.protocols import PROTOCOL_WORDS
from psa_pose.segmentation.metrics.confusion import STATS, class_counts, class_iou, summary
from psa_pose.segmentation.visualization import PicturePanel, panel_sheet
from psa_pose.tables import format_columns
from psa_pose.visualization.draw import write_picture

COLUMNS = {
    "miou": "mIoU",
    "miou_absent_is_zero": "absent 0",
    "pixel_accuracy": "pixel acc",
    "mean_accuracy": "mean acc",
    "frequency_weighted_iou": "fwIoU",
    "boundary_iou": "boundary",
    "iiou": "iIoU",
    "category_iou": "cat IoU",
    "category_iiou": "cat iIoU",
}
"""Name of a figure -> its column, percent."""


@dataclass(frozen=True)
class SegmentationResult:
    """A network's answers on a test set, scored.

    names (N,): of the images, sorted. confusion (N, C, C): of each, rows are labels. boundary (3, C): see
    `metrics.boundary`. server: Cityscapes' category IoU and iIoU, where there are instances. masks: name -> index PNG.
    panels: a few pictures to look at; on the main process.
    """

    protocol: str
    split: str
    classes: ClassList
    names: tuple[str, ...]
    confusion: np.ndarray
    boundary: np.ndarray
    server: Mapping[str, float]
    masks: Mapping[str, bytes]
    panels: Sequence[PicturePanel]

    @property
    def counts(self) -> np.ndarray:
        """(N, 3, C) right, labelled and predicted pixels of each image."""
        return class_counts(self.confusion)

    @property
    def score(self) -> float:
        """mIoU, 0 to 1; 0 where nothing is labelled."""
        return self.stats.get("miou", 0.0)

    @property
    def stats(self) -> dict[str, float]:
        """Every figure that is defined, 0 to 1."""
        values = dict(zip(STATS, summary(self.counts.sum(0)).tolist(), strict=True))
        values["boundary_iou"] = float(mean_of_known(class_iou(self.boundary), 0))
        return {name: value for name, value in (values | dict(self.server)).items() if not np.isnan(value)}

    @property
    def class_iou(self) -> dict[str, float | None]:
        """IoU of each class, 0 to 1; None where it occurs nowhere."""
        values = class_iou(self.counts.sum(0)).tolist()
        return {n: None if np.isnan(v) else v for n, v in zip(self.classes.names, values, strict=True)}

    @property
    def picture(self) -> np.ndarray | None:
        """Image, truth, prediction and errors of a few pictures."""
        return panel_sheet(self.panels, self.classes) if self.panels else None

    @property
    def stem(self) -> str:
        """The start of its files' names."""
        return f"segmentation_{self.split}_{self.protocol}"

    def row(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "protocol": self.protocol,
            "split": self.split,
            "images": len(self.names),
            "stats": self.stats,
            "class_iou": self.class_iou,
        }

    def write(self, folder: Path) -> Path:
        """The path of the figures, after they, the counts of every image, index PNGs and a sheet were written."""
        path = folder / f"{self.stem}.json"
        counts = io.BytesIO()
        np.savez_compressed(
            counts,
            names=np.array(self.names),
            classes=np.array(self.classes.names),
            confusion=self.confusion,
            protocol=np.array(self.protocol),
            split=np.array(self.split),
        )
        write_bytes(path.with_suffix(".npz"), counts.getvalue())
        for name, png in self.masks.items():
            write_bytes(folder / f"masks_{self.split}_{self.protocol}" / f"{name}.png", png)
        if self.picture is not None:
            write_picture(folder / f"predictions_{self.split}_{self.protocol}.png", self.picture)
        write_json(path, self.row())
        return path


def format_results(results: Sequence[SegmentationResult]) -> str:
    """Aligned text, a row per result that begins with its protocol; percent."""
    return format_stats([(r.protocol, r.split, len(r.names), r.stats) for r in results])


def format_stats(rows: Sequence[tuple[str, str, int, Mapping[str, float]]], names: Sequence[str] = ()) -> str:
    """Rows of (protocol, split, images, figures 0 to 1) as aligned text; names: of the rows, in a first column."""
    columns = [key for key in COLUMNS if any(key in stats for _, _, _, stats in rows)]
    header = ["protocol", "split", "images", *(COLUMNS[key] for key in columns)]
    cells = [
        [PROTOCOL_WORDS.get(protocol, protocol), split, f"{images:,}" if images else "-",
         *(f"{100 * stats[key]:.2f}" if key in stats else "-" for key in columns)]
        for protocol, split, images, stats in rows
    ]  # fmt: skip
    if names:
        header, cells = ["model", *header], [[name, *row] for name, row in zip(names, cells, strict=True)]
    return format_columns(header, cells, left=2 + bool(names))
