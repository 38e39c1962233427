"""The embedded data set of segmentation: synthetic places with people, boxes and balls, made on the spot from a seed.

    root/images/train/000001.jpg ...     root/labels/train/000001.png ...      palette PNGs
    root/classes.yaml                                                          names and colours
    root/synthetic.json                                                        what was made; complete when it says so

A picture depends on (seed, split, its index in the split) and on nothing else, whatever the number of workers.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from psa_pose.errors import DataError
from psa_pose.files import atomic_write, write_json
from psa_pose.segmentation.classes import IGNORE, ClassList
from psa_pose.segmentation.data.label_files import write_label
from psa_pose.synthetic.body import rotation
from psa_pose.synthetic.dataset import in_order
from psa_pose.synthetic.paint import Canvas, draw_capsule, draw_hull, draw_shadow
from psa_pose.synthetic.person import random_cloth
from psa_pose.synthetic.scene import develop, draw_people, make_canvas, place_people, stable_rng

SYNTHETIC = ClassList(
    ("background", "ground", "box", "ball", "person"),
    ((70, 90, 120), (120, 110, 70), (200, 120, 0), (0, 160, 120), (220, 20, 60)),
)
BACKGROUND, GROUND, BOX, BALL, PERSON = range(5)
# Owner numbers of things on the canvas; those of people are positive.
BOX_OWNER, BALL_OWNER = -1, -2
# Widest blend of wall into ground below the horizon, pixels: nobody can say where the ground begins.
BLEND = 12

# Part of what makes two data sets equal: raise it whenever the same parameters would give other files.
FORMAT_VERSION = 1
GENERATOR = "psa_pose.segmentation.data.synthetic"
MARKER = "synthetic.json"


def draw_scene(
    seed: int, split: str, index: int, image_size: tuple[int, int] = (256, 192), people: tuple[int, int] = (0, 2)
) -> tuple[np.ndarray, np.ndarray]:
    """Picture `index` of a split, uint8 BGR (H, W, 3), and its label map (H, W) uint8 of SYNTHETIC's classes.

    image_size: (width, height); people: fewest and most. The blend of wall and ground is ignored.
    """
    rng = stable_rng(seed, split, index, stream=2)
    canvas, horizon = make_canvas(rng, image_size)
    for _ in range(rng.integers(1, 4)):
        _draw_box(rng, canvas, horizon)
    for _ in range(rng.integers(0, 3)):
        _draw_ball(rng, canvas, horizon)
    if people[1]:
        number = int(rng.integers(people[0], people[1] + 1))
        if number:
            draw_people(canvas, place_people(rng, image_size, (number, number), horizon))
    # Some things stand before people.
    for draw in (_draw_box, _draw_ball):
        if rng.random() < 0.25:
            draw(rng, canvas, horizon)
    return develop(rng, canvas.image), _labels(canvas.owner, horizon)


def _labels(owner: np.ndarray, horizon: float) -> np.ndarray:
    rows = np.arange(len(owner))[:, None]
    labels = np.full(owner.shape, BACKGROUND, np.uint8)
    labels[np.broadcast_to(rows >= horizon, owner.shape)] = GROUND
    labels[np.broadcast_to((rows >= horizon) & (rows < horizon + BLEND), owner.shape)] = IGNORE
    labels[owner == BOX_OWNER], labels[owner == BALL_OWNER], labels[owner > 0] = BOX, BALL, PERSON
    return labels


def _place(rng: np.random.Generator, canvas: Canvas, horizon: float) -> tuple[np.ndarray, float]:
    """A point on the ground (2,), pixels, and how large a thing is there: nearer things stand lower and are larger."""
    height, width = canvas.owner.shape
    near = rng.uniform(0.15, 1)
    return np.array([rng.uniform(0, width), horizon + near * (height - horizon)]), float(near * height)


def _draw_box(rng: np.random.Generator, canvas: Canvas, horizon: float) -> None:
    foot, size = _place(rng, canvas, horizon)
    half = rng.uniform(0.08, 0.22, 2) * size + 3
    turn = rotation(2, rng.choice([0.0, rng.uniform(-25, 25)]))[:2, :2]
    centre = foot - (0, half[1])
    draw_shadow(canvas, foot, (1.2 * half[0], 0.3 * half[0]), 0.5)
    corners = [(centre + turn @ (half * (x, y)), 1.5) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    draw_hull(canvas, corners, (centre, centre + turn[0]), random_cloth(rng, 0.6), size, BOX_OWNER)


def _draw_ball(rng: np.random.Generator, canvas: Canvas, horizon: float) -> None:
    foot, size = _place(rng, canvas, horizon)
    radius = float(rng.uniform(0.06, 0.15) * size + 3)
    centre = foot - (0, radius)
    draw_shadow(canvas, foot, (1.1 * radius, 0.35 * radius), 0.5)
    cloth = [(1.0, random_cloth(rng, 0.4))]
    draw_capsule(canvas, (centre, centre + np.array([0.1, 0])), (radius, radius), cloth, size, BALL_OWNER)


def image_folder(root: Path, split: str) -> Path:
    """Where a split's images are."""
    return root / "images" / split


