"""Results: the statistics with their protocol, tables of them, and the files of one evaluation.

A row always says whose boxes, which split, how many persons, and whether flipped. Beside a COCO result list stands what
it is a result of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from psa_pose.data.formats.coco import Annotations, read_annotations
from psa_pose.errors import DataError
from psa_pose.files import read_json, write_json
from psa_pose.metrics.coco_ap import STATS
from psa_pose.metrics.pck.head import PCKH, PCKH_COLUMNS
from psa_pose.metrics.pck.torso import PCK, PCK_COLUMNS
from psa_pose.metrics.protocol import BOXES
from psa_pose.skeleton import COCO, Skeleton, make_skeleton
from psa_pose.tables import format_columns

# Boxes that are tested on val2017.
_VAL2017 = {"ground_truth": 6352, "detector": 104_125}
# Name, protocol, then AP AP50 AP75 APM APL AR in percent on val2017 with flip test, as published; None: not printed.
# Detector boxes are those of the 56.4-AP person detector.
PUBLISHED: tuple[tuple[str, str, tuple[float | None, ...]], ...] = (
    ("SimpleBaseline R50 256x192", "detector", (70.4, 88.6, 78.3, 67.1, 77.2, 76.3)),
    ("SimpleBaseline R50 256x192", "ground_truth", (72.4, 91.5, 80.4, 69.7, 76.5, 75.6)),
    ("SimpleBaseline R101 384x288", "detector", (73.6, 89.6, 80.3, 69.9, 81.1, 79.1)),
    ("SimpleBaseline R101 384x288", "ground_truth", (75.5, 92.5, 82.6, 72.4, 80.8, 78.4)),
    ("HRNet-W32 256x192", "detector", (74.4, 90.5, 81.9, 70.8, 81.0, 79.8)),
    ("HRNet-W32 256x192", "ground_truth", (76.5, 93.5, 83.7, 73.9, 80.8, 79.3)),
    ("HRNet-W48 256x192 (mmpose)", "detector", (75.6, 90.8, 82.6, None, None, 80.9)),
    ("HRNet-W48 256x192 (mmpose)", "ground_truth", (77.6, 93.6, 84.8, 74.7, 81.9, 80.2)),
    ("HRNet-W32 384x288", "detector", (75.8, 90.6, 82.5, 72.0, 82.7, 80.9)),
    ("HRNet-W32 384x288", "ground_truth", (77.8, None, None, None, None, None)),
)
RESULTS, EVALUATION, ANNOTATIONS = "_results.json", "_evaluation.json", "_annotations.json"
_FLIP = {True: "yes", False: "no", None: "not stated"}


@dataclass(frozen=True)
class Evaluation:
    """The statistics of a data set, with the protocol that they hold for.

    protocol: a key of BOXES; "unknown" where a result file does not say.
    split: such as val2017.
    flip: whether the flip test was used; None where a result file does not say.
    persons, images: how many were tested.
    stats: COCO's STATS; MPII's PCKH_COLUMNS and joints; or LSP's STATS, PCK_COLUMNS and joints: 0 to 1, -1 undefined.
    box_recall: share of the annotated persons that a detector's boxes find at IoU 0.5; None where that is not known.
    """

    protocol: str
    split: str
    flip: bool | None
    persons: int
    images: int
    stats: dict[str, float]
    box_recall: float | None = None

    @property
    def score(self) -> float:
        """What the best checkpoint is chosen by: PCKh of MPII, PCK@0.2 of LSP, AP otherwise."""
        return self.stats[next((name for name in (PCKH, PCK) if name in self.stats), "AP")]

    def describe(self) -> str:
        """The protocol in words."""
        flip = {True: "with flip", False: "without flip", None: "flip not stated"}[self.flip]
        return f"{BOXES[self.protocol]} boxes, {self.split}, {flip}, {self.persons:,} persons, {self.images:,} images"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a recall that is not known is left out."""
        return {key: value for key, value in asdict(self).items() if value is not None or key != "box_recall"}


