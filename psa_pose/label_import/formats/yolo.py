"""YOLO pose folders: data.yaml, pictures in images/, a text file for each in labels/.

"Pose Estimation Datasets Overview" (docs.ultralytics.com/datasets/pose): a line is the class, the box's centre and
size, then x y, or x y visibility, of each keypoint, all as fractions of the picture; `kpt_shape` says how many and
which, `flip_idx` which keypoint each becomes in a mirror. Keypoint names (`kpt_names`) are newer and often
missing. Fractions are of the upright picture. A point at 0, 0 without a visibility is not labelled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from psa_pose.errors import DataError
from psa_pose.label_import.images import pictures_in
from psa_pose.label_import.records import Instance, LabelledImage, Ledger, Source, Wishes, numbers, slashes
from psa_pose.skeleton import COCO


def is_yolo(content: Any) -> bool:
    """True for the content of a data.yaml that names pictures."""
    return isinstance(content, dict) and bool({"kpt_shape", "names", "nc"} & content.keys()) and "train" in content


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises DataError where it is none."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"label file {path} cannot be read: {error.strerror}; check the path") from None
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(f"label file {path} is not valid YAML: {' '.join(str(error).split())}") from None


def read_yolo(path: Path, wishes: Wishes, ledger: Ledger) -> Source:
    """The instances of one class of a data.yaml's folders. Raises DataError where it is no pose data set."""
    content = read_yaml(path)
    shape = numbers(content.get("kpt_shape"), 2)
    if shape is None or shape[0] < 1 or shape[1] not in (2, 3):
        raise DataError(f"label file {path} has no kpt_shape: [keypoints, 2 or 3]; only pose data sets have keypoints")
    count, width = int(shape[0]), int(shape[1])
    names, flip = _names(content, count, wishes, path), _flip(content, count, path)
    folders = [(split, f) for split in ("train", "val", "test") for f in _folders(content.get(split), path, content)]
    if not folders:
        raise DataError(f"label file {path}: none of its folders train, val and test is there; check `path` in it")
    source = Source("YOLO pose", names, [], path.parent, flip=flip, fractions=True)
    seen: set[Path] = set()
    rows: list[tuple[LabelledImage, int, np.ndarray, str]] = []
    for split, folder in folders:
        for picture in pictures_in(folder) if folder.is_dir() else _listed(folder):
            if picture.resolve() in seen:
                ledger.leave_out("pictures that stand in two splits", picture.name)
                continue
            seen.add(picture.resolve())
            image = LabelledImage(str(picture), picture.parent, split=split)
            source.images.append(image)
            rows += [(image, *row) for row in _lines(picture, 5 + count * width, ledger)]
    wanted, source.category = _class(content, {row[1] for row in rows}, wishes, path)
    for image, number_of_class, values, where in rows:
        if number_of_class != wanted:
            ledger.leave_out("instances of other classes", where)
            continue
        box = np.concatenate([values[1:3] - values[3:5] / 2, values[3:5]])
        points = values[5:].reshape(count, width)
        points = points if width == 3 else np.column_stack([points, 2.0 * points.any(1)])
        image.instances.append(Instance(points, box, where=where))
    ledger.did("instances whose numbers were fractions of the image", sum(len(i.instances) for i in source.images))
    return source


def _names(content: dict[str, Any], count: int, wishes: Wishes, path: Path) -> list[str]:
    """As wished; as the file says; COCO's for 17 keypoints with COCO's mirror; numbers otherwise."""
    stated = content.get("kpt_names")
    if isinstance(stated, dict):
        stated = next(iter(stated.values()), None)
    names = list(wishes.names) or ([str(n) for n in stated] if isinstance(stated, list) else [])
    if names and len(names) != count:
        raise DataError(f"{len(names)} keypoints are named, but {path} has kpt_shape {content['kpt_shape']}")
    if not names and content.get("flip_idx") == COCO.flip_order.tolist():
        return list(COCO.names)
    return names or [f"keypoint_{i}" for i in range(count)]


def _flip(content: dict[str, Any], count: int, path: Path) -> list[tuple[int, int]] | None:
    stated = content.get("flip_idx")
    if stated is None:
        return None
    order = numbers(stated, count)
    if order is None or sorted(order) != list(range(count)) or (order[order.astype(int)] != np.arange(count)).any():
        raise DataError(
            f"label file {path}: flip_idx must hold 0 to {count - 1}, each exchanged with one other or itself"
        )
    return [(i, int(j)) for i, j in enumerate(order) if i < j]


def _folders(entry: Any, path: Path, content: dict[str, Any]) -> list[Path]:
    """The folders or lists of a split; Roboflow's `../train/images` means the one beside data.yaml."""
    base = path.parent / str(content.get("path") or ".")
    found = []
    for word in entry if isinstance(entry, list) else [entry]:
        if word:
            name = slashes(word)
            tries = [base / name, path.parent / name, path.parent / name.removeprefix("../")]
            found += [place for place in tries if place.exists()][:1]
    return found


def _listed(path: Path) -> list[Path]:
    """Pictures in a text file of paths, relative to its folder."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n") if path.suffix == ".txt" else []
    return [path.parent / slashes(line.strip()) for line in lines if line.strip()]


def _text_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8-sig", errors="replace").splitlines() if path.is_file() else []


def _lines(picture: Path, length: int, ledger: Ledger) -> list[tuple[int, np.ndarray, str]]:
    """Class, numbers and place of each line of a picture's label file; labels/ takes the place of the last images/."""
    parts = list(picture.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    path = Path(*parts).with_suffix(".txt")
    rows: list[tuple[int, np.ndarray, str]] = []
    for n, line in enumerate(_text_lines(path), start=1):
        where, values = f"{path.name}, line {n}", numbers(line.split(), length)
        if not line.strip():
            continue
        if values is None:
            ledger.leave_out(f"lines that do not hold {length} numbers", where)
        elif np.abs(values[1:5]).max() > 1.5:
            ledger.leave_out("lines whose box is no fraction of the picture", where)
        else:
            rows.append((int(values[0]), values, where))
    return rows


def _class(content: dict[str, Any], used: set[int], wishes: Wishes, path: Path) -> tuple[int, str]:
    """Number and name of the class to take."""
    stated = content.get("names")
    pairs = stated.items() if isinstance(stated, dict) else enumerate(stated if isinstance(stated, list) else [])
    names = {str(key): str(name) for key, name in pairs}
    if wishes.category:
        if wishes.category not in names.values():
            raise DataError(f"category {wishes.category!r} is not in {path}; choose one of {', '.join(names.values())}")
        return next((int(n), name) for n, name in names.items() if name == wishes.category and n.isdigit())
    if len(used) > 1:
        words = ", ".join(names.get(str(n), str(n)) for n in sorted(used))
        raise DataError(
            f"label file {path}: {len(used)} classes are labelled ({words}); choose one with --category NAME"
        )
    number = next(iter(used), 0)
    return number, names.get(str(number), "person")
