"""What the values of a label map mean: names and colours of the classes, and the value that is ignored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from psa_pose.errors import DataError

IGNORE = 255
"""The label of a pixel that counts neither in a loss nor in a metric."""

MAX_CLASSES = 254
IGNORE_COLOR = (224, 224, 192)

Color = tuple[int, int, int]


@dataclass(frozen=True)
class ClassList:
    """The classes of a data set; class i is the i-th of each.

    names: distinct. colors: RGB, 0 to 255.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]

    def __len__(self) -> int:
        return len(self.names)

    def palette(self) -> np.ndarray:
        """(256, 3) uint8 RGB: the colour of each label value; 255 has VOC's void colour, unused values are black."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self)] = self.colors
        palette[IGNORE] = IGNORE_COLOR
        return palette


def voc_color(value: int) -> Color:
    """The RGB colour that VOC's palette gives a label: three bits of the value to each round, lowest first."""
    bits = [[value >> (3 * round_ + channel) & 1 for round_ in range(8)] for channel in range(3)]
    red, green, blue = (sum(bit << (7 - round_) for round_, bit in enumerate(channel)) for channel in bits)
    return red, green, blue


_VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOC = ClassList(_VOC_NAMES, tuple(voc_color(value) for value in range(len(_VOC_NAMES))))


def read_classes(path: Path) -> ClassList:
    """The classes of a YAML file: a list `classes` of names, or of {name, color: [R, G, B]}, in the labels' order.

    A class without a colour gets that of VOC's palette. Raises DataError for anything else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"class list {path} cannot be read: {error.strerror}; check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise DataError(f"class list {path} is not YAML; write 'classes:' and one '- name' per line") from None
    entries = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_CLASSES:
        raise DataError(f"class list {path} has no list 'classes' of 1 to {MAX_CLASSES} entries; write one")
    classes = [_read_class(entry, value, path) for value, entry in enumerate(entries)]
    names = tuple(name for name, _ in classes)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"class list {path} names {repeated[0]!r} more than once; give each class its own name")
    return ClassList(names, tuple(color for _, color in classes))


def _read_class(entry: Any, value: int, path: Path) -> tuple[str, Color]:
    name, color = (entry.get("name"), entry.get("color")) if isinstance(entry, dict) else (entry, None)
    if not isinstance(name, str) or not name:
        raise DataError(
            f"class list {path}: class {value} has no name; write '- name' or '- {{name: ..., color: ...}}'"
        )
    if color is None:
        return name, voc_color(value)
    whole = isinstance(color, list) and len(color) == 3 and all(type(v) is int and 0 <= v <= 255 for v in color)
    if not whole:
        raise DataError(f"class list {path}: colour {color!r} of {name!r} is not [R, G, B] with 0 to 255; mend it")
    return name, (color[0], color[1], color[2])
