"""DATASET.SKELETON -> the skeleton of a run: the one place where a config becomes one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from psa_pose.config import choices
from psa_pose.errors import ConfigError, DataError, closest
from psa_pose.skeleton import SKELETONS, Skeleton, make_skeleton


def build_skeleton(cfg: CfgNode) -> Skeleton:
    """The skeleton that DATASET.SKELETON names, or reads from a YAML file or the categories of the test annotations.

    Raises ConfigError for a word that is none of these, and DataError for a file that holds no skeleton.
    """
    word, root = cfg.DATASET.SKELETON, Path(cfg.DATASET.ROOT).expanduser()
    if word in SKELETONS:
        return SKELETONS[word]
    if word == "annotations":
        return read_category(root / cfg.DATASET.TEST_ANNOTATIONS, cfg.DATASET.CATEGORY)
    if not word.endswith((".yaml", ".yml")):
        raise ConfigError(
            f"DATASET.SKELETON is {word!r}, which is no path of a .yaml file either; {closest(word, choices.SKELETONS)}"
        )
    path = root / word
    values = _read(path, "skeleton file")
    if not isinstance(values, dict):
        raise DataError(f"skeleton file {path} must hold `key: value` lines such as `names: [left_ear, right_ear]`")
    return make_skeleton({"name": path.stem, **values}, f"skeleton file {path}")


def joints_of(cfg: CfgNode) -> int:
    """The skeleton's number of joints. Raises ConfigError where MODEL.NUM_JOINTS states another one."""
    skeleton, stated = build_skeleton(cfg), cfg.MODEL.NUM_JOINTS
    if stated not in (0, skeleton.num_joints):
        raise ConfigError(
            f"MODEL.NUM_JOINTS is {stated} but the skeleton {skeleton.name} (DATASET.SKELETON) has "
            f"{skeleton.num_joints} keypoints; write MODEL.NUM_JOINTS 0, which takes the skeleton's number"
        )
    return skeleton.num_joints


def read_category(path: Path, category: str = "") -> Skeleton:
    """Names and limbs of the one category with keypoints in a COCO annotation file; the rest by default.

    category: its name or id, where several have keypoints.
    """
    content = _read(path, "annotation file")
    listed = content.get("categories") if isinstance(content, dict) else None
    found = keypoint_category(listed if isinstance(listed, list) else [], category, path)
    if found is None or not found.get("keypoints"):
        raise DataError(
            f"annotation file {path} has no category that names keypoints, which DATASET.SKELETON 'annotations' takes "
            "from it; name them in one category, or in a skeleton file"
        )
    names, limbs = found["keypoints"], found.get("skeleton", [])
    try:
        # COCO numbers the joints of its limbs from 1.
        pairs = [[dict(enumerate(names, start=1))[number] for number in limb] for limb in limbs]
    except (KeyError, TypeError):
        raise DataError(
            f"annotation file {path}: the category's skeleton is not a list of joint numbers from 1"
        ) from None
    values = {"name": str(found.get("name", path.stem)), "names": names, "limbs": pairs}
    return make_skeleton(values, f"annotation file {path}")


def keypoint_category(categories: list[Any], wanted: str, path: Path) -> dict[str, Any] | None:
    """The category that DATASET.CATEGORY wants by name or id, or the one that names keypoints; None where none does.

    categories: of the annotation file at `path`. Raises DataError for one of another form, for a wanted one that is not
    there, and for several that name keypoints.
    """
    for category in categories:
        if not isinstance(category, dict) or type(category.get("id")) is not int:
            raise DataError(
                f"annotation file {path}: category {category!r:.80} needs a whole number as id; write the file anew"
            )
    if wanted:
        found = [c for c in categories if wanted in (str(c["id"]), c.get("name"))]
        if not found:
            names = [str(c.get("name", c["id"])) for c in categories]
            raise DataError(
                f"annotation file {path} has no category {wanted!r}, as DATASET.CATEGORY says; "
                f"{closest(wanted, names or [''])}"
            )
    else:
        found = [c for c in categories if c.get("keypoints")]
    if len(found) > 1:
        names = [f"{c['id']} ({c.get('name', 'without a name')})" for c in found]
        raise DataError(
            f"annotation file {path} has {len(found)} categories with keypoints: {', '.join(names)}; say which are the "
            "persons with DATASET.CATEGORY"
        )
    return found[0] if found else None


def _read(path: Path, what: str) -> Any:
    try:
        # Bytes: a byte order mark, as some editors write it, is then no part of the text.
        data = path.read_bytes()
        return json.loads(data) if path.suffix == ".json" else yaml.safe_load(data)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; check DATASET.ROOT and DATASET.SKELETON"
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = f"is not valid {'JSON' if path.suffix == '.json' else 'YAML'}: {' '.join(str(error).split())}"
    raise DataError(f"{what} {path} {reason}")
