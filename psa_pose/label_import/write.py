"""Clean instances as COCO files, a skeleton file and a config; split by image, with groups kept together."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from psa_pose.errors import ConfigError, DataError
from psa_pose.files import atomic_write, write_json
from psa_pose.label_import.clean import CleanImage
from psa_pose.label_import.records import Source
from psa_pose.skeleton import COCO, mirror_pairs, unpaired_sides

Pairs = list[tuple[str, str]]


def choose_split(images: Sequence[CleanImage], split: str, seed: int, group_by: str) -> list[str]:
    """The split of each image: "" where none is asked for, the source's own, or "train" and "test".

    split: "", "source", or the share of the images with instances to test on, as text. Whole groups are drawn, in an
    order seeded by `seed`, as long as each brings the share nearer. Raises ConfigError for other words, DataError where
    a side would be empty.
    """
    if not split:
        return [""] * len(images)
    if split == "source":
        if not all(image.split for image in images):
            raise DataError(
                "the labels do not say of each picture whether it is for train, val or test; give --split 0.2"
            )
        if {image.split for image in images} in ({"train"}, {"val"}, {"test"}):
            raise DataError(f"the labels are all of the split {images[0].split}; give --split 0.2")
        return [image.split for image in images]
    try:
        share = float(split)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ConfigError(f"--split {split!r} is no share between 0 and 1, such as 0.2, and not 'source'")
    groups = np.array(group_images(images, group_by))
    held = np.array([any((i.points[:, 2] > 0).any() for i in image.instances) for image in images])
    names = np.unique(groups)
    wanted, taken, test = share * held.sum(), 0, set[str]()
    for name in np.random.default_rng(seed).permutation(names):
        count = int(held[groups == name].sum())
        if abs(taken + count - wanted) <= abs(taken - wanted) and len(test) < len(names) - 1:
            test.add(name)
            taken += count
    if not 0 < taken < held.sum():
        raise DataError(
            f"{held.sum()} pictures with instances in {len(names)} groups cannot be split at {share:g}: one side would "
            "be empty; give another share, or --group-by image"
        )
    return ["test" if name in test else "train" for name in groups]


def group_images(images: Sequence[CleanImage], group_by: str) -> list[str]:
    """What each image belongs to.

    auto: what the labels say (a video, the original of augmented copies), or the name tells (Roboflow's <name>.rf.,
    SLEAP's <video>_frame_). image, folder: as they say. Anything else: a regular expression, of whose match in the path
    the first group counts, or all of it. Raises ConfigError where it is none.
    """
    paths = [image.picture.path for image in images]
    if group_by == "image":
        return [str(path) for path in paths]
    if group_by == "folder":
        return [str(path.parent) for path in paths]
    if group_by == "auto":
        return [image.group or _told(path) for image, path in zip(images, paths, strict=True)]
    try:
        found = [re.search(group_by, path.as_posix()) for path in paths]
    except re.error as error:
        raise ConfigError(
            f"--group-by {group_by!r} is not auto, image, folder or a regular expression ({error})"
        ) from None
    return [str(path) if m is None else m.group(min(1, m.re.groups)) for path, m in zip(paths, found, strict=True)]


def _told(path: Path) -> str:
    if ".rf." in path.name:
        return path.name.rpartition(".rf.")[0]
    frame = re.fullmatch(r"(.+)_frame_\d+", path.stem)
    return frame[1] if frame else str(path)


def chosen_pairs(source: Source, wished: str) -> Pairs | None:
    """The mirror pairs: as wished ("a:b,c:d" or "none"), as the labels state, as the names tell; None: none does."""
    if wished == "none":
        return []
    if wished:
        pairs = [tuple(pair.split(":")) for pair in wished.split(",")]
        unknown = [word for pair in pairs for word in pair if word not in source.names]
        if unknown or any(len(pair) != 2 for pair in pairs):
            raise ConfigError(f"--flip {wished!r} is not 'none' or left:right,... of the keypoints {source.names}")
        return [(a, b) for a, b in pairs]
    if source.flip is not None:
        return [(source.names[a], source.names[b]) for a, b in source.flip]
    told = mirror_pairs(source.names)
    return told if len(source.names) == 1 or (told and not unpaired_sides(source.names)) else None


def write_all(
    source: Source, images: Sequence[CleanImage], splits: Sequence[str], pairs: Pairs | None, out: Path
) -> dict[str, int]:
    """Write keypoints.json, one more file for each split, skeleton.yaml and config.yaml; file name -> its images."""
    root = Path(os.path.commonpath([image.picture.path.absolute().parent for image in images]))
    content = coco_content(source, images, root)
    counts = {"keypoints.json": len(images)}
    write_json(out / "keypoints.json", content)
    for split in sorted(set(splits) - {""}):
        ids = {entry["id"] for entry, word in zip(content["images"], splits, strict=True) if word == split}
        write_json(out / f"keypoints_{split}.json", _of_images(content, ids))
        counts[f"keypoints_{split}.json"] = len(ids)
    skeleton: dict[str, Any] = {"name": source.category, "names": source.names}
    skeleton["limbs"] = [[source.names[a], source.names[b]] for a, b in source.limbs]
    if pairs is not None:
        skeleton["flip"] = [list(pair) for pair in pairs]
    write_yaml(out / "skeleton.yaml", skeleton)
    keys = _dataset_keys(set(splits), root, out)
    # COCO's keypoints have an upper body and measured sigmas, which no label file states.
    keys["SKELETON"] = "coco" if tuple(source.names) == COCO.names else "skeleton.yaml"
    write_yaml(out / "config.yaml", {"DATASET": keys})
    return counts


def coco_content(source: Source, images: Sequence[CleanImage], root: Path) -> dict[str, Any]:
    """A COCO keypoints file: images, annotations and one category, numbered from 1; file names relative to `root`."""
    category = {
        "id": 1,
        "name": source.category,
        "supercategory": source.category,
        "keypoints": source.names,
        "skeleton": [[a + 1, b + 1] for a, b in source.limbs],
    }
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        name = image.picture.path.absolute().relative_to(root).as_posix()
        entries.append({"id": number, "file_name": name, "width": image.size[0], "height": image.size[1]})
        for instance in image.instances:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "keypoints": _numbers(instance.points),
                    "num_keypoints": int((instance.points[:, 2] > 0).sum()),
                    "bbox": _numbers(instance.box),
                    "area": round(float(instance.area or 0), 3),
                    "iscrowd": int(instance.crowd),
                }
            )
    return {"images": entries, "annotations": annotations, "categories": [category]}


def _numbers(values: Any) -> list[int | float]:
    """To a thousandth of a pixel, whole numbers as such."""
    rounded = [round(float(v), 3) for v in np.ravel(values)]
    return [int(v) if v == int(v) else v for v in rounded]


def _of_images(content: dict[str, Any], ids: set[int]) -> dict[str, Any]:
    images = [entry for entry in content["images"] if entry["id"] in ids]
    annotations = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    return {**content, "images": images, "annotations": annotations}


def _dataset_keys(splits: set[str], root: Path, out: Path) -> dict[str, str]:
    """Config keys: train and, of val and test, the one to evaluate on; everything for both where there is no split."""
    train = "keypoints_train.json" if "train" in splits else "keypoints.json"
    test = next((f"keypoints_{word}.json" for word in ("val", "test") if word in splits), train)
    images = os.path.relpath(root, out.absolute())
    return {
        "ROOT": str(out.absolute()),
        "TRAIN_ANNOTATIONS": train,
        "TRAIN_IMAGES": images,
        "TEST_ANNOTATIONS": test,
        "TEST_IMAGES": images,
        "TEST_DETECTIONS": "",
    }


def write_yaml(path: Path, content: Any) -> None:
    """Write a YAML file whole or not at all."""
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    atomic_write(path, lambda file: file.write(text.encode()))