def label_folder(root: Path, split: str) -> Path:
    """Where a split's label maps are."""
    return root / "labels" / split


def generate(
    root: Path,
    sizes: Mapping[str, int],
    seed: int = 0,
    image_size: tuple[int, int] = (256, 192),
    people: tuple[int, int] = (0, 2),
    workers: int = 2,
    progress: bool = True,
) -> None:
    """Write the data set under root, unless the same one is there already.

    sizes: split name -> number of images, e.g. {"train": 600, "val": 100}. image_size: (width, height) in pixels.
    people: fewest and most in a picture. workers: processes; 0 or 1 draws in this one.
    An older or unfinished data set of this generator is replaced. Raises DataError for parameters that make no sense
    and for a root that holds anything else.
    """
    _check(sizes, image_size, people)
    wanted = {"made_by": GENERATOR, "format": FORMAT_VERSION, "seed": seed, "sizes": dict(sizes)}
    wanted |= {"image_size": list(image_size), "people": list(people), "complete": True}
    found = _read_marker(root / MARKER)
    if found == wanted:
        return
    if root.exists() and (not root.is_dir() or (any(root.iterdir()) and found is None)):
        raise DataError(f"{root} holds something that was not drawn by this generator; choose another folder")
    write_json(root / MARKER, wanted | {"complete": False})
    for folder in ("images", "labels"):
        shutil.rmtree(root / folder, ignore_errors=True)
    for split, count in sizes.items():
        make = partial(_make_files, root=root, seed=seed, split=split, image_size=image_size, people=people)
        image_folder(root, split).mkdir(parents=True)
        label_folder(root, split).mkdir(parents=True)
        for _ in in_order(make, count, workers, split * progress):
            pass
    atomic_write(root / "classes.yaml", lambda file: file.write(_class_file().encode()))
    write_json(root / MARKER, wanted)


def is_complete(root: Path) -> bool:
    """True where a whole data set of this generator is, whatever its sizes."""
    marker = _read_marker(root / MARKER)
    return marker is not None and bool(marker.get("complete"))


def _make_files(
    index: int, *, root: Path, seed: int, split: str, image_size: tuple[int, int], people: tuple[int, int]
) -> None:
    image, labels = draw_scene(seed, split, index, image_size, people)
    name = f"{index + 1:06d}"
    done, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not done:
        raise DataError(f"{root}: the JPEG encoder failed; check the OpenCV installation")
    (image_folder(root, split) / f"{name}.jpg").write_bytes(jpeg.tobytes())
    write_label(label_folder(root, split) / f"{name}.png", labels, SYNTHETIC.palette())


def _class_file() -> str:
    lines = [
        f"  - {{name: {name}, color: {list(color)}}}\n"
        for name, color in zip(SYNTHETIC.names, SYNTHETIC.colors, strict=True)
    ]
    return "classes:\n" + "".join(lines)


def _read_marker(path: Path) -> dict[str, Any] | None:
    """What this generator recorded, None where it did not."""
    try:
        marker = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and marker.get("made_by") == GENERATOR else None


def _check(sizes: Mapping[str, int], image_size: tuple[int, int], people: tuple[int, int]) -> None:
    wrong = [split for split in sizes if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", split)]
    if wrong:
        raise DataError(f"synthetic data: split name {wrong[0]!r} becomes a folder; use letters, digits, - and _")
    if not sizes or min(sizes.values()) < 1:
        raise DataError(f"synthetic data: {dict(sizes)} asks for no images; give every split at least 1")
    if min(image_size) < 64:
        raise DataError(f"synthetic data: image size {tuple(image_size)} is too small for people; use at least 64 x 64")
    if not 0 <= people[0] <= people[1]:
        raise DataError(f"synthetic data: people {tuple(people)} must be (fewest, most) with 0 <= fewest <= most")
