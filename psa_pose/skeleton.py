"""The keypoints of a body: names, mirror pairs, limbs and OKS sigmas, checked against each other.

Everything that depends on what the joints mean (flipping, drawing, OKS, half-body augmentation) reads it from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from psa_pose.errors import DataError


@dataclass(frozen=True)
class Skeleton:
    """K keypoints, all given by name.

    names: K distinct names, in channel order.
    flip: pairs of names that exchange places in a mirror; every other joint maps to itself.
    limbs: pairs of names joined by a line in drawings.
    sigmas: K positive OKS constants, as fractions of the square root of the person's area (COCO's `kpt_oks_sigmas`).
    upper_body: names of the joints that half-body augmentation treats as the upper half.
    """

    name: str
    names: tuple[str, ...]
    flip: tuple[tuple[str, str], ...]
    limbs: tuple[tuple[str, str], ...]
    sigmas: tuple[float, ...]
    upper_body: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise DataError(f"skeleton {self.name}: keypoint names repeat; give each joint its own name")
        if len(self.sigmas) != len(self.names) or min(self.sigmas, default=1.0) <= 0:
            raise DataError(
                f"skeleton {self.name}: {len(self.names)} keypoints but {len(self.sigmas)} sigmas; "
                "give one positive sigma per keypoint"
            )
        used = [n for pair in (*self.flip, *self.limbs) for n in pair] + list(self.upper_body)
        unknown = sorted(set(used) - set(self.names))
        if unknown:
            raise DataError(f"skeleton {self.name}: {unknown[0]!r} is not one of its keypoints {list(self.names)}")
        mirrored = [n for pair in self.flip for n in pair]
        if len(set(mirrored)) != len(mirrored):
            raise DataError(f"skeleton {self.name}: a keypoint stands in two mirror pairs; each joint has one mirror")

    @property
    def num_joints(self) -> int:
        """K."""
        return len(self.names)

    def _indices(self, pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[int, int], ...]:
        return tuple((self.names.index(a), self.names.index(b)) for a, b in pairs)

    @property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """Index pairs of the joints that exchange places in a mirror."""
        return self._indices(self.flip)

    @property
    def limb_pairs(self) -> tuple[tuple[int, int], ...]:
        """Index pairs joined by a line."""
        return self._indices(self.limbs)

    @cached_property
    def flip_order(self) -> np.ndarray:
        """Permutation (K,) int64: joint k of a mirrored person is joint `flip_order[k]` of the original."""
        order = np.arange(self.num_joints)
        for a, b in self.flip_pairs:
            order[[a, b]] = b, a
        return order

    @cached_property
    def upper_mask(self) -> np.ndarray:
        """Boolean (K,): True for the upper-body joints."""
        return np.isin(self.names, self.upper_body)


COCO = Skeleton(
    name="coco",
    names=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    flip=tuple(
        (f"left_{part}", f"right_{part}")
        for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    ),
    limbs=(
        ("left_ankle", "left_knee"),
        ("left_knee", "left_hip"),
        ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"),
        ("left_hip", "right_hip"),
        ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"),
        ("left_shoulder", "right_shoulder"),
        ("left_shoulder", "left_elbow"),
        ("right_shoulder", "right_elbow"),
        ("left_elbow", "left_wrist"),
        ("right_elbow", "right_wrist"),
        ("left_eye", "right_eye"),
        ("nose", "left_eye"),
        ("nose", "right_eye"),
        ("left_eye", "left_ear"),
        ("right_eye", "right_ear"),
        ("left_ear", "left_shoulder"),
        ("right_ear", "right_shoulder"),
    ),
    # pycocotools' Params.setKpParams, in its own arithmetic so that OKS agrees to the last bit.
    sigmas=tuple(
        tenfold / 10
        for tenfold in (
            *(0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72),
            *(0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89),
        )
    ),
    upper_body=(
        "nose",
        *(f"{side}_{part}" for part in ("eye", "ear", "shoulder", "elbow", "wrist") for side in ("left", "right")),
    ),
)
