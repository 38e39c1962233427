"""One synthetic picture: a cluttered place, people at several depths, and their COCO annotations."""

from __future__ import annotations

import zlib
from typing import Any

import cv2
import numpy as np

from psa_pose.data.formats.coco_form import PERSON_CATEGORY
from psa_pose.synthetic.body import rotation
from psa_pose.synthetic.paint import Canvas, draw_capsule, draw_hull, draw_shadow
from psa_pose.synthetic.person import OWNER_STRIDE, Person, draw_person, label, random_cloth, random_color
from psa_pose.synthetic.person import sample_person as sample_any

CROWD_ODDS = 0.05
NOISE_TILE = 192
FINEST_CLOUD = 24


def stable_rng(seed: int, split: str, index: int, stream: int = 0) -> np.random.Generator:
    """The generator of picture `index` of a split: the same on every run, process and machine."""
    return np.random.default_rng([seed, zlib.crc32(split.encode()), index, stream])


def _clouds(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Smooth coloured noise (height, width, 3) float32 of several finenesses; size is (width, height)."""
    total = np.zeros((FINEST_CLOUD, FINEST_CLOUD, 3), np.float32)
    for cells in (3, 8, FINEST_CLOUD):
        tint = random_color(rng) * np.float32(rng.choice([-0.1, 0.1]))
        coarse = rng.standard_normal((cells, cells), dtype=np.float32)[..., None] * tint
        total += cv2.resize(coarse, (FINEST_CLOUD, FINEST_CLOUD), interpolation=cv2.INTER_CUBIC)
    return cv2.resize(total, size, interpolation=cv2.INTER_CUBIC)


def make_canvas(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Canvas, float]:
    """A canvas of (width, height) with wall, ground and smooth clutter; also the horizon's y in pixels."""
    width, height = size
    horizon = height * rng.uniform(0.3, 0.65)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    # Places are duller than clothes.
    top, middle, near, far = (0.45 * color + 0.55 * color.mean() for color in (random_color(rng) for _ in range(4)))
    wall, ground = top * (1 - rows) + middle * rows, far * (1 - rows) + near * rows
    soft = np.clip((np.arange(height, dtype=np.float32) - horizon) / rng.uniform(1, 12), 0, 1)[:, None, None]
    image = np.broadcast_to(wall * (1 - soft) + ground * soft, (height, width, 3)).astype(np.float32, order="C")
    image += _clouds(rng, size)
    noise = rng.standard_normal((NOISE_TILE, NOISE_TILE), dtype=np.float32)
    noise = 0.6 * noise + cv2.GaussianBlur(noise, (0, 0), 1.5) * 2
    noise = np.tile(noise, (-(-height // NOISE_TILE), -(-width // NOISE_TILE)))[:height, :width]
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.9, -0.2), rng.uniform(0.5, 1.0)])
    light = (light / np.linalg.norm(light)).astype(np.float32)
    canvas = Canvas(image, np.zeros((height, width), np.int32), np.ascontiguousarray(noise), light)
    return canvas, horizon


def _draw_clutter(rng: np.random.Generator, canvas: Canvas) -> None:
    """Boxes, blobs, lines and limb-like rods, none of which belongs to a person."""
    height, width = canvas.owner.shape
    size = np.array([width, height])
    for _ in range(rng.integers(2, 7)):
        centre, half = rng.uniform(0, 1, 2) * size, rng.uniform(0.04, 0.22, 2) * size
        turn = rotation(2, rng.choice([0.0, 0.0, rng.uniform(-90, 90)]))[:2, :2]
        corners = [(centre + turn @ (half * (sx, sy)), 2.0) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        if rng.random() < 0.35:
            corners = [(centre + (turn @ (half * (sx, 0))), float(half[1])) for sx in (-1, 1)]
        draw_hull(canvas, corners, (centre, centre + turn[0]), random_cloth(rng, 0.5), 250.0, 0)
    for _ in range(rng.integers(0, 4)):
        a, angle = rng.uniform(0, 1, 2) * size, rng.uniform(0, np.pi)
        b = a + rng.uniform(20, 90) * np.array([np.cos(angle), np.sin(angle)])
        radius = rng.uniform(2, 9)
        draw_capsule(canvas, (a, b), (radius, radius * rng.uniform(0.6, 1)), [(1.0, random_cloth(rng, 0.3))], 250.0, 0)
    for _ in range(rng.integers(0, 4)):
        ends = np.round(rng.uniform(0, 1, (2, 2)) * size).astype(int).tolist()
        color = tuple(float(c) for c in random_color(rng))
        cv2.line(canvas.image, ends[0], ends[1], color, int(rng.integers(1, 4)), cv2.LINE_8)
    canvas.image[...] += canvas.noise[..., None] * np.float32(rng.uniform(0, 9))


def _extent(person: Person) -> np.ndarray:
    """(x0, y0, x1, y1) in pixels around a person's joints, with a margin for the flesh."""
    points = np.array([person.pixel(point) for point in person.body.joints.values()])
    margin = 0.05 * person.height
    return np.concatenate([points.min(0) - margin, points.max(0) + margin])


def _overlap(box: np.ndarray, others: list[np.ndarray]) -> float:
    """Largest share of the smaller box covered by another one."""
    worst = 0.0
    for other in others:
        sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
        smaller = min(np.prod(box[2:] - box[:2]), np.prod(other[2:] - other[:2]))
        worst = max(worst, float(np.prod(np.maximum(sides, 0)) / smaller))
    return worst


def place_people(
    rng: np.random.Generator, size: tuple[int, int], people: tuple[int, int], horizon: float
) -> list[Person]:
    """Between people[0] and people[1] persons (both included) in a picture of (width, height), farthest first."""
    width, height = size
    count = int(rng.integers(people[0], people[1] + 1))
    # Fewer people stand nearer, so that each has room.
    largest = (1.1, 1.0, 0.9, 0.82)[min(count, 4) - 1] * height
    placed: list[Person] = []
    boxes: list[np.ndarray] = []
    for _ in range(count):
        person = sample_any(rng, float(max(rng.uniform(0.45 * height, largest), 24)))
        x0, y0, x1, y1 = _extent(person)
        cut = rng.random() < 0.1  # a share of the people is cut by the picture's border
        slack = np.array([x1 - x0, y1 - y0]) * (0.5 if cut else 0.02)
        low, high = -slack, np.array([width, height]) + slack - (x1 - x0, y1 - y0)
        high = np.maximum(high, low + 1)
        # Near people stand lower; of a few places, the one that hides least is mostly taken.
        feet = horizon + (height * 1.0 - horizon) * (person.height / (1.0 * height)) + rng.normal(0, 0.06 * height)
        best, least = np.zeros(2), np.inf
        for _ in range(1 if rng.random() < 0.08 else 5):
            corner = np.array([rng.uniform(low[0], high[0]), np.clip(feet - (y1 - y0), low[1], high[1])])
            share = _overlap(np.array([*corner, corner[0] + x1 - x0, corner[1] + y1 - y0]), boxes)
            if share < least:
                best, least = corner, share
        if least > 0.55 and len(placed) >= people[0] and rng.random() < 0.8:
            continue
        moved = Person(person.body, person.look, person.height, best - (x0, y0))
        placed.append(moved)
        boxes.append(_extent(moved))
    return sorted(placed, key=lambda person: person.height)


def draw_people(canvas: Canvas, group: list[Person]) -> list[int]:
    """Draw people over what is there, as numbers 1, 2, ...; the answer is the pixels each covers when it is drawn."""
    full = []
    for number, person in enumerate(group, start=1):
        x0, _, x1, y1 = _extent(person)
        radii = (max((x1 - x0) * 0.45, 2.0), max(0.035 * person.height, 2.0))
        draw_shadow(canvas, np.array([(x0 + x1) / 2, y1 - 0.04 * person.height]), radii, 0.55)
        draw_person(canvas, person, number)
        full.append(int((canvas.owner // OWNER_STRIDE == number).sum()))
    return full


def _draw_crowd(rng: np.random.Generator, canvas: Canvas, horizon: float, number: int) -> None:
    """A group of tiny people near the horizon, all owned by one number."""
    centre = rng.uniform(0.15, 0.85) * canvas.owner.shape[1]
    tall = rng.uniform(20, 32)
    for _ in range(rng.integers(6, 13)):
        person = sample_any(rng, tall * rng.uniform(0.85, 1.15))
        x, y = centre + rng.normal(0, 22), horizon + rng.uniform(-0.2, 0.5) * tall
        draw_person(canvas, Person(person.body, person.look, person.height, np.array([x, y])), number)


def _box_and_area(mask: np.ndarray) -> tuple[list[float], float]:
    """COCO box [x, y, w, h] and area of a mask (H, W) that is not empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return [float(value) for value in box], float(mask.sum())


def _rle(mask: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed run lengths of a mask: column by column, zeros first."""
    flat = np.concatenate([[0], mask.T.ravel().astype(np.int8), [0]])
    changes = np.flatnonzero(np.diff(flat))
    ends = np.concatenate([[0], changes, [mask.size]])
    counts = np.diff(ends).tolist()
    return {"counts": counts[:-1] if counts[-1] == 0 else counts, "size": list(mask.shape)}


def _annotation(mask: np.ndarray, keypoints: np.ndarray, crowd: bool) -> dict[str, Any]:
    box, area = _box_and_area(mask)
    return {
        "category_id": PERSON_CATEGORY, "iscrowd": int(crowd), "area": area, "bbox": box,
        "segmentation": _rle(mask) if crowd else [],
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "keypoints": [int(v) if v == int(v) else float(v) for v in keypoints.ravel()],
    }  # fmt: skip


def _annotate(canvas: Canvas, people: list[Person], full: list[int]) -> list[dict[str, Any]]:
    """COCO annotations, without ids, of people drawn in order as numbers 1, 2, ...

    full: pixels each person covered when it was drawn. A person of whom hardly anything is left keeps its box but
    gets no keypoints, and one that is gone gets no annotation.
    """
    annotations = []
    for number, person in enumerate(people, start=1):
        mask = canvas.owner // OWNER_STRIDE == number
        seen = int(mask.sum())
        if seen < 30:
            continue
        keypoints = label(person, canvas.owner, number)
        if seen < 0.2 * full[number - 1] or (keypoints[:, 2] > 0).sum() < 3:
            keypoints[:] = 0
        annotations.append(_annotation(mask, keypoints, crowd=False))
    return annotations


def develop(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The camera: light, colour cast, sometimes blur, and noise; uint8 BGR."""
    image = image * (rng.uniform(0.72, 1.18) * rng.uniform(0.93, 1.07, 3)).astype(np.float32)
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.9))
    grain = rng.standard_normal(image.shape[:2], dtype=np.float32)[..., None]
    image += grain * rng.uniform(1, 7, 3).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def draw_image(
    seed: int, split: str, index: int, image_size: tuple[int, int] = (320, 256), people: tuple[int, int] = (1, 3)
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Picture `index` of a split and its COCO annotations without ids.

    image_size: (width, height); people: fewest and most persons.
    Returns a uint8 BGR image (height, width, 3) and the annotations; keypoints in pixels whose centres are at whole
    numbers, boxes and areas those of the visible silhouettes.
    """
    rng = stable_rng(seed, split, index)
    canvas, horizon = make_canvas(rng, image_size)
    _draw_clutter(rng, canvas)
    crowd = rng.random() < CROWD_ODDS
    group = place_people(rng, image_size, people, horizon)
    if crowd:
        _draw_crowd(rng, canvas, horizon, len(group) + 1)
    full = draw_people(canvas, group)
    annotations = _annotate(canvas, group, full)
    if crowd:
        mask = canvas.owner // OWNER_STRIDE == len(group) + 1
        mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0
        mask &= (canvas.owner == 0) | (canvas.owner // OWNER_STRIDE == len(group) + 1)
        if mask.any():
            annotations.append(_annotation(mask, np.zeros((17, 3)), crowd=True))
    return develop(rng, canvas.image), annotations
