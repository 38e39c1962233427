"""Shaded shapes for the synthetic pictures: capsules, hulls and heads, each stamped with its owner.

Coordinates are in pixels, and a pixel's centre is at whole numbers. Every shape writes its colour into `Canvas.image`
and its number into `Canvas.owner`, so what hides what is read from the finished picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

AMBIENT = 0.5
SUBPIXEL = 4  # fractional bits of polygon corners


@dataclass(frozen=True)
class Cloth:
    """A material: base colour BGR (3,), a second colour for its pattern, and the pattern's period in body heights.

    pattern: plain, rings (across the limb), columns (along it), checks or speckle.
    """

    color: np.ndarray
    second: np.ndarray
    pattern: str = "plain"
    period: float = 0.05


@dataclass(frozen=True)
class Canvas:
    """image (H, W, 3) float32 BGR in 0..255; owner (H, W) int32, 0 is background; noise (H, W) float32 about 0;
    light: unit vector (3,) float32 towards the light with x right, y down, z to the viewer."""

    image: np.ndarray
    owner: np.ndarray
    noise: np.ndarray
    light: np.ndarray


@dataclass(frozen=True)
class _Window:
    """A rectangle of a canvas (slices) with its pixel coordinates x (1, w) and y (h, 1)."""

    rows: slice
    columns: slice
    x: np.ndarray
    y: np.ndarray


def _window(canvas: Canvas, low: np.ndarray, high: np.ndarray) -> _Window | None:
    """The part of the canvas between corners low and high (2,), or None where it is empty."""
    height, width = canvas.owner.shape
    x0, y0 = np.maximum(np.floor(low).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(high).astype(int) + 2, (width, height))
    if x0 >= x1 or y0 >= y1:
        return None
    x = np.arange(x0, x1, dtype=np.float32)[None]
    return _Window(slice(y0, y1), slice(x0, x1), x, np.arange(y0, y1, dtype=np.float32)[:, None])


def _cloth_color(cloth: Cloth, along: np.ndarray, across: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) of a cloth at coordinates (h, w) in body heights."""
    weave = (1 + 0.06 * noise)[..., None]
    if cloth.pattern == "plain":
        return cloth.color * weave
    if cloth.pattern == "rings":
        second = np.mod(along, cloth.period) < 0.5 * cloth.period
    elif cloth.pattern == "columns":
        second = np.mod(across, cloth.period) < 0.5 * cloth.period
    elif cloth.pattern == "checks":
        second = (np.mod(along, cloth.period) < 0.5 * cloth.period) ^ (
            np.mod(across, cloth.period) < 0.5 * cloth.period
        )
    else:
        second = noise > 0.5
    return np.where(second[..., None], cloth.second, cloth.color) * weave


def _stamp(
    canvas: Canvas,
    win: _Window,
    alpha: np.ndarray,
    color: np.ndarray,
    normal: tuple[np.ndarray, np.ndarray],
    owner: int,
) -> None:
    """Blend colours (h, w, 3) with cover alpha (h, w), lit by the surface normal (x, y) of each pixel."""
    nx, ny = normal
    light = (1.15 - AMBIENT) * canvas.light
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0))
    shade = AMBIENT + np.maximum(nx * light[0] + ny * light[1] + nz * light[2], 0)
    target = canvas.image[win.rows, win.columns]
    target += alpha[..., None] * (color * shade[..., None] - target)
    canvas.owner[win.rows, win.columns][alpha > 0.5] = owner


def draw_capsule(
    canvas: Canvas,
    ends: tuple[np.ndarray, np.ndarray],
    radii: tuple[float, float],
    zones: Sequence[tuple[float, Cloth]],
    scale: float,
    owner: int,
) -> None:
    """A limb between two points (2,) with a radius (pixels) at each.

    zones: (fraction of the length at which it ends, material), in order. scale: pixels in one body height.
    """
    a, b = (np.asarray(end, np.float32) for end in ends)
    reach = max(radii)
    win = _window(canvas, np.minimum(a, b) - reach, np.maximum(a, b) + reach)
    if win is None:
        return
    length = max(float(np.hypot(*(b - a))), 1e-3)
    ux, uy = (b - a) / length
    dx, dy = win.x - a[0], win.y - a[1]
    along = np.clip(dx * ux + dy * uy, 0, length)
    ox, oy = dx - along * ux, dy - along * uy
    t = along / length
    radius = radii[0] + (radii[1] - radii[0]) * t
    alpha = np.clip(radius - np.sqrt(ox * ox + oy * oy) + 0.5, 0, 1)
    noise = canvas.noise[win.rows, win.columns]
    across = (ox * -uy + oy * ux) / scale
    color = _cloth_color(zones[-1][1], along / scale, across, noise)
    for end, cloth in reversed(zones[:-1]):
        color = np.where((t < end)[..., None], _cloth_color(cloth, along / scale, across, noise), color)
    radius = np.maximum(radius, 0.5)
    _stamp(canvas, win, alpha, color, (np.clip(ox / radius, -1, 1), np.clip(oy / radius, -1, 1)), owner)


