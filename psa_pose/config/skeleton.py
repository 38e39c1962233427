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
        return read_category(root / cfg.DATASET.TEST_ANNOTATIONS)
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


def read_category(path: Path) -> Skeleton:
    """Names and limbs of the one category with keypoints in a COCO annotation file; the rest by default."""
    content = _read(path, "annotation file")
    listed = content.get("categories") if isinstance(content, dict) else None
    found = [c for c in listed if isinstance(c, dict) and "keypoints" in c] if isinstance(listed, list) else []
    if len(found) != 1:
        raise DataError(
            f"annotation file {path} has {len(found)} categories that name keypoints, which DATASET.SKELETON "
            "'annotations' takes from it; name them in one category, or in a skeleton file"
        )
    names, limbs = found[0]["keypoints"], found[0].get("skeleton", [])
    try:
        # COCO numbers the joints of its limbs from 1.
        pairs = [[dict(enumerate(names, start=1))[number] for number in limb] for limb in limbs]
    except (KeyError, TypeError):
        raise DataError(
            f"annotation file {path}: the category's skeleton is not a list of joint numbers from 1"
        ) from None
    values = {"name": str(found[0].get("name", path.stem)), "names": names, "limbs": pairs}
    return make_skeleton(values, f"annotation file {path}")


def _read(path: Path, what: str) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; check DATASET.ROOT and DATASET.SKELETON"
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = f"is not valid {'JSON' if path.suffix == '.json' else 'YAML'}: {' '.join(str(error).split())}"
    raise DataError(f"{what} {path} {reason}")
