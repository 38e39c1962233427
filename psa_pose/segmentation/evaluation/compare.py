"""`tools/compare.py` with two tests of segmentation networks: how their figures differ, paired by image."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from psa_pose.errors import DataError
from psa_pose.evaluation.compare import difference_table
from psa_pose.files import write_json
from psa_pose.metrics.significance import Estimate
from psa_pose.run_log import Info
from psa_pose.segmentation.evaluation.result import COLUMNS, format_stats
from psa_pose.segmentation.inference.protocols import PROTOCOL_WORDS
from psa_pose.segmentation.metrics.confusion import STATS, class_counts, class_iou, summary
from psa_pose.segmentation.metrics.intervals import compare
from psa_pose.tables import format_columns


@dataclass(frozen=True)
class CountsFile:
    """The counts that `SegmentationResult.write` left of a test.

    names (N,): of the images. classes: names (C,). counts (N, 3, C): see `class_counts`. protocol, split: words.
    """

    path: Path
    names: tuple[str, ...]
    classes: tuple[str, ...]
    counts: np.ndarray
    protocol: str
    split: str

    @property
    def stats(self) -> dict[str, float]:
        """STATS of the whole set, 0 to 1; those that are defined."""
        values = zip(STATS, summary(self.counts.sum(0)).tolist(), strict=True)
        return {name: value for name, value in values if not np.isnan(value)}


def read_counts(path: Path) -> CountsFile:
    """The .npz of a test. Raises DataError for any other file."""
    try:
        with np.load(path) as stored:
            names, classes, confusion = (stored[key] for key in ("names", "classes", "confusion"))
            protocol, split = (str(stored[key]) for key in ("protocol", "split"))
        fits = confusion.shape == (len(names), len(classes), len(classes)) and confusion.dtype.kind in "iu"
    except FileNotFoundError:
        raise DataError(f"result file {path} does not exist; check the path") from None
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        fits = False
    if not fits:
        raise DataError(f"{path} holds no counts that tools/test.py wrote; give segmentation_SPLIT_PROTOCOL.npz")
    words = tuple(names.tolist()), tuple(classes.tolist())
    return CountsFile(path, *words, class_counts(confusion), protocol, split)


def run_compare(
    first: Path, second: Path, resamples: int = 1000, json_path: Path | None = None, info: Info = print
) -> dict[str, Estimate]:
    """Second minus first of each of STATS, 0 to 1, told as tables; json_path: a file to write everything to.

    first, second: the .npz files of two tests on the same images. Raises DataError where they are of others, or of
    other classes.
    """
    pair = [read_counts(path) for path in (first, second)]
    if pair[0].classes != pair[1].classes:
        raise DataError(f"{first} and {second} are of different classes; compare results of one class list")
    counts, names = [side.counts for side in pair], [side.names for side in pair]
    differences = compare(counts[0], counts[1], names[0], names[1], resamples)
    info(f"first: {first}\nsecond: {second}\n")
    rows = [(side.protocol, side.split, len(side.names), side.stats) for side in pair]
    info(f"{format_stats(rows, ['first', 'second'])}\n")
    if pair[0].protocol != pair[1].protocol:
        words = [PROTOCOL_WORDS.get(side.protocol, side.protocol) for side in pair]
        info(f"warning: {words[0]} is compared with {words[1]}; the difference says nothing about the models\n")
    named = {COLUMNS.get(name, name.replace("_", " ")): found for name, found in differences.items()}
    info(f"{difference_table(named, resamples)}\n\n{_classes(pair)}")
    if json_path:
        both = {name: side.stats for name, side in zip(("first", "second"), pair, strict=True)}
        write_json(json_path, both | {"differences": {name: vars(found) for name, found in differences.items()}})
        info(f"\nwritten to {json_path}")
    return differences


def _classes(pair: list[CountsFile]) -> str:
    """IoU of each class that occurs in both, those that moved most first."""
    first, second = (class_iou(side.counts.sum(0)) for side in pair)
    known = np.flatnonzero(~np.isnan(second - first))
    order = known[np.argsort(-np.abs(second - first)[known], kind="stable")]
    rows = [
        [pair[0].classes[c], f"{100 * first[c]:.1f}", f"{100 * second[c]:.1f}", f"{100 * (second[c] - first[c]):+.1f}"]
        for c in order
    ]
    return f"IoU of each class, percent\n{format_columns(['class', 'first', 'second', 'difference'], rows)}"
