"""The published augmentations: scale, rotation, mirror and half body; and a shift. From the sample's own generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psa_pose.data.augment_pixels import PixelAugmentation
from psa_pose.geometry import box_to_region
from psa_pose.skeleton import Skeleton

HALF_BODY_PADDING = 1.5


@dataclass(frozen=True)
class Augmentation:
    """Strengths as in the AUGMENT keys of the config: fractions, degrees and probabilities. pixels: None for none."""

    scale: float
    rotation: float
    rotation_prob: float
    flip_prob: float
    half_body_prob: float
    half_body_joints: int
    shift: float = 0.0
    pixels: PixelAugmentation | None = None


@dataclass(frozen=True)
class View:
    """What a crop shows: centre (2,) and region (2,) in image pixels, rotation in degrees, mirrored or not."""

    center: np.ndarray
    region: np.ndarray
    rotation: float = 0.0
    mirror: bool = False


def sample_generator(seed: int, epoch: int, row: int) -> np.random.Generator:
    """The generator of one sample in one epoch: the same whatever the number of workers or processes."""
    return np.random.default_rng((seed, epoch, row))


def pixel_generator(seed: int, epoch: int, row: int) -> np.random.Generator:
    """A second one, for the pixels: what is drawn for them does not depend on what was drawn for the view."""
    return np.random.default_rng((seed, epoch, row, 1))


def augment_view(
    view: View,
    joints: np.ndarray,
    visible: np.ndarray,
    options: Augmentation,
    skeleton: Skeleton,
    generator: np.random.Generator,
) -> View:
    """A jittered view of the person with joints (K, 2) in image pixels and visible (K,), as HRNet's loader draws it.

    `shift`, which that has not, moves the crop by at most so much of its sides, drawn uniformly.

    The random numbers are always drawn in the same order and number, so that one option does not move the others.
    """
    half_body, upper, size, angle, rotate, flip = (
        generator.random(),
        generator.standard_normal(),
        generator.standard_normal(),
        generator.standard_normal(),
        generator.random(),
        generator.random(),
    )
    center, region = view.center, view.region
    if half_body < options.half_body_prob and visible.sum() > options.half_body_joints:
        # HRNet takes the upper half when a normal, not a uniform, number is below 0.5: in 69 percent of the cases.
        half = half_body_joints(visible, skeleton, prefer_upper=upper < 0.5)
        if half is not None:
            center, region = half_body_region(joints[half], region)
    region = region * min(max(1 + options.scale * size, 1 - options.scale), 1 + options.scale)
    rotation = 0.0
    if rotate < options.rotation_prob:
        rotation = min(max(options.rotation * angle, -2 * options.rotation), 2 * options.rotation)
    if options.shift:
        center = center + region * options.shift * (2 * generator.random(2) - 1)
    return View(center, region, rotation, mirror=flip < options.flip_prob)


def half_body_joints(visible: np.ndarray, skeleton: Skeleton, prefer_upper: bool) -> np.ndarray | None:
    """Mask (K,) of the labelled joints of one half of the body, or None when neither half has enough of them.

    A skeleton that names no upper body has no halves.
    """
    if not skeleton.upper_body:
        return None
    upper, lower = (visible > 0) & skeleton.upper_mask, (visible > 0) & ~skeleton.upper_mask
    half = upper if (prefer_upper and upper.sum() > 2) or lower.sum() <= 2 else lower
    return half if half.sum() >= 2 else None


def half_body_region(joints: np.ndarray, region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (the mean joint) and region around joints (n, 2), in the aspect ratio of `region`, padded by 1.5."""
    low, high = joints.min(0).astype(float), joints.max(0).astype(float)
    # Joints on one line span no box; a pixel keeps the region positive.
    box = np.concatenate([low, np.maximum(high - low, 1.0)])
    _, half_region = box_to_region(box, region[0] / region[1], HALF_BODY_PADDING)
    return joints.mean(0, dtype=float), half_region
