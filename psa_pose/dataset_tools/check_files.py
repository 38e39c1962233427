"""What is wrong with an annotation or detection file, told before hours are spent: mostly what makes AP 0 or -1."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.config.skeleton import keypoint_category
from psa_pose.data.checks.findings import Finding
from psa_pose.data.formats.coco_form import PERSON_CATEGORY, is_id, is_number, names_problem
from psa_pose.dataset_tools.check_facts import annotation_facts, detection_facts, unreadable
from psa_pose.errors import DataError
from psa_pose.files import read_json
from psa_pose.metrics.matching import AREAS
from psa_pose.skeleton import COCO, Skeleton


def check_annotation_file(
    path: Path, images: Path | None, skeleton: Skeleton, category: str = "", exif: str = "auto"
) -> tuple[list[Finding], list[str]]:
    """Everything found in a keypoint annotation file, and lines that count what is there.

    images: the folder of its images; None: not looked at. category, exif: as in DATASET. Raises DataError only for a
    file that is no JSON object.
    """
    content = read_json(path, "annotation file")
    if not isinstance(content, dict):
        raise DataError(f"annotation file {path} holds a {type(content).__name__}, not an object with images")
    findings: list[Finding] = []
    lists = {key: content.get(key) for key in ("images", "annotations", "categories")}
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            findings.append(Finding("error", f"there is no list {key!r} of objects: not a COCO keypoint file"))
            lists[key] = []
    pictures, rows, categories = (lists[key] or [] for key in ("images", "annotations", "categories"))
    findings += _check_images(pictures, images) + _check_categories(categories, rows, skeleton)
    rows = _of_persons(rows, categories, category, path)
    sized = [p for p in pictures if is_number(p.get("width")) and is_number(p.get("height"))]
    findings += _check_rows(rows, {_key(p.get("id")): p for p in sized}, skeleton)
    whole = [row for row in rows if not _lacking(row, skeleton)]
    findings += _check_population(whole)
    counts = _counts(pictures, rows, whole)
    try:
        facts, more = annotation_facts(path, images, skeleton, category, exif)
    except DataError as error:
        facts, more = unreadable(error, findings), []
    return findings + facts, counts + more


def check_detection_file(
    path: Path, annotation_path: Path, skeleton: Skeleton = COCO, category: str = ""
) -> tuple[list[Finding], list[str]]:
    """The same for a detector's boxes on the images of an annotation file."""
    content = read_json(path, "detection file")
    if not isinstance(content, list):
        raise DataError(f"detection file {path} must hold a list of detections, not a {type(content).__name__}")
    annotations = read_json(annotation_path, "annotation file")
    images = annotations.get("images") if isinstance(annotations, dict) else None
    known = {_key(image.get("id")) for image in images or [] if isinstance(image, dict)}
    whole = [
        d
        for d in content
        if isinstance(d, dict)
        and {"category_id", "bbox"} <= d.keys()
        and is_id(d.get("image_id"))
        and is_number(d.get("score"))
    ]
    person = _person_id(annotations, category, annotation_path)
    persons = [d for d in whole if d["category_id"] == person]
    cases = [
        (
            "error",
            len(content) - len(whole),
            "entries lack image_id, category_id, bbox or score, or these are no numbers",
        ),
        ("warning", len(whole) - len(persons), f"boxes are not of category {person} (person) and are not used"),
        ("error", sum(d["image_id"] not in known for d in persons), "boxes are on images of another split"),
        ("error", sum(not _positive(d["bbox"]) for d in persons), "boxes have no area"),
        ("error", int(not persons), "file has no box of a person: nothing would be evaluated with detector boxes"),
    ]
    findings = [Finding(level, f"{count:,} {text}") for level, count, text in cases if count]
    if whole and not persons:
        listed = ", ".join(sorted({str(d["category_id"]) for d in whole})[:5])
        findings.append(Finding("error", f"all {len(whole):,} boxes are of category {listed}; {person} is read"))
    counts = [f"{len(persons):,} person boxes on {len({d['image_id'] for d in persons}):,} images"]
    try:
        facts, recall = detection_facts(path, annotation_path, skeleton, category)
    except DataError as error:
        facts, recall = unreadable(error, findings), ""
    return findings + facts, counts + ([recall] if recall else [])


