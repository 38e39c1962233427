"""COCO keypoint exports as CVAT, Label Studio, COCO Annotator, Roboflow and SLEAP write them.

What each does beside COCO's own "Data format" page (cocodataset.org):

- CVAT ("COCO Keypoints", docs.cvat.ai): annotations/person_keypoints_<subset>.json beside images/<subset>; a skeleton's
  box and area are those of its points; `attributes` hold occluded and the like; points marked outside keep v = 0.
- Label Studio ("Export annotations and data from Label Studio", labelstud.io/guide/export; issue 2851 and the converter
  of label-studio-sdk): ids from 0; all keypoints of an image in one annotation of a category "default", rectangles as
  annotations of their own; the box is that of the points; no area; points in the order of `model_index`.
- COCO Annotator (github.com/jsbroks/coco-annotator, issues 184, 209 and 304): `path`, `dataset_id` and more in images;
  boxes and areas of 0 where only keypoints were drawn; limbs with numbers of other keypoints in older versions.
- Roboflow ("COCO Keypoint", roboflow.com/formats/coco-keypoint; "Roboflow", Datumaro's data formats): a folder for each
  split with _annotations.coco.json beside its pictures; category 0 is a heading without keypoints; `extra` names the
  original of an augmented copy, as does what stands before ".rf." in its name.
- SLEAP ("Coco", io.sleap.ai, sleap_io.io.coco): visibility 0 and 1 or 0, 1 and 2; the box is that of the points and the
  area the box's; names like video_frame_000012.png for frames of a video, and a size of 0 where it is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask

from psa_pose.errors import DataError
from psa_pose.label_import.records import (
    Instance,
    LabelledImage,
    Ledger,
    Source,
    Wishes,
    as_dict,
    blank_points,
    dicts,
    number,
    numbers,
    read_label_json,
    slashes,
    split_name,
)


def is_coco(content: Any) -> bool:
    """True for what has the lists of a COCO file."""
    return isinstance(content, dict) and all(isinstance(content.get(k), list) for k in ("images", "annotations"))


def read_coco(paths: Sequence[Path], root: Path, wishes: Wishes, ledger: Ledger) -> Source:
    """All instances of the one category with keypoints in COCO files that belong together (one for each split).

    root: where pictures are searched. Raises DataError where the files do not name one set of keypoints.
    """
    contents = [read_label_json(path) for path in paths]
    for path, content in zip(paths, contents, strict=True):
        if not is_coco(content):
            raise DataError(f"label file {path} has no lists images and annotations; export it in COCO's form")
    category = _category([c for content in contents for c in dicts(content.get("categories"))], contents, wishes)
    names = _names(category, wishes, paths[0])
    source = Source(_tool(contents[0]), names, [], root, _limbs(category, len(names), ledger))
    source.category = str(category.get("name") or "person")
    for path, content in zip(paths, contents, strict=True):
        split = split_name(path.parent.name) or split_name(path.stem.rpartition("_")[2])
        images = _images(path, content, split, category, source, ledger)
        if source.form == "Label Studio, COCO":
            _join_boxes(images, content, category, ledger)
        source.images += images
    _find_fractions(source, ledger)
    if source.form == "Label Studio, COCO":
        ledger.notes.append(
            "Label Studio writes points in the order of model_index and names in that of the labels: browse the samples"
        )
    return source


def _tool(content: dict[str, Any]) -> str:
    info = as_dict(content.get("info"))
    images, rows = dicts(content["images"])[:1], dicts(content["annotations"])[:1]
    if info.get("contributor") == "Label Studio":
        return "Label Studio, COCO"
    if "roboflow" in str(info.get("description")).lower():
        return "Roboflow, COCO"
    if images and {"dataset_id", "path"} & images[0].keys():
        return "COCO Annotator"
    if rows and isinstance(rows[0].get("attributes"), dict):
        return "CVAT, COCO"
    return "COCO" if content.get("info") else "COCO (SLEAP or other)"


def _category(categories: list[dict[str, Any]], contents: Sequence[dict[str, Any]], wishes: Wishes) -> dict[str, Any]:
    """The category of the instances: as wished, or the one that has keypoints."""
    found = {str(c.get("name")): c for c in categories if c.get("keypoints")}
    if wishes.category:
        named = {str(c.get("name")): c for c in categories}
        if wishes.category not in named:
            raise DataError(f"category {wishes.category!r} is not in the labels; choose one of {', '.join(named)}")
        return named[wishes.category]
    used = {
        str(r.get("category_id")) for content in contents for r in dicts(content["annotations"]) if r.get("keypoints")
    }
    if not found and wishes.names and len(used) == 1:
        return next((c for c in categories if str(c.get("id")) in used), {"id": next(iter(used))})
    if not found:
        raise DataError("no category of the labels names its keypoints; name them in order with --names a,b,c")
    if len(found) > 1:
        found = {name: c for name, c in found.items() if str(c.get("id")) in used} or found
    lists = {str(c["keypoints"]) for c in found.values()}
    if len(found) > 1 or len(lists) > 1:
        raise DataError(f"{len(found)} categories have keypoints ({', '.join(found)}); choose one with --category NAME")
    return next(iter(found.values()))


def _names(category: dict[str, Any], wishes: Wishes, path: Path) -> list[str]:
    stated = category.get("keypoints")
    if wishes.names:
        if isinstance(stated, list) and stated and len(stated) != len(wishes.names):
            raise DataError(f"--names gives {len(wishes.names)} names, but {path} has {len(stated)} keypoints")
        return list(wishes.names)
    names = [str(name) for name in stated] if isinstance(stated, list) else []
    if not names or len(set(names)) != len(names):
        raise DataError(f"label file {path} does not give each keypoint its own name; name them with --names a,b,c")
    return names


def _limbs(category: dict[str, Any], count: int, ledger: Ledger) -> list[tuple[int, int]]:
    """Index pairs; COCO counts from 1, and a 0 says that the tool counts from 0."""
    listed = category.get("skeleton") if isinstance(category.get("skeleton"), list) else []
    found = [pair for pair in (numbers(entry, 2) for entry in listed or []) if pair is not None]
    pairs = [(int(a), int(b)) for a, b in found]
    first = 0 if any(0 in pair for pair in pairs) else 1
    good = []
    for a, b in pairs:
        if a != b and first <= min(a, b) and max(a, b) < count + first:
            good.append((a - first, b - first))
        else:
            ledger.leave_out("limbs between keypoints that are not there", f"limb {[a, b]}")
    return good


def _images(
    path: Path, content: dict[str, Any], split: str, category: dict[str, Any], source: Source, ledger: Ledger
) -> list[LabelledImage]:
    images: dict[str, LabelledImage] = {}
    for entry in dicts(content["images"]):
        key, size = str(entry.get("id")), numbers([entry.get("width"), entry.get("height")], 2)
        if key in images:
            raise DataError(f"label file {path}: image id {key} stands twice; export the labels again")
        name = slashes(entry.get("file_name") or entry.get("path") or "")
        stated = (float(size[0]), float(size[1])) if size is not None and size.min() > 0 else None
        images[key] = LabelledImage(name, path.parent, stated, split=split, group=_original(entry))
    for row in dicts(content["annotations"]):
        where = f"{path.name}: annotation {row.get('id')}"
        image = images.get(str(row.get("image_id")))
        if image is None:
            ledger.leave_out("annotations on images that are not listed", where)
        elif str(row.get("category_id")) == str(category.get("id")):
            instance = _instance(row, source.names, image, where, ledger)
            image.instances += [instance] if instance else []
        elif source.form != "Label Studio, COCO":
            ledger.leave_out("annotations of other categories", where)
    return list(images.values())


def _original(entry: dict[str, Any]) -> str:
    return str(as_dict(entry.get("extra")).get("name") or "")


def _instance(
    row: dict[str, Any], names: Sequence[str], image: LabelledImage, where: str, ledger: Ledger
) -> Instance | None:
    points = _points(row.get("keypoints"), len(names), ledger)
    if points is None:
        ledger.leave_out(f"annotations whose points are not {len(names)} of 2 or 3 numbers", where)
        return None
    stated = number(row.get("area"))
    box, area = numbers(row.get("bbox"), 4), stated if np.isfinite(stated) else None
    if box is None or not 0 < stated < 0.99 * abs(box[2] * box[3]):
        area = _mask_area(row.get("segmentation"), image.size) or area
    crowd = row.get("iscrowd") in (1, "1", True)
    return Instance(points, box, area, crowd, f"{image.name}, annotation {row.get('id')}")


def _points(value: Any, count: int, ledger: Ledger) -> np.ndarray | None:
    """(K, 3) from flat or nested lists of 3 numbers for each point, or 2 (no visibility); None for anything else."""
    if value is None or value == []:
        return blank_points(count)
    if not isinstance(value, list):
        return None
    if all(isinstance(entry, list | type(None)) for entry in value):
        width = max((len(entry) for entry in value if entry), default=3)
        value = [number_or_none for entry in value for number_or_none in (entry or [None] * width)]
        ledger.did("instances whose points were nested lists")
    if len(value) not in (2 * count, 3 * count):
        return None
    array = np.array([_visibility(v) if isinstance(v, bool) else number(v) for v in value]).reshape(count, -1)
    if array.shape[1] == 2:
        ledger.did("instances whose points had no visibility")
        array = np.column_stack([array, np.full(count, 2.0)])
    return array


def _visibility(value: bool) -> float:
    return 2.0 if value else 0.0


def _mask_area(segmentation: Any, size: tuple[float, float] | None) -> float | None:
    """Pixels of polygons or a run-length code, as COCO counts them; None where there is no such mask."""
    if size is None or not segmentation:
        return None
    width, height = int(size[0]), int(size[1])
    if isinstance(segmentation, list):
        polygons = [numbers(p, len(p)) for p in segmentation if isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0]
        found = [list(p) for p in polygons if p is not None and np.abs(p).max() < 4 * max(width, height)]
        return float(mask.area(mask.merge(mask.frPyObjects(found, height, width)))) if found else None
    code = as_dict(segmentation)
    counts = code.get("counts")
    if code.get("size") != [height, width]:
        return None
    if (
        isinstance(counts, list)
        and all(isinstance(n, int) and n >= 0 for n in counts)
        and sum(counts) == width * height
    ):
        return float(sum(counts[1::2]))
    return float(mask.area({"size": [height, width], "counts": counts})) if isinstance(counts, str) else None


def _find_fractions(source: Source, ledger: Ledger) -> None:
    """Notice coordinates that are fractions of the image: of more than three labelled points none exceeds 1."""
    points = [i.points[(i.points[:, 2] > 0), :2] for image in source.images for i in image.instances]
    values = np.concatenate(points) if points else np.zeros((0, 2))
    values = values[np.isfinite(values).all(1)]
    source.fractions = bool(len(values) > 3 and np.abs(values).max() <= 1)
    ledger.did("instances whose numbers were fractions of the image", len(points) if source.fractions else 0)


def _join_boxes(
    images: Sequence[LabelledImage], content: dict[str, Any], category: dict[str, Any], ledger: Ledger
) -> None:
    """Give Label Studio's one instance of an image the one rectangle of the image; with several it is no one body."""
    keys = [str(entry.get("id")) for entry in dicts(content["images"])]
    boxes: dict[str, list[np.ndarray]] = {}
    for row in dicts(content["annotations"]):
        box = numbers(row.get("bbox"), 4)
        if str(row.get("category_id")) != str(category.get("id")) and box is not None:
            boxes.setdefault(str(row.get("image_id")), []).append(box)
    for key, image in zip(keys, images, strict=True):
        found = boxes.get(key, [])
        if len(found) > 1 and image.instances:
            ledger.leave_out(
                "images with several boxes, of which Label Studio's COCO export joins the points; export as JSON",
                image.name,
            )
            image.instances = []
        elif found and image.instances:
            image.instances[0].box = found[0]
            ledger.did("boxes joined to the points of their image")
