"""The form of a COCO keypoint annotation file: what its entries must hold, and the one sentence where they do not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psa_pose.config.skeleton import keypoint_category
from psa_pose.errors import DataError
from psa_pose.skeleton import Skeleton, name_key

# COCO's category id of a person, which detectors write.
PERSON_CATEGORY = 1
IMPORT = "tools/import_dataset.py turns what label tools write into this form"
# Larger than any pixel or area.
MOST = 1e9


def is_number(value: Any) -> bool:
    """A finite number of a size that pixels and scores have; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST


def is_id(value: Any) -> bool:
    """A whole number that fits into 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def are_numbers(values: Any) -> bool:
    """True for a list whose entries are all `is_number`; made for many lists."""
    if not isinstance(values, list) or not set(map(type, values)) <= {int, float}:
        return False
    # A NaN may hide from min and max, but not from the sum.
    return not values or (min(values) > -MOST and max(values) < MOST and math.isfinite(sum(values)))


def wrong_number(value: Any) -> str:
    """What stands where a number belongs, for a sentence: "null", "the text '640'", "NaN"."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"the text {value!r:.40}"
    if isinstance(value, int | float):
        return "NaN" if value != value else f"{value:.3g}" if math.isfinite(_float(value)) else "an infinite number"
    return f"a {'list' if isinstance(value, list) else type(value).__name__}"


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def checked_images(images: Sequence[Any], path: Path) -> list[dict[str, Any]]:
    """The images of a file, folders in their names divided by "/". Raises DataError for the first of another form."""
    answer = []
    for image in images:
        problem = image_problem(image)
        if problem:
            number = f" {image['id']!r:.40}" if isinstance(image, dict) and "id" in image else f" {image!r:.80}"
            raise DataError(f"annotation file {path}: image{number} {problem}")
        name = image["file_name"]
        answer.append({**image, "file_name": name.replace("\\", "/")} if "\\" in name else image)
    if len({image["id"] for image in answer}) != len(answer):
        raise DataError(f"annotation file {path}: image ids repeat; each image needs its own id")
    return answer


def image_problem(image: Any) -> str:
    """What is wrong with the form of an image's entry, and the remedy; "" where nothing is."""
    if not isinstance(image, dict) or not {"id", "file_name", "width", "height"} <= image.keys():
        return "needs id, file_name, width and height"
    if not is_id(image["id"]):
        return f"has {wrong_number(image['id'])} as id; write a whole number"
    name = image["file_name"]
    if not isinstance(name, str) or name in ("", ".", "..") or not name.isprintable():
        return f"has {name!r:.40} as file_name, which is no name of a file; write its path below the image folder"
    for key in ("width", "height"):
        if not is_number(image[key]):
            return f"has {wrong_number(image[key])} as {key}; write its pixels as a number"
        if image[key] < 1:
            return f"has {image[key]:g} as {key}; write its pixels"
    return ""


def person_category(content: dict[str, Any], wanted: str, path: Path) -> int:
    """The id of the persons' category: the wanted one (name or id), or the one that has keypoints.

    Where no category names keypoints it is the one of the annotations that have some. Raises DataError where there are
    two, and where no annotation is of it but of others.
    """
    named = keypoint_category(content["categories"], wanted, path)
    rows = content["annotations"]
    used = Counter(row.get("category_id", None) for row in rows if is_id(row.get("category_id", 0)))
    if len(rows) > sum(used.values()):
        wrong = next(row for row in rows if not is_id(row.get("category_id", 0)))
        raise DataError(
            f"annotation file {path}: annotation {wrong['id']} has {wrong_number(wrong['category_id'])} as "
            "category_id; write the id of its category"
        )
    stated = [key for key in used if key is not None]
    if named is None:
        candidates = sorted({row["category_id"] for row in rows if "category_id" in row and row.get("keypoints")})
        if len(candidates) > 1:
            raise DataError(
                f"annotation file {path}: annotations of {len(candidates)} categories ({_listed(candidates)}) have "
                "keypoints; say which are the persons with DATASET.CATEGORY"
            )
        return candidates[0] if candidates else PERSON_CATEGORY
    if rows and named["id"] not in used and None not in used:
        raise DataError(
            f"annotation file {path}: all {len(rows):,} annotations are of category {_listed(stated)}; "
            f"{named['id']} ({named.get('name', 'without a name')}), which has the keypoints, is read: write that "
            "category_id, or say which category the persons are with DATASET.CATEGORY"
        )
    return named["id"]


def _listed(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:5])) + (", ..." if ids[5:] else "")


