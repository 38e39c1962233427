"""The keypoints of a body: names, mirror pairs, limbs and OKS sigmas, checked against each other.

Everything that depends on what the joints mean (flipping, drawing, OKS, half-body augmentation) reads it from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from psa_pose.errors import DataError, closest

if TYPE_CHECKING:
    import numpy as np

# Of a joint without one of its own: COCO's shoulders', and CrowdPose's for head and neck.
DEFAULT_SIGMA = 0.079


@dataclass(frozen=True)
class Skeleton:
    """K keypoints, all given by name.

    names: K distinct names, in channel order.
    flip: pairs of names that exchange places in a mirror, the person's left first; every other joint maps to itself.
    limbs: pairs of names joined by a line in drawings.
    sigmas: K positive OKS constants, as fractions of the square root of the person's area (COCO's `kpt_oks_sigmas`).
    upper_body: names of the joints that half-body augmentation treats as the upper half; without any there is none.
    """

    name: str
    names: tuple[str, ...]
    flip: tuple[tuple[str, str], ...]
    limbs: tuple[tuple[str, str], ...]
    sigmas: tuple[float, ...]
    upper_body: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise DataError(f"skeleton {self.name} has no keypoints; name at least one")
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

    def as_dict(self) -> dict[str, Any]:
        """Plain values, which `make_skeleton` reads back."""
        return {key: _listed(value) for key, value in asdict(self).items()}

    def describe(self) -> str:
        """One line for the log: what flip test, half-body crops and OKS rest on."""
        sigmas = ", ".join(f"{sigma:g}" for sigma in dict.fromkeys(self.sigmas))
        upper = f"{len(self.upper_body)} of the upper body" if self.upper_body else "no upper body: no half-body crops"
        keypoints = f"{self.num_joints} keypoints, {len(self.flip)} mirror pairs"
        return f"skeleton {self.name}: {keypoints}, {upper}, OKS sigmas {sigmas}"

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
        # Here, so that reading a config needs no NumPy.
        import numpy as np

        order = np.arange(self.num_joints)
        for a, b in self.flip_pairs:
            order[[a, b]] = b, a
        return order

    @cached_property
    def upper_mask(self) -> np.ndarray:
        """Boolean (K,): True for the upper-body joints."""
        import numpy as np

        return np.isin(self.names, self.upper_body)


def make_skeleton(values: Mapping[str, Any], source: str) -> Skeleton:
    """A skeleton from plain values under the names of `Skeleton`'s fields; only `names` must be there.

    flip: by default `mirror_pairs`. limbs, upper_body: by default none. sigmas: one for each joint, or one number for
    all; by default COCO's where COCO has a joint of that name, however spelled, otherwise DEFAULT_SIGMA.
    source: what the values are from, for messages. Raises DataError for an unknown key, for what is no skeleton, and
    where flip is not stated and the names do not tell it.
    """
    fields = ("name", "names", "flip", "limbs", "sigmas", "upper_body")
    unknown = sorted(map(str, values.keys() - set(fields)))
    if unknown:
        raise DataError(f"{source}: unknown key {unknown[0]!r} of a skeleton; {closest(unknown[0], fields)}")
    names = _words(values.get("names"), "names", source)
    sigmas = values.get("sigmas", tuple(_SIGMAS.get(name_key(name), DEFAULT_SIGMA) for name in names))
    sigmas = tuple(sigmas) if isinstance(sigmas, list | tuple) else (sigmas,) * len(names)
    if not all(isinstance(s, int | float) and not isinstance(s, bool) and 0 < s < 10 for s in sigmas):
        raise DataError(f"{source}: sigmas must be numbers between 0 and 10, one for each keypoint or one for all")
    return Skeleton(
        name=_words([values.get("name", "own")], "name", source)[0],
        names=names,
        flip=_pairs(values["flip"], "flip", source) if "flip" in values else _mirrored(names, source),
        limbs=_pairs(values.get("limbs", []), "limbs", source),
        sigmas=sigmas,
        upper_body=_words(values.get("upper_body", []), "upper_body", source),
    )


def mirror_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs (left name, right name) of the names that differ by their side alone, in the order of the left ones.

    The side is a word, or a part of one: left_eye, "Left Eye", leftKnee, leftear, wrist_left; or it is the letter
    l or r by itself: LElbow, hip.l, r_hand. Case and separators do not count.
    """
    found: dict[tuple[str, ...], dict[bool, str]] = {}
    for name in names:
        side = _side(name)
        if side:
            found.setdefault(side[1], {}).setdefault(side[0], name)
    pairs = {pair[True]: pair[False] for pair in found.values() if len(pair) == 2}
    return [(name, pairs[name]) for name in names if name in pairs]