def _person_id(annotations: Any, category: str, path: Path) -> int:
    """The persons' category id; 1 where the file does not tell."""
    try:
        found = keypoint_category(annotations["categories"], category, path)
        return PERSON_CATEGORY if found is None else found["id"]
    except (DataError, KeyError, TypeError):
        return PERSON_CATEGORY


def _of_persons(
    rows: list[dict[str, Any]], categories: list[dict[str, Any]], category: str, path: Path
) -> list[dict[str, Any]]:
    """The annotations without those of other categories, where the categories tell which these are."""
    person = _person_id({"categories": categories}, category, path)
    mine = [row for row in rows if row.get("category_id", person) == person]
    return mine or rows


def _check_images(images: Sequence[dict[str, Any]], folder: Path | None) -> list[Finding]:
    findings = []
    ids = Counter(str(image.get("id")) for image in images)
    repeated = [i for i, n in ids.items() if n > 1]
    if repeated:
        findings.append(Finding("error", f"{_some(repeated, 'image ids')} repeat; number every image once"))
    poor = [
        str(i.get("id"))
        for i in images
        if not (is_id(i.get("id")) and "file_name" in i and is_number(i.get("width")) and is_number(i.get("height")))
    ]
    if poor:
        findings.append(Finding("error", f"{_some(poor, 'images')} lack id, file_name, width or height"))
    if not images:
        findings.append(Finding("error", "the file lists no image"))
    if folder is None:
        return findings
    if not folder.is_dir():
        return [*findings, Finding("error", f"the image folder {folder} does not exist; check the path")]
    missing = [str(i["file_name"]) for i in images if "file_name" in i and not _there(folder, str(i["file_name"]))]
    if missing:
        findings.append(Finding("error", f"{_some(missing, 'image files')} are not in {folder}"))
    return findings


def _there(folder: Path, name: str) -> bool:
    return os.path.isfile(folder / name.replace("\\", "/"))


def _check_categories(
    categories: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], skeleton: Skeleton
) -> list[Finding]:
    findings = []
    used = {_key(row.get("category_id")) for row in rows}
    unknown = used - {_key(c.get("id")) for c in categories}
    if unknown:
        findings.append(
            Finding(
                "error", f"category {sorted(map(str, unknown))[0]} is used but not listed: pycocotools' AP would be -1"
            )
        )
    for category in categories:
        problem = names_problem(category, skeleton)
        if problem and _key(category.get("id")) in used:
            findings.append(Finding("error", f"category {category.get('id')} {problem}"))
    return findings


def _lacking(row: dict[str, Any], skeleton: Skeleton) -> str:
    """Which rule of shape an annotation breaks; "" where none."""
    for key in ("id", "image_id", "bbox", "area", "keypoints"):
        if key not in row:
            return f"have no {key!r}"
    if not (is_id(row["id"]) and is_id(row["image_id"])):
        return "have an id or image_id that is no whole number"
    numbers = row["keypoints"]
    if not isinstance(numbers, list) or len(numbers) != 3 * skeleton.num_joints:
        return f"do not have {3 * skeleton.num_joints} keypoint numbers ({skeleton.num_joints} keypoints)"
    if not isinstance(row["bbox"], list) or len(row["bbox"]) != 4:
        return "have no bbox of 4 numbers"
    everything = [*numbers, *row["bbox"], row["area"]]
    if not all(map(is_number, everything)):
        return "have a number that is missing or not finite"
    return ""


