"""A synthetic person: how it is dressed, its body parts from back to front, and what of it can be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from psa_pose.skeleton import COCO
from psa_pose.synthetic.body import FACE, SIDES, Body, sample_body
from psa_pose.synthetic.paint import Canvas, Cloth, Face, draw_capsule, draw_head, draw_hull

PARTS = (
    "head", "left_ear", "right_ear", "hair", "neck", "chest", "pelvis", "skirt",
    "left_upper_arm", "right_upper_arm", "left_forearm", "right_forearm",
    "left_thigh", "right_thigh", "left_shin", "right_shin", "left_foot", "right_foot",
)  # fmt: skip
OWNER_STRIDE = 32  # owner number = person number * OWNER_STRIDE + part number
SKIN_TONES = ((190, 215, 245), (160, 190, 230), (130, 165, 212), (95, 130, 180), (65, 95, 145), (45, 65, 100))
HAIR_COLORS = ((25, 25, 30), (30, 40, 60), (35, 60, 100), (90, 150, 195), (150, 150, 155), (30, 55, 130))


@dataclass(frozen=True)
class Look:
    """How a person is dressed; cuts are fractions of a limb's two segments (0 to 2) covered by cloth."""

    face: Face
    skin: Cloth
    hair: Cloth
    shirt: Cloth
    trousers: Cloth
    shoes: Cloth
    trim: Cloth
    sleeve: float
    leg: float
    skirt: float  # length in thighs, 0: none
    long_hair: bool
    front: str  # mark on the chest: collar, zip or print


@dataclass(frozen=True)
class Person:
    """A body of `height` pixels whose pelvis is at pixel `origin` (2,)."""

    body: Body
    look: Look
    height: float
    origin: np.ndarray

    def pixel(self, point: np.ndarray) -> np.ndarray:
        """Pixel position (2,) of a point (3,) in body heights."""
        return self.origin + self.height * np.array([point[0], -point[1]])


def _plain(color: np.ndarray) -> Cloth:
    """A material without a pattern."""
    return Cloth(np.asarray(color, np.float32), np.asarray(color, np.float32))


