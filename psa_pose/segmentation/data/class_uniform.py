"""Where each class is, for crops that show every class equally often (NVIDIA's class-uniform sampling)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psa_pose.errors import DataError
from psa_pose.segmentation.classes import IGNORE


@dataclass(frozen=True)
class ClassPlaces:
    """Centres of the classes in the tiles of the label maps; sorted by class.

    picture: (M,) row of the picture. x, y: (M,) pixels. start: (C + 1,) where each class's places begin.
    """

    picture: np.ndarray
    x: np.ndarray
    y: np.ndarray
    start: np.ndarray

    def draw(self, generator: np.random.Generator) -> tuple[int, tuple[int, int]]:
        """A row and a pixel (x, y) in it: every class that occurs is as likely, then every place of it."""
        draws = generator.random(2)
        there = np.flatnonzero(np.diff(self.start))
        wanted = there[int(draws[0] * len(there))]
        first, last = self.start[wanted], self.start[wanted + 1]
        at = first + int(draws[1] * (last - first))
        return int(self.picture[at]), (int(self.x[at]), int(self.y[at]))


def tile_places(labels: np.ndarray, tile: int = 1024, smallest: int = 64) -> np.ndarray:
    """(n, 3) int64 of one label map (H, W) uint8: class, x and y of its centre in each tile where it has any pixels.

    A class with fewer than `smallest` pixels in a tile is left out there. The centre is the mean of the class's pixels.
    """
    height, width = labels.shape
    rows, columns = np.arange(height) // tile, np.arange(width) // tile
    tiles = rows[:, None] * (columns[-1] + 1) + columns[None]
    counted = labels != IGNORE
    cells = (tiles * 256 + labels)[counted]
    y, x = np.nonzero(counted)
    numbers = np.bincount(cells)
    there = np.flatnonzero(numbers >= smallest)
    centres = [np.bincount(cells, values)[there] / numbers[there] for values in (x, y)]
    return np.stack([there % 256, *(np.rint(centre).astype(np.int64) for centre in centres)], 1)


def class_places(places: list[np.ndarray], classes: int) -> ClassPlaces:
    """The `tile_places` of every picture, in the pictures' order, as one table.

    Raises DataError where no class has a place.
    """
    rows = np.repeat(np.arange(len(places)), [len(place) for place in places])
    everything = np.concatenate(places) if places else np.zeros((0, 3), np.int64)
    if not len(everything):
        raise DataError("no label map has a class large enough for class-uniform crops; set their share to 0")
    order = np.argsort(everything[:, 0], kind="stable")
    sorted_places = everything[order]
    start = np.searchsorted(sorted_places[:, 0], np.arange(classes + 1))
    return ClassPlaces(rows[order], sorted_places[:, 1], sorted_places[:, 2], start)