def unpaired_sides(names: Sequence[str]) -> list[str]:
    """The names with a side that `mirror_pairs` leaves without a partner.

    The letters l and r count as sides only where they make a pair: L1 to L5 are vertebrae.
    """
    paired = {name for pair in mirror_pairs(names) for name in pair}
    letters = any(not re.search("left|right", name, re.IGNORECASE) for name in paired)
    pattern = r"\b(left|right)" if not letters else r"\b(left|right|[lr]\b)"
    return [n for n in names if n not in paired and re.search(pattern, " ".join(_words_of(n)))]


def _side(name: str) -> tuple[bool, tuple[str, ...]] | None:
    """Whether a name is of the left side, and its other words; None where it has no side."""
    words = _words_of(name)
    for pattern in ("(.*?)(left|right)(.*)", "()(l|r)()"):
        for i, word in enumerate(words):
            match = re.fullmatch(pattern, word)
            if match:
                before, side, after = match.groups()
                rest = [*words[:i], before, after, *words[i + 1 :]]
                return side in ("left", "l"), tuple(filter(None, rest))
    return None


def _words_of(name: str) -> list[str]:
    """The lower-case words of a name, divided by separators and by capitals: LElbow is l, elbow."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+", name)]


def name_key(name: str) -> tuple[str, str]:
    """The same for every spelling of a keypoint's name: its side ("left", "right" or "") and its other letters."""
    side = _side(name)
    if side is None:
        return "", "".join(_words_of(name)) or name
    return ("left" if side[0] else "right"), "".join(side[1])


def _mirrored(names: Sequence[str], source: str) -> tuple[tuple[str, str], ...]:
    """The pairs that the names tell. A mirror that exchanged nobody would teach left for right, so none is an error."""
    alone, pairs = unpaired_sides(names), tuple(mirror_pairs(names))
    if alone:
        raise DataError(
            f"{source}: {alone[0]!r} has no partner to change places with in a mirror; state the pairs as flip in a "
            "skeleton file (DATASET.SKELETON), `flip: []` for none"
        )
    if not pairs and len(names) > 1:
        raise DataError(
            f"{source}: no two of the keypoints {', '.join(names)!s:.60} are left and right of each other by name; "
            "state the pairs that change places in a mirror as flip in a skeleton file (DATASET.SKELETON), `flip: []` "
            "for none"
        )
    return pairs


def _words(value: Any, key: str, source: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) and v.isprintable() and v for v in value):
        what = "a name" if key == "name" else "a list of keypoint names"
        raise DataError(f"{source}: {key} must be {what}, not {value!r:.80}")
    return tuple(value)


def _pairs(value: Any, key: str, source: str) -> tuple[tuple[str, str], ...]:
    pairs = [_words(v, key, source) for v in value] if isinstance(value, list | tuple) else [()]
    if not all(len(pair) == 2 for pair in pairs):
        raise DataError(f"{source}: {key} must be a list of pairs of keypoint names, not {value!r:.80}")
    return tuple((a, b) for a, b in pairs)


def _listed(value: Any) -> Any:
    return [_listed(v) for v in value] if isinstance(value, tuple) else value


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

_SIGMAS = dict(zip(map(name_key, COCO.names), COCO.sigmas, strict=True))

# In the order of MPII's joint ids, as in the JSON files of HRNet's code. MPII is scored by PCKh: it has no sigmas.
MPII = make_skeleton(
    {
        "name": "mpii",
        "names": [
            *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
            *("pelvis", "thorax", "upper_neck", "head_top"),
            *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
        ],
        "limbs": [
            *(("right_ankle", "right_knee"), ("right_knee", "right_hip"), ("right_hip", "pelvis")),
            *(("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("left_hip", "pelvis")),
            *(("pelvis", "thorax"), ("thorax", "upper_neck"), ("upper_neck", "head_top")),
            *(("right_wrist", "right_elbow"), ("right_elbow", "right_shoulder"), ("right_shoulder", "thorax")),
            *(("left_wrist", "left_elbow"), ("left_elbow", "left_shoulder"), ("left_shoulder", "thorax")),
        ],
        "upper_body": [
            *("thorax", "upper_neck", "head_top"),
            *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
        ],
    },
    "mpii",
)

# In the order of the joints in joints.mat, left and right as of the person. Neck and head top have no published sigmas.
LSP = make_skeleton(
    {
        "name": "lsp",
        "names": [
            *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
            *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
            *("neck", "head_top"),
        ],
        "limbs": [
            *(("right_ankle", "right_knee"), ("right_knee", "right_hip"), ("right_hip", "left_hip")),
            *(("left_ankle", "left_knee"), ("left_knee", "left_hip")),
            *(("right_wrist", "right_elbow"), ("right_elbow", "right_shoulder"), ("right_shoulder", "neck")),
            *(("left_wrist", "left_elbow"), ("left_elbow", "left_shoulder"), ("left_shoulder", "neck")),
            *(("right_shoulder", "right_hip"), ("left_shoulder", "left_hip"), ("neck", "head_top")),
        ],
        "upper_body": [
            *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
            *("neck", "head_top"),
        ],
    },
    "lsp",
)

SKELETONS = {skeleton.name: skeleton for skeleton in (COCO, MPII, LSP)}