def random_color(rng: np.random.Generator) -> np.ndarray:
    """A BGR colour (3,) float32; any hue, often muted."""
    hsv = np.array([[[rng.uniform(0, 180), rng.choice([40, 120, 210]), rng.uniform(40, 245)]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float32)


def random_cloth(rng: np.random.Generator, patterned: float) -> Cloth:
    """A cloth, with a pattern in a fraction `patterned` of cases."""
    color = random_color(rng)
    second = random_color(rng) if rng.random() < 0.5 else np.clip(color * 0.6 + 70, 0, 255)
    pattern = str(rng.choice(["rings", "columns", "checks", "speckle"])) if rng.random() < patterned else "plain"
    return Cloth(color, np.asarray(second, np.float32), pattern, float(rng.uniform(0.025, 0.07)))


def _sample_look(rng: np.random.Generator) -> Look:
    """Clothes, skin and hair at random."""
    skin = (np.array(SKIN_TONES[rng.integers(len(SKIN_TONES))]) * rng.uniform(0.9, 1.08)).clip(0, 255)
    hair = (np.array(HAIR_COLORS[rng.integers(len(HAIR_COLORS))]) * rng.uniform(0.8, 1.2)).clip(0, 255)
    cap = random_color(rng) if rng.random() < 0.12 else None
    face = Face(
        skin=skin.astype(np.float32), hair=hair.astype(np.float32),
        iris=np.array([40.0, 30, 20]) * rng.uniform(0.5, 1.5),
        lips=skin * 0.55 + np.array([20.0, 10, 70]),
        hairline=1.5 if rng.random() < 0.06 else rng.uniform(0.45, 0.75),
        beard=rng.random() < 0.18, band=cap,
    )  # fmt: skip
    shoes = random_color(rng) * 0.6 if rng.random() < 0.8 else np.array([225.0, 225, 225])
    return Look(
        face=face, skin=_plain(skin), hair=_plain(hair * 0.95),
        shirt=random_cloth(rng, 0.45), trousers=random_cloth(rng, 0.15), shoes=_plain(shoes),
        trim=_plain(random_color(rng)),
        sleeve=float(rng.choice([0.12, 0.6, 0.75, 1.5, 1.95, 1.95])),
        leg=float(rng.choice([0.55, 0.8, 1.5, 1.95, 1.95, 1.95])),
        skirt=float(rng.uniform(0.65, 1.1)) if rng.random() < 0.14 else 0.0,
        long_hair=bool(rng.random() < 0.3), front=str(rng.choice(["collar", "zip", "print", "collar"])),
    )  # fmt: skip


def sample_person(rng: np.random.Generator, height: float, yaw: float | None = None) -> Person:
    """A person of `height` pixels standing at pixel (0, 0); `yaw` as in `sample_body`."""
    return Person(sample_body(rng, yaw), _sample_look(rng), height, np.zeros(2))


def _zones(cut: float, segment: int, cloth: Cloth, bare: Cloth) -> list[tuple[float, Cloth]]:
    """Materials of a limb's segment 0 or 1 when cloth covers `cut` segments."""
    if cut - segment <= 0:
        return [(1.0, bare)]
    return [(1.0, cloth)] if cut - segment >= 1 else [(cut - segment, cloth), (1.0, bare)]


Part = tuple[float, str, Callable[[Canvas, int], None]]  # depth (larger is nearer), name, draw(canvas, owner)


def _parts(person: Person) -> list[Part]:
    """Body parts of a person, farthest first."""
    body, look, h = person.body, person.look, person.height
    j, w = body.joints, body.width
    parts: list[Part] = []

    def capsule(name: str, a: np.ndarray, b: np.ndarray, radii: tuple[float, float],
                zones: list[tuple[float, Cloth]], bias: float = 0.0) -> None:  # fmt: skip
        size = (radii[0] * h, radii[1] * h)
        draw = partial(_capsule, ends=(person.pixel(a), person.pixel(b)), radii=size, zones=zones, scale=h)
        parts.append((float((a + b)[2] / 2) + bias, name, draw))

    def hull(name: str, circles: list[tuple[np.ndarray, float]], cloth: Cloth, depth: float) -> None:
        flat = [(person.pixel(centre), radius * h) for centre, radius in circles]
        axis = (person.pixel(j["pelvis"]), person.pixel(j["neck"]))
        parts.append((depth, name, partial(_hull, circles=flat, axis=axis, cloth=cloth, scale=h)))

    for side in SIDES:
        hip, knee, ankle = j[f"{side}_hip"], j[f"{side}_knee"], j[f"{side}_ankle"]
        thigh, shin = _zones(look.leg, 0, look.trousers, look.skin), _zones(look.leg, 1, look.trousers, look.skin)
        if look.skirt:
            thigh = shin = [(1.0, look.skin)]
        capsule(f"{side}_thigh", hip, knee, (0.058 * w, 0.042 * w), thigh, -0.02)
        capsule(f"{side}_shin", knee, ankle, (0.042 * w, 0.027 * w), shin, -0.015)
        heel = ankle + 0.15 * (ankle - knee)
        capsule(f"{side}_foot", heel, j[f"{side}_toe"], (0.027, 0.022), [(1.0, look.shoes)], -0.005)
        shoulder, elbow, wrist = j[f"{side}_shoulder"], j[f"{side}_elbow"], j[f"{side}_wrist"]
        upper, lower = _zones(look.sleeve, 0, look.shirt, look.skin), _zones(look.sleeve, 1, look.shirt, look.skin)
        capsule(f"{side}_upper_arm", shoulder, elbow, (0.039 * w, 0.032 * w), upper, 0.025)
        capsule(f"{side}_forearm", elbow, wrist, (0.031 * w, 0.022 * w), lower, 0.035)
        capsule(f"{side}_forearm", wrist, j[f"{side}_hand"], (0.022, 0.025), [(1.0, look.skin)], 0.04)
        ear = j[f"{side}_ear"] * 1.0
        capsule(f"{side}_ear", ear, ear, (0.018, 0.018), [(1.0, look.skin)], 0.04)
    hips = [(j[f"{side}_hip"] * 0.9, 0.062 * w) for side in SIDES]
    hull("pelvis", [*hips, (j["waist"], 0.07 * w)], look.trousers, -0.005)
    trunk = body.trunk
    ribs = [(trunk @ np.array([s * 0.045 * w, 0.2, 0.012]), 0.065 * w) for s in SIDES.values()]
    waist = [(trunk @ np.array([s * 0.03 * w, 0.045, 0.0]), 0.066 * w) for s in SIDES.values()]
    shoulders = [(trunk @ np.array([s * 0.092 * w, 0.268, 0]), 0.042 * w) for s in SIDES.values()]
    hull("chest", [*shoulders, *ribs], look.shirt, 0.001)
    hull("chest", [*ribs, *waist], look.shirt, 0.0)
    if look.skirt:
        hem = [(j[f"{s}_hip"] + look.skirt * (j[f"{s}_knee"] - j[f"{s}_hip"]), 0.062 * w) for s in SIDES]
        hull("skirt", [*hips, *hem], look.trousers, float(np.mean([c[2] for c, _ in hem])) / 2 + 0.01)
    capsule("neck", j["neck"], j["neck"] + (j["head"] - j["neck"]) * 0.6, (0.034, 0.032), [(1.0, look.skin)], 0.0)
    _front(person, capsule, hull)
    if look.long_hair:
        nape = j["head"] + body.head @ np.array([0, 0, -0.035])
        capsule("hair", nape, nape - trunk @ np.array([0, 0.15, 0.02]), (0.066, 0.055), [(1.0, look.hair)], 0.015)
    head = partial(_head, centre=person.pixel(j["head"]), turn=body.head, axes=body.head_axes, scale=h, face=look.face)
    parts.append((float(j["head"][2]) + 0.045, "head", head))
    return sorted(parts, key=lambda part: part[0])


def _front(person: Person, capsule: Callable[..., None], hull: Callable[..., None]) -> None:
    """What only the front of a shirt has."""
    trunk, look = person.body.trunk, person.look
    if trunk[2, 2] < 0.25:
        return
    top, middle = trunk @ np.array([0, 0.285, 0.05]), trunk @ np.array([0, 0.17, 0.07])
    capsule("chest", top, trunk @ np.array([0, 0.24, 0.06]), (0.032, 0.012), [(1.0, look.skin)], 0.004 - top[2])
    if look.front == "zip":
        bottom = trunk @ np.array([0, 0.0, 0.06])
        capsule("chest", top, bottom, (0.009, 0.009), [(1.0, look.trim)], 0.003 - (top[2] + bottom[2]) / 2)
    elif look.front == "print":
        corners = [(middle + trunk @ np.array([dx, dy, 0]), 0.008) for dx in (-0.04, 0.04) for dy in (-0.035, 0.035)]
        hull("chest", corners, look.trim, 0.003)


def _capsule(canvas: Canvas, owner: int, **shape: object) -> None:
    draw_capsule(canvas, owner=owner, **shape)  # type: ignore[arg-type]


def _hull(canvas: Canvas, owner: int, **shape: object) -> None:
    draw_hull(canvas, owner=owner, **shape)  # type: ignore[arg-type]


def _head(canvas: Canvas, owner: int, **shape: object) -> None:
    draw_head(canvas, owner=owner, **shape)  # type: ignore[arg-type]


def draw_person(canvas: Canvas, person: Person, number: int) -> None:
    """Draw a person over what is there; its pixels are owned by number * OWNER_STRIDE + part, number >= 1."""
    for _, name, draw in _parts(person):
        draw(canvas, number * OWNER_STRIDE + PARTS.index(name))


def _own_parts(person: Person, name: str) -> set[str]:
    """Parts that show the joint `name` when they are on top at its place."""
    side, _, joint = name.partition("_")
    segments = {"shoulder": ("upper_arm",), "elbow": ("upper_arm", "forearm"), "wrist": ("forearm",),
                "hip": ("thigh",), "knee": ("thigh", "shin"), "ankle": ("shin", "foot"), "ear": ("ear",)}  # fmt: skip
    if joint in ("eye", "") or name == "nose":
        return {"head"}
    parts = {f"{side}_{segment}" for segment in segments[joint]}
    opposite = name.replace(side, "right" if side == "left" else "left")
    across = person.body.joints[name] - person.body.joints[opposite]
    behind = across[2] < -0.75 * np.linalg.norm(across)  # the trunk, turned by 50 degrees and more, is in the way
    if joint in ("shoulder", "hip") and not behind:
        parts |= {"chest", "pelvis", "skirt"}
    return parts


def _face_flag(person: Person, name: str) -> int:
    """2 when a face point is on the near side of the head, 1 just beyond its rim, 0 when nobody could place it."""
    facing = float((person.body.head @ (FACE[name] / np.linalg.norm(FACE[name])))[2])
    if name.endswith("ear"):
        return 2 if facing > -0.8 else 0
    return 2 if facing > 0.12 else 1 if facing > -0.3 else 0


def label(person: Person, owner: np.ndarray, number: int) -> np.ndarray:
    """Keypoints (17, 3) of a drawn person in COCO's order: x, y in pixels and flag (2 seen, 1 hidden, 0 unlabelled).

    owner: (H, W), the finished picture's owners. Joints outside the picture are unlabelled.
    """
    keypoints = np.zeros((COCO.num_joints, 3))
    rows, columns = owner.shape
    for k, name in enumerate(COCO.names):
        x, y = person.pixel(person.body.joints[name])
        flag = _face_flag(person, name) if name in FACE else 2
        if flag == 0 or not (0 <= x <= columns - 1 and 0 <= y <= rows - 1):
            continue
        column, row = round(float(x)), round(float(y))
        near = owner[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        numbers = [number * OWNER_STRIDE + PARTS.index(part) for part in _own_parts(person, name)]
        if sum(np.count_nonzero(near == n) for n in numbers) < 3:
            flag = 1
        keypoints[k] = round(float(x), 1), round(float(y), 1), flag
    return keypoints