def _check_rows(rows: Sequence[dict[str, Any]], images: dict[Any, dict[str, Any]], skeleton: Skeleton) -> list[Finding]:
    kinds: dict[tuple[str, str], list[str]] = {}

    def found(level: str, what: str, row: dict[str, Any]) -> None:
        kinds.setdefault((level, what), []).append(str(row.get("id")))

    seen = Counter(str(row.get("id")) for row in rows)
    for row in rows:
        lacking = _lacking(row, skeleton)
        if lacking:
            found("error", lacking, row)
            continue
        if seen[str(row["id"])] > 1:
            found("error", "share their id with another; COCO's evaluation would drop one", row)
        if row["id"] == 0:
            found("error", "have id 0, which COCO's evaluation takes for no match; number from 1", row)
        if row["image_id"] not in images:
            found("error", "are on an image that the file does not list", row)
            continue
        labelled = sum(v > 0 for v in row["keypoints"][2::3])
        if "num_keypoints" in row and row["num_keypoints"] != labelled:
            found("error" if (row["num_keypoints"] == 0) != (labelled == 0) else "warning",
                  "state a num_keypoints that is not the number of labelled keypoints", row)  # fmt: skip
        if labelled and not row.get("iscrowd"):
            _check_person(row, images[row["image_id"]], found)
    return [Finding(level, f"{_some(ids, 'annotations')} {what}") for (level, what), ids in kinds.items()]


def _check_person(row: dict[str, Any], image: dict[str, Any], found: Any) -> None:
    if row["area"] <= 0:
        found("error", "have keypoints but no area: their OKS is 0 wherever they are found; write the mask's area", row)
    elif row["area"] > 1.01 * max(row["bbox"][2], 0) * max(row["bbox"][3], 0):
        found("warning", "have an area larger than their box: OKS is too kind to them", row)
    if not _positive(row["bbox"]):
        found("error", "have keypoints but a box without area", row)
        return
    width, height = image["width"], image["height"]
    x, y, w, h = row["bbox"]
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        found("error", "have a box outside their image", row)
    elif x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1:
        found("warning", "have a box that reaches out of their image; it is clipped", row)
    points = np.array(row["keypoints"], float).reshape(-1, 3)
    points = points[points[:, 2] > 0]
    if (points[:, :2] < -1).any() or (points[:, :2] > np.array([width, height]) + 1).any():
        found("warning", "have labelled keypoints outside their image", row)
    if len(points) > 3 and (points[:, :2].max(0) <= 1).all():
        found("error", "have all keypoints within 1 pixel: fractions of the image? Write pixels", row)


def _check_population(rows: Sequence[dict[str, Any]]) -> list[Finding]:
    counting = [row for row in rows if not row.get("iscrowd") and any(v > 0 for v in row["keypoints"][2::3])]
    if not counting:
        return [Finding("error", "no annotation is a person (not a crowd) with a labelled keypoint: AP would be -1")]
    areas = np.array([row["area"] for row in counting])
    findings = []
    for size, name in (("medium", "medium (32² to 96²)"), ("large", "large (96²)")):
        low, high = AREAS[size]
        if not ((areas >= low) & (areas <= high)).any():
            findings.append(Finding("warning", f"no person is {name}: that AP is undefined (-1), shown as '-'"))
    return findings


def _counts(
    images: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], whole: Sequence[dict[str, Any]]
) -> list[str]:
    crowds = sum(bool(row.get("iscrowd")) for row in whole)
    blank = sum(not row.get("iscrowd") and not any(v > 0 for v in row["keypoints"][2::3]) for row in whole)
    return [
        f"{len(images):,} images, {len(rows):,} annotations: {len(whole) - crowds - blank:,} persons with keypoints, "
        f"{blank:,} without any, {crowds:,} crowds"
    ]


def _positive(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) and box[2] > 0 and box[3] > 0


def _key(value: Any) -> Any:
    """Something to look up by, whatever stands in the file."""
    return value if is_id(value) else repr(value)


def _some(names: Sequence[str], what: str) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names):,} {what} ({shown})"
