"""Cityscapes' label ids, train ids and categories, and the average sizes that iIoU weighs instances with.

Source: the tables of cityscapesScripts. Label ids are what the files hold and the server expects; train ids 0 to 18 are
the evaluated classes. Ids that are ignored in the evaluation have no train id.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psa_pose.segmentation.classes import IGNORE, ClassList, Color


@dataclass(frozen=True)
class CityscapesLabel:
    """One label id.

    id: in the files. name, category: the words. train_id: 0 to 18, or 255. has_instances: numbered one by one.
    color: RGB.
    """

    id: int
    name: str
    category: str
    train_id: int
    has_instances: bool
    color: Color

    @property
    def ignored(self) -> bool:
        """True where the evaluation leaves it out."""
        return self.train_id == IGNORE


def _label(id_: int, name: str, category: str, train_id: int, color: Color) -> CityscapesLabel:
    return CityscapesLabel(id_, name, category, train_id, category in ("human", "vehicle"), color)


LABELS = (
    _label(0, "unlabeled", "void", IGNORE, (0, 0, 0)),
    _label(1, "ego vehicle", "void", IGNORE, (0, 0, 0)),
    _label(2, "rectification border", "void", IGNORE, (0, 0, 0)),
    _label(3, "out of roi", "void", IGNORE, (0, 0, 0)),
    _label(4, "static", "void", IGNORE, (0, 0, 0)),
    _label(5, "dynamic", "void", IGNORE, (111, 74, 0)),
    _label(6, "ground", "void", IGNORE, (81, 0, 81)),
    _label(7, "road", "flat", 0, (128, 64, 128)),
    _label(8, "sidewalk", "flat", 1, (244, 35, 232)),
    _label(9, "parking", "flat", IGNORE, (250, 170, 160)),
    _label(10, "rail track", "flat", IGNORE, (230, 150, 140)),
    _label(11, "building", "construction", 2, (70, 70, 70)),
    _label(12, "wall", "construction", 3, (102, 102, 156)),
    _label(13, "fence", "construction", 4, (190, 153, 153)),
    _label(14, "guard rail", "construction", IGNORE, (180, 165, 180)),
    _label(15, "bridge", "construction", IGNORE, (150, 100, 100)),
    _label(16, "tunnel", "construction", IGNORE, (150, 120, 90)),
    _label(17, "pole", "object", 5, (153, 153, 153)),
    _label(18, "polegroup", "object", IGNORE, (153, 153, 153)),
    _label(19, "traffic light", "object", 6, (250, 170, 30)),
    _label(20, "traffic sign", "object", 7, (220, 220, 0)),
    _label(21, "vegetation", "nature", 8, (107, 142, 35)),
    _label(22, "terrain", "nature", 9, (152, 251, 152)),
    _label(23, "sky", "sky", 10, (70, 130, 180)),
    _label(24, "person", "human", 11, (220, 20, 60)),
    _label(25, "rider", "human", 12, (255, 0, 0)),
    _label(26, "car", "vehicle", 13, (0, 0, 142)),
    _label(27, "truck", "vehicle", 14, (0, 0, 70)),
    _label(28, "bus", "vehicle", 15, (0, 60, 100)),
    _label(29, "caravan", "vehicle", IGNORE, (0, 0, 90)),
    _label(30, "trailer", "vehicle", IGNORE, (0, 0, 110)),
    _label(31, "train", "vehicle", 16, (0, 80, 100)),
    _label(32, "motorcycle", "vehicle", 17, (0, 0, 230)),
    _label(33, "bicycle", "vehicle", 18, (119, 11, 32)),
)

EVALUATED = tuple(label for label in LABELS if not label.ignored)
"""The 19 classes, in the order of their train ids."""

CATEGORIES = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")

AVERAGE_INSTANCE_SIZE = {
    "bicycle": 4672.3249222261,
    "caravan": 36771.8241758242,
    "motorcycle": 6298.7200839748,
    "rider": 3930.4788056518,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "car": 12794.0202738185,
    "person": 3462.4756337644,
    "truck": 27855.1264367816,
    "trailer": 16926.9763313609,
}
"""Pixels of an average instance at 1024x2048; those of the classes that are evaluated give iIoU its weights."""

CITYSCAPES = ClassList(tuple(label.name for label in EVALUATED), tuple(label.color for label in EVALUATED))

CLASS_WEIGHTS = (
    0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023,
    0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
)  # fmt: skip
"""HRNet's weights of the 19 classes in the cross entropy."""


def train_ids() -> np.ndarray:
    """(34,) uint8: label id -> train id, 255 for the ids that are not evaluated."""
    return np.array([label.train_id for label in LABELS], np.uint8)


def label_ids() -> np.ndarray:
    """(256,) uint8: train id -> label id; everything else becomes 0, unlabeled."""
    table = np.zeros(256, np.uint8)
    for label in EVALUATED:
        table[label.train_id] = label.id
    return table
