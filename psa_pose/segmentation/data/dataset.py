"""Pictures and label maps as samples and batches: each file is decoded once per sample, crops stay uint8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from psa_pose.data.augment import sample_generator
from psa_pose.errors import DataError
from psa_pose.media.pictures import read_image
from psa_pose.segmentation.classes import IGNORE
from psa_pose.segmentation.data.augment import PAD_LABEL, SegmentationAugmentation, cut, draw_view, jitter_color
from psa_pose.segmentation.data.class_uniform import ClassPlaces, class_places, tile_places
from psa_pose.segmentation.data.label_files import read_label
from psa_pose.segmentation.data.pictures import Pictures

# ImageNet's mean colour, RGB: what normalisation makes 0.
MEAN_COLOR = (124, 116, 104)


class SegmentationBatch(NamedTuple):
    """Crops and labels: images (B, H, W, 3) uint8, labels (B, H, W) uint8, rows (B,) of the pictures that they show.

    problems: "" or why a file could not be read; such a sample is grey and ignored everywhere.
    """

    images: torch.Tensor
    labels: torch.Tensor
    rows: torch.Tensor
    problems: tuple[str, ...]


class WholePicture(NamedTuple):
    """One picture at its own size: image (H, W, 3) uint8, label (H, W) uint8 (all 255 without one), row, problem."""

    image: torch.Tensor
    label: torch.Tensor
    row: int
    problem: str


@dataclass(frozen=True)
class LabelReader:
    """How label files become labels: table of `label_files`, classes: how many there are."""

    table: np.ndarray
    classes: int


class SegmentationDataset(Dataset):
    """Pictures addressed by (epoch, row): the epoch seeds the augmentation.

    crop_size: (width, height) of a training crop, pixels. channel_order: "rgb" or "bgr". pad_label: "ignore" or
    "background", see `PAD_LABEL`. places: for class-uniform crops, of `find_places`.
    """

    def __init__(
        self,
        pictures: Pictures,
        reader: LabelReader,
        crop_size: tuple[int, int],
        channel_order: str = "rgb",
        augmentation: SegmentationAugmentation | None = None,
        seed: int = 0,
        pad_label: str = "ignore",
        places: ClassPlaces | None = None,
    ) -> None:
        self.pictures, self.reader, self.crop_size, self.seed = pictures, reader, crop_size, seed
        self.channel_order, self.augmentation = channel_order, augmentation or SegmentationAugmentation((1, 1), 0, 0)
        self.pad_label, self.places = PAD_LABEL[pad_label], places

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def ids(self) -> np.ndarray:
        """(N,) names of the pictures."""
        return np.array(self.pictures.names)

    @property
    def groups(self) -> np.ndarray:
        """(N,): every picture is its own."""
        return np.arange(len(self))

    def read(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) and label (H, W) of a row, uint8; without labels, all is ignored. Raises DataError."""
        image = read_image(self.pictures.images[row], self.channel_order)
        if not self.pictures.labels:
            return image, np.full(image.shape[:2], IGNORE, np.uint8)
        size = (image.shape[1], image.shape[0])
        return image, read_label(self.pictures.labels[row], self.reader.table, size)

    def crop(self, key: tuple[int, int], image_out: np.ndarray, label_out: np.ndarray) -> tuple[int, str]:
        """The picture's row and what is wrong with its files, or "", after an augmented crop of it was written.

        key: (epoch, row); a class-uniform crop is of another row. image_out: (h, w, 3) uint8. label_out: (h, w) uint8,
        all 255 where something is wrong.
        """
        options, (epoch, row) = self.augmentation, key
        generator = sample_generator(self.seed, epoch, row)
        focus = None
        # Drawn in any case, so that one option does not move the others.
        uniform = generator.random() < options.class_uniform_prob
        if self.places is not None:
            chosen, place = self.places.draw(generator)
            row, focus = (chosen, place) if uniform else (row, None)
        padding = np.array(MEAN_COLOR if self.channel_order == "rgb" else MEAN_COLOR[::-1], np.uint8)
        try:
            image, label = self.read(row)
        except DataError as error:
            image_out[...], label_out[...] = padding, IGNORE
            return row, str(error)
        view = draw_view((image.shape[1], image.shape[0]), self.crop_size, options, generator, focus)
        cut(image, view, image_out, padding)
        cut(label, view, label_out, self.pad_label)
        if options.color:
            jitter_color(image_out, options.color, generator, self.channel_order)
        return row, ""


def make_segmentation_batch(dataset: SegmentationDataset, keys: Sequence[tuple[int, int]]) -> SegmentationBatch:
    """The crops of (epoch, row) keys as one batch; each is written where it stays."""
    width, height = dataset.crop_size
    images = torch.empty((len(keys), height, width, 3), dtype=torch.uint8)
    labels = torch.empty((len(keys), height, width), dtype=torch.uint8)
    parts = zip(keys, images.numpy(), labels.numpy(), strict=True)
    rows, problems = zip(*(dataset.crop(*part) for part in parts), strict=True)
    return SegmentationBatch(images, labels, torch.tensor(rows), problems)


def make_whole_pictures(dataset: SegmentationDataset, keys: Sequence[tuple[int, int]]) -> list[WholePicture]:
    """The pictures of keys, whole and unchanged, for an evaluation; one that cannot be read is one ignored pixel."""
    pictures = []
    for _, row in keys:
        try:
            image, label = dataset.read(row)
            pictures.append(WholePicture(torch.from_numpy(image), torch.from_numpy(label), row, ""))
        except DataError as error:
            grey, ignored = torch.full((1, 1, 3), 128, dtype=torch.uint8), torch.full((1, 1), IGNORE, dtype=torch.uint8)
            pictures.append(WholePicture(grey, ignored, row, str(error)))
    return pictures


def find_places(pictures: Pictures, reader: LabelReader, tile: int = 1024) -> tuple[ClassPlaces, list[str]]:
    """Where each class is in the pictures' labels, and a sentence for each label that has no places as it is unusable.

    Every label file is read once. Raises DataError where no class has a place.
    """
    places, problems = [], []
    for path in pictures.labels:
        try:
            places.append(tile_places(read_label(path, reader.table), tile))
        except DataError as error:
            places.append(np.zeros((0, 3), np.int64))
            problems.append(str(error))
    return class_places(places, reader.classes), problems
