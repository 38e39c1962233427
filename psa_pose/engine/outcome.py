"""The files of one evaluation: a COCO result list, and beside it what it is a result of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psa_pose.checkpoints import write_whole
from psa_pose.data.coco import Annotations, read_annotations, read_json
from psa_pose.errors import DataError
from psa_pose.evaluation.coco_ap import json_bytes
from psa_pose.evaluation.report import BOXES, Evaluation
from psa_pose.skeleton import Skeleton

RESULTS, EVALUATION = "_results.json", "_evaluation.json"


@dataclass(frozen=True)
class Scored:
    """A result list with the annotations that it is scored on; evaluation: None where nobody wrote down what it is."""

    path: Path
    results: list[dict[str, Any]]
    annotations: Annotations
    evaluation: Evaluation | None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_whole(path, lambda file: file.write(json_bytes(content)))


def write_scored(folder: Path, evaluation: Evaluation, results: list[dict[str, Any]], annotations: Path) -> Path:
    """Write keypoints_<split>_<protocol>_results.json and ..._evaluation.json: the statistics, their protocol, and the
    annotation file, which `read_scored` reads. The answer is the path of the result list.
    """
    path = folder / f"keypoints_{evaluation.split}_{evaluation.protocol}{RESULTS}"
    write_json(path, results)
    write_json(_sidecar(path), evaluation.as_dict() | {"annotations": str(annotations.resolve())})
    return path


def read_scored(path: Path, skeleton: Skeleton, annotations: Path | None = None) -> Scored:
    """Read a result list; annotations: the file to score it on, by default the one named beside the list.

    Raises DataError for a missing or wrong file.
    """
    results = read_json(path, "result file")
    if not isinstance(results, list) or not all(isinstance(entry, dict) for entry in results):
        raise DataError(f"result file {path} is not a list of results; give a COCO keypoint result file")
    evaluation = None
    if _sidecar(path).exists():
        evaluation, stated = _read_sidecar(_sidecar(path))
        annotations = annotations or stated
    if annotations is None:
        raise DataError(f"no file beside {path} says on which annotations it was scored; give them with --annotations")
    return Scored(path, results, read_annotations(annotations, skeleton), evaluation)


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(RESULTS) + EVALUATION)


def _read_sidecar(path: Path) -> tuple[Evaluation, Path]:
    content = read_json(path, "evaluation file")
    try:
        annotations = Path(content.pop("annotations"))
        evaluation = Evaluation(**content)
        known = evaluation.protocol in BOXES
    except (AttributeError, KeyError, TypeError):
        known = False
    if not known:
        raise DataError(f"evaluation file {path} is not one that tools/test.py wrote; delete it or test again")
    return evaluation, annotations