def draw_hull(
    canvas: Canvas,
    circles: Sequence[tuple[np.ndarray, float]],
    axis: tuple[np.ndarray, np.ndarray],
    cloth: Cloth,
    scale: float,
    owner: int,
) -> None:
    """The convex hull of circles (centre (2,), radius), in pixels; the pattern runs along `axis` (two points (2,))."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], 1)
    points = np.concatenate([centre + radius * ring for centre, radius in circles]).astype(np.float32)
    win = _window(canvas, points.min(0), points.max(0))
    if win is None:
        return
    hull = cv2.convexHull(points)[:, 0] - (win.x[0, 0], win.y[0, 0])
    mask = np.zeros((win.y.size, win.x.size), np.uint8)
    corners = np.round(hull * (1 << SUBPIXEL)).astype(np.int32)
    cv2.fillConvexPoly(mask, corners, (255,), cv2.LINE_AA, SUBPIXEL)
    # A pillow: the normal leans outwards near the rim and faces the viewer inside.
    depth = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 3)
    lean = 1 - np.clip(depth / max(max(radius for _, radius in circles), 1.0), 0, 1)
    nx = -cv2.Sobel(depth, cv2.CV_32F, 1, 0, ksize=3) / 8 * lean
    ny = -cv2.Sobel(depth, cv2.CV_32F, 0, 1, ksize=3) / 8 * lean
    direction = axis[1] - axis[0]
    # Plain floats keep the arrays in single precision.
    ax, ay = (float(value) for value in axis[0])
    ux, uy = (float(value) for value in direction / max(float(np.hypot(*direction)), 1e-3))
    dx, dy = (win.x - ax) / scale, (win.y - ay) / scale
    along, across = dx * ux + dy * uy, dy * ux - dx * uy
    color = _cloth_color(cloth, along, across, canvas.noise[win.rows, win.columns])
    _stamp(canvas, win, mask.astype(np.float32) / 255, color, (np.clip(nx, -1, 1), np.clip(ny, -1, 1)), owner)


@dataclass(frozen=True)
class Face:
    """Colours BGR (3,) of a head, and where its hair begins (higher hairline: less hair; above 1: none)."""

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    hairline: float
    beard: bool
    band: np.ndarray | None  # colour of a cap, None: bareheaded


def _face_color(face: Face, p: np.ndarray, pixel: float) -> np.ndarray:
    """Colours (h, w, 3) of head points p (h, w, 3) on the unit sphere in head axes; pixel: a pixel's size there."""
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    color = np.broadcast_to(face.skin, p.shape).astype(np.float32)

    def spot(centre: tuple[float, float], radius: tuple[float, float], tint: np.ndarray) -> None:
        # Two pixels wide at least, or a small face would have no features.
        rx, ry = (max(r, 0.8 * pixel) for r in radius)
        cover = np.clip(1.5 - 1.2 * np.hypot((x - centre[0]) / rx, (y - centre[1]) / ry), 0, 1) * (z > 0)
        color[...] += cover[..., None] * (tint - color)

    if face.beard:
        spot((0.0, -0.62), (0.6, 0.36), face.hair)
    spot((0.0, -0.5), (0.26, 0.09), face.lips)
    for side in (-1, 1):
        spot((0.36 * side, 0.12), (0.22, 0.12), np.array([225.0, 230, 232]))
        spot((0.36 * side, 0.12), (0.11, 0.11), face.iris)
        spot((0.36 * side, 0.34), (0.2, 0.05), face.hair * 0.7)
    spot((0.0, -0.12), (0.12, 0.2), face.skin * 0.72)
    spot((0.03, -0.04), (0.05, 0.15), np.minimum(face.skin * 1.15, 255))
    hair = (y > face.hairline - 0.3 * np.abs(x)) & (z < 0.9) | ((z < -0.12) & (y > -0.55) & (face.hairline < 1))
    color[hair] = face.hair * (0.9 + 0.2 * np.mod(np.arctan2(x, z) * 4, 1))[hair][:, None]
    if face.band is not None:
        color[(y > 0.45)] = face.band
    return color


def draw_head(
    canvas: Canvas, centre: np.ndarray, turn: np.ndarray, axes: np.ndarray, scale: float, face: Face, owner: int
) -> None:
    """A head: an ellipsoid with semi-axes (3,) in body heights, turned by (3, 3) from head to camera axes (y up)."""
    semi = axes * scale
    extent = np.sqrt(((turn * semi) ** 2).sum(1))[:2]
    win = _window(canvas, centre - extent, centre + extent)
    if win is None:
        return
    u, v = np.broadcast_arrays(win.x - np.float32(centre[0]), np.float32(centre[1]) - win.y)
    # Points (u, v, w) with q(u, v, w) = 1, for the quadric q of the ellipsoid seen along w.
    q = ((turn / semi**2) @ turn.T).astype(np.float32)
    half = q[0, 2] * u + q[1, 2] * v
    outside = q[0, 0] * u * u + 2 * q[0, 1] * u * v + q[1, 1] * v * v - half * half / q[2, 2]
    alpha = np.clip((1 - np.sqrt(np.maximum(outside, 0))) * extent.min() + 0.5, 0, 1)
    w = (np.sqrt(np.clip(1 - outside, 0, 1) / q[2, 2])) - half / q[2, 2]
    surface = np.stack([u, v, w], -1).astype(np.float32)
    color = _face_color(face, surface @ (turn / semi).astype(np.float32), 1 / float(extent.min()))
    color *= 1 + 0.04 * canvas.noise[win.rows, win.columns][..., None]
    normal = surface @ q
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-6
    _stamp(canvas, win, alpha.astype(np.float32), color, (normal[..., 0], -normal[..., 1]), owner)


def draw_shadow(canvas: Canvas, centre: np.ndarray, radii: tuple[float, float], strength: float) -> None:
    """A soft dark ellipse on the ground."""
    win = _window(canvas, centre - radii, centre + radii)
    if win is None:
        return
    d = ((win.x - centre[0]) / radii[0]) ** 2 + ((win.y - centre[1]) / radii[1]) ** 2
    canvas.image[win.rows, win.columns] *= (1 - strength * np.clip(1 - d, 0, 1))[..., None]
