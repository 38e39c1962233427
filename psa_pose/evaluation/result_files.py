"""The files of one evaluation: a COCO result list, and beside it what it is a result of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psa_pose.data.formats.coco import Annotations, read_annotations
from psa_pose.errors import DataError
from psa_pose.evaluation.result import Evaluation
from psa_pose.files import read_json, write_json
from psa_pose.metrics.protocol import BOXES
from psa_pose.skeleton import COCO, Skeleton, make_skeleton

RESULTS, EVALUATION, ANNOTATIONS = "_results.json", "_evaluation.json", "_annotations.json"


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
    annotation file and the skeleton, which `read_scored` reads. The answer is the path of the result list.

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
