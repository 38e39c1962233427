"""COCO keypoint annotations as arrays: one row per person, small to copy, nothing shared with Python lists."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.errors import DataError
from psa_pose.files import read_json
from psa_pose.skeleton import Skeleton


@dataclass(frozen=True)
class Persons:
    """N persons on M images, as arrays that forked workers share without copying.

    image_ids (M,) int64, image_names (M,) fixed-width bytes: the images.
    image (N,) int64: row of each person's image. annotation_ids (N,) int64: for error messages (-1: a detection).
    boxes (N, 4) float64: x, y, width, height in image pixels. scores (N,) float64: of the box, 1 for ground truth.
    joints (N, K, 2) float32: image pixels. visible (N, K) float32: 1 where the joint is labelled (COCO's v > 0).
    """

    image_ids: np.ndarray
    image_names: np.ndarray
    image: np.ndarray
    annotation_ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    joints: np.ndarray
    visible: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def select(self, rows: np.ndarray) -> Persons:
        """The persons of the given rows (indices or mask), on the same images."""
        shared = {"image_ids", "image_names"}
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in shared})


@dataclass(frozen=True)
class Annotations:
    """A parsed annotation file: its path for messages, its content for the evaluation."""

    path: Path
    content: dict[str, Any]


def read_annotations(path: Path, skeleton: Skeleton) -> Annotations:
    """Read a COCO keypoint annotation file and check its shape: images, annotations, categories, K keypoints each."""
    content = _read_images(path, ("images", "annotations", "categories"))
    image_ids = {image["id"] for image in content["images"]}
    for annotation in content["annotations"]:
        _check_annotation(annotation, image_ids, path, skeleton)
    return Annotations(path, content)


def read_image_info(path: Path) -> Annotations:
    """Read a file that only lists images, such as COCO's image_info_test-dev2017.json; nobody is annotated in it."""
    content = _read_images(path, ("images",))
    if content.get("annotations"):
        raise DataError(f"{path} holds annotations; a submission is for images without: test without --submission")
    return Annotations(path, {**content, "annotations": []})


def _read_images(path: Path, lists: tuple[str, ...]) -> dict[str, Any]:
    content = read_json(path, "annotation file")
    if not isinstance(content, dict):
        raise DataError(f"annotation file {path} holds a {type(content).__name__}, not an object with images")
    for key in lists:
        if not isinstance(content.get(key), list):
            raise DataError(f"annotation file {path} has no list {key!r}; it must be a COCO person-keypoints file")
    for image in content["images"]:
        if not isinstance(image, dict) or not {"id", "file_name", "width", "height"} <= image.keys():
            raise DataError(f"annotation file {path}: image {image!r:.80} needs id, file_name, width and height")
        sizes = (image["width"], image["height"])
        if not (is_id(image["id"]) and _is_name(image["file_name"]) and all(is_number(n) and n >= 1 for n in sizes)):
            raise DataError(
                f"annotation file {path}: image {image!r:.80} needs a whole number as id, a name, and width and "
                "height in pixels; write the file anew"
            )
    image_ids = {image["id"] for image in content["images"]}
    if len(image_ids) != len(content["images"]):
        raise DataError(f"annotation file {path}: image ids repeat; each image needs its own id")
    return content


def is_number(value: Any) -> bool:
    """A finite number of a size that pixels and scores have; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def is_id(value: Any) -> bool:
    """A whole number that fits into 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and value.isprintable()


def _check_annotation(annotation: Any, image_ids: set[int], path: Path, skeleton: Skeleton) -> None:
    if not isinstance(annotation, dict) or "id" not in annotation:
        raise DataError(f"annotation file {path}: annotation {annotation!r:.80} has no id")
    where = f"annotation file {path}: annotation {annotation['id']}"
    missing = {"image_id", "bbox", "keypoints", "area", "iscrowd"} - annotation.keys()
    if missing:
        raise DataError(f"{where} has no {min(missing)!r}; it must be a COCO person-keypoints file")
    if not is_id(annotation["id"]) or not is_id(annotation["image_id"]):
        raise DataError(f"{where}: id and image_id must be whole numbers; write the file anew")
    if annotation["image_id"] not in image_ids:
        raise DataError(f"{where} belongs to image {annotation['image_id']}, which the file does not list")
    if not all(isinstance(annotation[key], list) for key in ("bbox", "keypoints")):
        raise DataError(f"{where}: bbox and keypoints must be lists of numbers; write the file anew")
    if len(annotation["keypoints"]) != 3 * skeleton.num_joints:
        raise DataError(
            f"{where} has {len(annotation['keypoints'])} keypoint numbers; "
            f"{skeleton.num_joints} keypoints of the {skeleton.name} skeleton need {3 * skeleton.num_joints}: "
            "DATASET.SKELETON says which keypoints the data has"
        )
    numbers = [*annotation["bbox"], *annotation["keypoints"], annotation["area"]]
    if len(annotation["bbox"]) != 4 or not all(map(is_number, numbers)):
        raise DataError(f"{where}: bbox (4 numbers), keypoints and area must be finite numbers")


def ground_truth_persons(annotations: Annotations, skeleton: Skeleton) -> tuple[Persons, list[str]]:
    """The persons that the published pipelines train and evaluate on, and what is wrong with the others that should be.

    Selected: not a crowd, at least one labelled keypoint. The box is clipped as in HRNet's code
    (x2 = min(W - 1, x1 + max(0, w - 1)), width x2 - x1). A selected person whose area is not positive or whose box has
    no area left is not returned but described, with its annotation id, in the second value.
    """
    images = {image["id"]: row for row, image in enumerate(annotations.content["images"])}
    sizes = np.array([[i["width"], i["height"]] for i in annotations.content["images"]], float).reshape(-1, 2)
    chosen = [
        a for a in annotations.content["annotations"] if not a["iscrowd"] and any(v > 0 for v in a["keypoints"][2::3])
    ]
    rows = np.array([images[a["image_id"]] for a in chosen], np.int64)
    boxes = clip_boxes(np.array([a["bbox"] for a in chosen], float).reshape(-1, 4), sizes[rows])
    areas = np.array([a["area"] for a in chosen], float)
    usable = (areas > 0) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    problems = [
        f"annotation file {annotations.path}: annotation {a['id']} on image {a['image_id']} has keypoints but no area "
        f"inside the image (area {a['area']}, bbox {a['bbox']})"
        for a in itertools.compress(chosen, ~usable)
    ]
    keypoints = np.array([a["keypoints"] for a in chosen], np.float32).reshape(-1, skeleton.num_joints, 3)
    persons = Persons(
        *image_arrays(annotations),
        image=rows,
        annotation_ids=np.array([a["id"] for a in chosen], np.int64),
        boxes=boxes,
        scores=np.ones(len(chosen)),
        joints=keypoints[..., :2].copy(),
        visible=(keypoints[..., 2] > 0).astype(np.float32),
    )
    return persons.select(usable), problems


def image_arrays(annotations: Annotations) -> tuple[np.ndarray, np.ndarray]:
    """Ids (M,) int64 and file names (M,) bytes of the annotated images."""
    images = annotations.content["images"]
    names = np.array([str(image["file_name"]).encode() for image in images] or [b""])[: len(images)]
    return np.array([image["id"] for image in images], np.int64), names


def clip_boxes(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) clipped to images of size (N, 2) as HRNet's loader does it; what lies outside ends with no area."""
    low = np.maximum(boxes[:, :2], 0)
    high = np.minimum(sizes - 1, low + np.maximum(boxes[:, 2:] - 1, 0))
    return np.concatenate([low, np.maximum(high - low, 0)], axis=1)
