"""COCO keypoint annotations as arrays: one row per person, small to copy, nothing shared with Python lists."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.data.formats.coco_form import (
    IMPORT,
    PERSON_CATEGORY,
    check_annotations,
    checked_images,
    names_problem,
    person_category,
)
from psa_pose.errors import DataError
from psa_pose.files import read_json
from psa_pose.skeleton import Skeleton


@dataclass(frozen=True)
class Persons:
    """N persons on M images, as arrays that forked workers share without copying.

    image_ids (M,) int64, image_names (M,) fixed-width bytes: the images. image_sizes (M, 2) float64: their width and
    height, 0 where nobody states it.
    image (N,) int64: row of each person's image. annotation_ids (N,) int64: for error messages (-1: a detection).
    boxes (N, 4) float64: x, y, width, height in image pixels. scores (N,) float64: of the box, 1 for ground truth.
    joints (N, K, 2) float32: image pixels. visible (N, K) float32: 1 where the joint is labelled (COCO's v > 0).
    """

    image_ids: np.ndarray
    image_names: np.ndarray
    image_sizes: np.ndarray
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
        if rows.dtype == bool and rows.all():
            return self
        shared = {"image_ids", "image_names", "image_sizes"}
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in shared})


@dataclass(frozen=True)
class Annotations:
    """A parsed annotation file: its path for messages, its content for the evaluation.

    category: id of the persons. All annotations in the content are of it, and each states category_id and iscrowd.
    other_categories: how many annotations of other categories the file has.
    in_file: whether the content is that of the whole file, which is in COCO's form.
    """

    path: Path
    content: dict[str, Any]
    category: int = PERSON_CATEGORY
    other_categories: int = 0
    in_file: bool = True


@dataclass(frozen=True)
class Labels:
    """N annotated persons as the file states them: not a crowd, at least one labelled keypoint; and its M images.

    path, category, other_categories: as in `Annotations`. image_ids, image_names, image_sizes: as in `Persons`.
    ids, image (N,) int64: annotation ids, rows of the images. boxes (N, 4) float64: x, y, width, height, not clipped.
    joints (N, K, 2) float32, visible (N, K) bool. areas (N,) float64.
    """

    path: Path
    category: int
    other_categories: int
    image_ids: np.ndarray
    image_names: np.ndarray
    image_sizes: np.ndarray
    ids: np.ndarray
    image: np.ndarray
    boxes: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sizes(self) -> np.ndarray:
        """(N, 2) float64: of each person's image."""
        return self.image_sizes[self.image]


def read_annotations(path: Path, skeleton: Skeleton, category: str = "") -> Annotations:
    """The content of a COCO keypoint annotation file, its form checked; annotations of other categories are left out.

    category: name or id of the persons' category; "" takes the one that has keypoints, whatever its id. A missing
    iscrowd is 0, a missing category_id the persons'. Raises DataError for the first entry of another form.
    """
    content = _read_lists(path, ("images", "annotations", "categories"))
    for annotation in content["annotations"]:
        if not isinstance(annotation, dict) or "id" not in annotation:
            raise DataError(f"annotation file {path}: annotation {annotation!r:.80} has no id; write the file anew")
    person = person_category(content, category, path)
    wrong_names = names_problem(next((c for c in content["categories"] if c["id"] == person), {}), skeleton)
    if wrong_names:
        raise DataError(f"annotation file {path}: category {person} {wrong_names}")
    fill = {"category_id": person, "iscrowd": 0}
    persons = [fill | a for a in content["annotations"] if a.get("category_id", person) == person]
    check_annotations(persons, {image["id"] for image in content["images"]}, path, skeleton)
    others = len(content["annotations"]) - len(persons)
    return Annotations(path, {**content, "annotations": persons}, person, others)


def select_images(annotations: Annotations, first: int, last: int) -> Annotations:
    """The images from `first` to `last`, counted from 1 in the order of the file, with their persons.

    0, 0 takes all. Raises DataError where the file lists fewer.
    """
    if not last:
        return annotations
    images = annotations.content["images"]
    check_range(annotations.path, first, last, len(images))
    chosen = images[first - 1 : last]
    ids = {image["id"] for image in chosen}
    rows = [a for a in annotations.content["annotations"] if a["image_id"] in ids]
    content = {**annotations.content, "images": chosen, "annotations": rows}
    return replace(annotations, content=content, in_file=False)


def check_range(path: Path, first: int, last: int, images: int) -> None:
    """Raise DataError where a file has no image number `last`."""
    if last > images:
        raise DataError(
            f"annotation file {path} lists {images:,} images, not {last:,}: images {first} to {last} are wanted; check "
            "DATASET.TRAIN_RANGE and DATASET.TEST_RANGE"
        )


def read_image_info(path: Path) -> Annotations:
    """The content of a file that only lists images, such as COCO's image_info_test-dev2017.json."""
    content = _read_lists(path, ("images",))
    if content.get("annotations"):
        raise DataError(f"{path} holds annotations; a submission is for images without: test without --submission")
    return Annotations(path, {**content, "annotations": []})


def _read_lists(path: Path, lists: tuple[str, ...]) -> dict[str, Any]:
    content = read_json(path, "annotation file")
    if not isinstance(content, dict):
        raise DataError(f"annotation file {path} holds a {type(content).__name__}, not an object with images; {IMPORT}")
    for key in lists:
        if not isinstance(content.get(key), list):
            raise DataError(
                f"annotation file {path} has no list {key!r}; it must be a COCO person-keypoints file: {IMPORT}"
            )
    return {**content, "images": checked_images(content["images"], path)}


def labels_of(annotations: Annotations, skeleton: Skeleton) -> Labels:
    """The persons that the published pipelines train and evaluate on, as the file states them."""
    content = annotations.content
    row_of = {image["id"]: row for row, image in enumerate(content["images"])}
    chosen = [a for a in content["annotations"] if not a["iscrowd"] and any(a["keypoints"][2::3])]
    image = np.array([row_of[a["image_id"]] for a in chosen], np.int64)
    keypoints = np.array([a["keypoints"] for a in chosen], np.float32).reshape(-1, skeleton.num_joints, 3)
    image_ids, image_names = image_arrays(annotations)
    return Labels(
        path=annotations.path,
        category=annotations.category,
        other_categories=annotations.other_categories,
        image_ids=image_ids,
        image_names=image_names,
        image_sizes=image_sizes(annotations),
        ids=np.array([a["id"] for a in chosen], np.int64),
        image=image,
        boxes=np.array([a["bbox"] for a in chosen], float).reshape(-1, 4),
        joints=keypoints[..., :2].copy(),
        visible=keypoints[..., 2] > 0,
        areas=np.array([a["area"] for a in chosen], float),
    )


def ground_truth_persons(annotations: Annotations, skeleton: Skeleton) -> tuple[Persons, list[str]]:
    """`labelled_persons` of a file's annotations."""
    return labelled_persons(labels_of(annotations, skeleton))


def labelled_persons(labels: Labels) -> tuple[Persons, list[str]]:
    """The persons that the published pipelines train and evaluate on, and what is wrong with the others that should be.

    The box is clipped as in HRNet's code (x2 = min(W - 1, x1 + max(0, w - 1)), width x2 - x1). A person whose area is
    not positive or whose box has no area left is not returned but described, with its annotation id, in the second
    value.
    """
    boxes = clip_boxes(labels.boxes, labels.sizes)
    usable = (labels.areas > 0) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    problems = [
        f"annotation file {labels.path}: annotation {labels.ids[i]} on image {labels.image_ids[labels.image[i]]} has "
        f"keypoints but no area inside the image (area {labels.areas[i]:g}, bbox {labels.boxes[i].tolist()})"
        for i in np.flatnonzero(~usable)
    ]
    persons = Persons(
        labels.image_ids,
        labels.image_names,
        labels.image_sizes,
        image=labels.image,
        annotation_ids=labels.ids,
        boxes=boxes,
        scores=np.ones(len(labels)),
        joints=labels.joints,
        visible=labels.visible.astype(np.float32),
    )
    return persons.select(usable), problems


def image_arrays(annotations: Annotations) -> tuple[np.ndarray, np.ndarray]:
    """Ids (M,) int64 and file names (M,) bytes of the annotated images."""
    images = annotations.content["images"]
    names = np.array([str(image["file_name"]).encode() for image in images] or [b""])[: len(images)]
    return np.array([image["id"] for image in images], np.int64), names


def image_sizes(annotations: Annotations) -> np.ndarray:
    """Width and height (M, 2) float64 that the file states of its images; 0 where it states none (MPII)."""
    sizes = [(image.get("width", 0), image.get("height", 0)) for image in annotations.content["images"]]
    return np.array(sizes, float).reshape(-1, 2)


def clip_boxes(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) clipped to images of size (N, 2) as HRNet's loader does it; what lies outside ends with no area."""
    low = np.maximum(boxes[:, :2], 0)
    high = np.minimum(sizes - 1, low + np.maximum(boxes[:, 2:] - 1, 0))
    return np.concatenate([low, np.maximum(high - low, 0)], axis=1)