def format_table(evaluations: Sequence[Evaluation], names: Sequence[str] | None = None) -> str:
    """Aligned text table, one row per evaluation; percent with one decimal as in the papers, "-" where undefined.

    names: of the rows, in a first column. A detector's row says how many of the annotated persons its boxes find: no AP
    can be above what that allows.
    """
    columns: Sequence[str] = STATS[:6]
    if any(PCKH in e.stats for e in evaluations):
        columns = PCKH_COLUMNS
    elif all(PCK in e.stats for e in evaluations):
        columns = ("AP", *PCK_COLUMNS)
    header = ["boxes", "split", "flip", "persons", *columns]
    rows = [
        [BOXES[e.protocol], e.split, _FLIP[e.flip], f"{e.persons:,}", *_percents(e.stats, columns)] for e in evaluations
    ]
    if any(e.box_recall is not None for e in evaluations):
        header.insert(4, "box recall")
        for row, e in zip(rows, evaluations, strict=True):
            row.insert(4, "-" if e.box_recall is None else f"{100 * e.box_recall:.1f}")
    if names is not None:
        header, rows = ["model", *header], [[name, *row] for name, row in zip(names, rows, strict=True)]
    return format_columns(header, rows, left=3 + (names is not None))


def published_rows() -> tuple[list[str], list[Evaluation]]:
    """Names and evaluations of the published baselines, both protocols, for `format_table`."""
    rows = [
        Evaluation(protocol, "val2017", True, _VAL2017[protocol], 5000, _published_stats(values))
        for _, protocol, values in PUBLISHED
    ]
    return [f"{name}, published" for name, _, _ in PUBLISHED], rows


def _published_stats(values: tuple[float | None, ...]) -> dict[str, float]:
    known = {name: -1.0 if v is None else v / 100 for name, v in zip(STATS[:6], values, strict=True)}
    return {name: known.get(name, -1.0) for name in STATS}


def _percents(stats: dict[str, float], columns: Sequence[str]) -> list[str]:
    return ["-" if stats[name] < 0 else f"{100 * stats[name]:.1f}" for name in columns]


@dataclass(frozen=True)
class ResultFile:
    """A result list with what it is scored on; evaluation: None where nobody wrote down what it is."""

    path: Path
    results: list[dict[str, Any]]
    annotations: Annotations
    skeleton: Skeleton
    evaluation: Evaluation | None


def write_result_file(
    folder: Path, evaluation: Evaluation, results: list[dict[str, Any]], annotations: Annotations, skeleton: Skeleton
) -> Path:
    """Write keypoints_<split>_<protocol>_results.json and ..._evaluation.json: the statistics, their protocol, the
    annotation file and the skeleton, which `read_result_file` reads. The answer is the path of the result list.

    Annotations that are no whole file in COCO's form are written as ..._annotations.json.
    """
    path, truth = folder / f"keypoints_{evaluation.split}_{evaluation.protocol}{RESULTS}", annotations.path
    write_json(path, results)
    if not annotations.in_file:
        truth = path.with_name(path.name.removesuffix(RESULTS) + ANNOTATIONS)
        write_json(truth, annotations.content)
    write_json(
        _sidecar(path), {**evaluation.as_dict(), "annotations": str(truth.resolve()), "skeleton": skeleton.as_dict()}
    )
    return path


def read_result_file(
    path: Path, annotations: Path | Annotations | None = None, skeleton: Skeleton | None = None
) -> ResultFile:
    """A result list, read; annotations, skeleton: what to score it on, by default what is stated beside the list.

    Where nothing states a skeleton it is COCO's.
    Raises DataError for a missing or wrong file.
    """
    results = read_json(path, "result file")
    if not isinstance(results, list) or not all(isinstance(entry, dict) for entry in results):
        raise DataError(f"result file {path} is not a list of results; give a COCO keypoint result file")
    evaluation = None
    if _sidecar(path).exists():
        evaluation, stated, stated_skeleton = _read_sidecar(_sidecar(path))
        annotations, skeleton = annotations or stated, skeleton or stated_skeleton
    if annotations is None:
        raise DataError(f"no file beside {path} says on which annotations it was scored; give them with --annotations")
    skeleton = skeleton or COCO
    truth = read_annotations(annotations, skeleton) if isinstance(annotations, Path) else annotations
    return ResultFile(path, results, truth, skeleton, evaluation)


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(RESULTS) + EVALUATION)


def _read_sidecar(path: Path) -> tuple[Evaluation, Path, Skeleton]:
    content = read_json(path, "evaluation file")
    try:
        annotations = Path(content.pop("annotations"))
        # The first version scored COCO's keypoints only, and did not say so.
        skeleton = make_skeleton(content.pop("skeleton", COCO.as_dict()), f"evaluation file {path}")
        evaluation = Evaluation(**content)
        known = evaluation.protocol in BOXES
    except (AttributeError, KeyError, TypeError):
        known = False
    if not known:
        raise DataError(f"evaluation file {path} is not one that tools/test.py wrote; delete it or test again")
    return evaluation, annotations, skeleton