def check_annotations(persons: list[dict[str, Any]], image_ids: set[int], path: Path, skeleton: Skeleton) -> None:
    """Raise DataError for the first person's entry of another form, or that contradicts itself or the images."""
    for person in persons:
        problem = annotation_problem(person, skeleton)
        if not problem and person["image_id"] not in image_ids:
            problem = f"belongs to image {person['image_id']}, which the file does not list; give the whole file"
        if not problem and "num_keypoints" in person:
            problem = _count_problem(person)
        if problem:
            raise DataError(f"annotation file {path}: annotation {person['id']!r:.40} {problem}")
    twice = [i for i, count in Counter(person["id"] for person in persons).items() if count > 1]
    if twice:
        raise DataError(
            f"annotation file {path}: annotation id {twice[0]} is given more than once ({len(twice)} such ids); COCO's "
            "evaluation would drop persons: number them anew"
        )


def _count_problem(person: dict[str, Any]) -> str:
    stated, labelled = person["num_keypoints"], sum(v > 0 for v in person["keypoints"][2::3])
    if (stated == 0) == (labelled == 0):
        return ""
    return (
        f"states {stated} as num_keypoints and has {labelled} labelled keypoints (v > 0); COCO's evaluation would "
        f"{'leave it out' if stated == 0 else 'count it'}: make the two agree"
    )


def annotation_problem(annotation: dict[str, Any], skeleton: Skeleton) -> str:
    """What is wrong with the form of a person's entry, and the remedy; "" where nothing is."""
    missing = {"id", "image_id", "bbox", "keypoints", "area"} - annotation.keys()
    if missing:
        return f"has no {min(missing)!r}, which COCO's person keypoints have; {IMPORT}"
    for key in ("id", "image_id"):
        if not is_id(annotation[key]):
            return f"has {wrong_number(annotation[key])} as {key}; write a whole number"
    if annotation.get("iscrowd", 0) not in (0, 1) or not isinstance(annotation.get("iscrowd", 0), int):
        return f"has {wrong_number(annotation['iscrowd'])} as iscrowd; write 0, or 1 for a crowd"
    return _keypoint_problem(annotation["keypoints"], skeleton) or _size_problem(annotation)


def _size_problem(annotation: dict[str, Any]) -> str:
    box, area = annotation["bbox"], annotation["area"]
    if not isinstance(box, list) or len(box) != 4:
        return "has a bbox that is not a list of x, y, width and height; write these 4 numbers"
    if not are_numbers(box):
        wrong = next(value for value in box if not is_number(value))
        return f"has {wrong_number(wrong)} in its bbox; write 4 finite numbers: x, y, width and height in pixels"
    return "" if is_number(area) else f"has {wrong_number(area)} as area; write a finite number, square pixels"


def _keypoint_problem(values: Any, skeleton: Skeleton) -> str:
    K = skeleton.num_joints
    if not isinstance(values, list):
        return f"has {wrong_number(values)} as keypoints; write the list x, y, v of each of {K} keypoints"
    if any(isinstance(value, list | dict) for value in values[:1]):
        return f"has its keypoints as nested lists; COCO has one flat list x, y, v, x, y, v ...: {IMPORT}"
    if len(values) == 2 * K and len(values) != 3 * K:
        return f"has {2 * K} keypoint numbers: pairs x, y for {K} keypoints; COCO has x, y, v: {IMPORT}"
    if len(values) != 3 * K:
        return (
            f"has {len(values)} keypoint numbers; {K} keypoints of the {skeleton.name} skeleton need {3 * K}: "
            "DATASET.SKELETON says which keypoints the data has"
        )
    flags = values[2::3]
    if are_numbers(values) and set(flags) <= {0, 1, 2}:
        return ""
    for number, value in enumerate(values):
        name, part = skeleton.names[number // 3], "xyv"[number % 3]
        if part == "v" and not (are_numbers([value]) and value in (0, 1, 2)):
            return (
                f"has {wrong_number(value)} as v of its keypoint {name}; write 0 where it is not labelled, 1 where it "
                "is hidden, 2 where it is seen"
            )
        if not is_number(value):
            return (
                f"has {wrong_number(value)} as {part} of its keypoint {name}; write a finite number, and 0, 0, 0 for a "
                "point that is not there"
            )
    raise AssertionError("a wrong number that is none")


def names_problem(category: dict[str, Any], skeleton: Skeleton) -> str:
    """How the keypoints that a category names are not those of the skeleton, spelling apart; "" where they are."""
    names = category.get("keypoints")
    if not names or not isinstance(names, list):
        return ""
    keys, wanted = [name_key(str(name)) for name in names], [name_key(name) for name in skeleton.names]
    if keys == wanted:
        return ""
    if sorted(keys) == sorted(wanted):
        row = next(row for row, (a, b) in enumerate(zip(keys, wanted, strict=True)) if a != b)
        how = f"in another order: its keypoint {row + 1} is {names[row]!r}, the skeleton's {skeleton.names[row]!r}"
    else:
        strange = next((n for n, key in zip(names, keys, strict=True) if key not in wanted), None)
        how = f"without {strange!r}" if strange is not None else f"with {len(wanted)}, not {len(names)}, keypoints"
    return (
        f"names keypoints {', '.join(map(str, names))!s:.80}, and DATASET.SKELETON is {skeleton.name}, {how}; "
        "DATASET.SKELETON 'annotations' takes those of the file"
    )
