"""One person -> one crop: decode the image, choose the view, warp image and joints with one matrix; and batches.

Crops stay uint8 until they are on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from psa_pose.data.augment import Augmentation, View, augment_view, pixel_generator, sample_generator
from psa_pose.data.augment_pixels import augment_pixels
from psa_pose.data.formats.coco import Persons
from psa_pose.data.loader import Key
from psa_pose.errors import DataError
from psa_pose.geometry import Grid, box_to_region, crop_matrix, transform_points, warp
from psa_pose.media.pictures import read_image
from psa_pose.skeleton import Skeleton


class Sample(NamedTuple):
    """What leaves a worker for one person: small, not normalised, targets not made.

    crop (H, W, 3) uint8. joints (K, 2) float32, crop pixels; visible (K,) float32, 0 or 1.
    matrix (2, 3) float64, image to crop. row: of the person. problem: "" or why the image could not be read; the crop
    is then black and no joint is visible, so that it adds nothing to the loss.
    """

    crop: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    matrix: np.ndarray
    row: int
    problem: str


class Batch(NamedTuple):
    """Samples stacked: crops (B, H, W, 3) uint8, joints (B, K, 2), visible (B, K), matrices (B, 2, 3), rows (B,)."""

    crops: torch.Tensor
    joints: torch.Tensor
    visible: torch.Tensor
    matrices: torch.Tensor
    rows: torch.Tensor
    problems: tuple[str, ...]


class CropGeometry(NamedTuple):
    """A person in its crop: matrix (2, 3) image to crop pixels, joints (K, 2) crop pixels, visible (K,)."""

    matrix: np.ndarray
    joints: np.ndarray
    visible: np.ndarray


class CropDataset(Dataset):
    """Crops of persons, addressed by (epoch, row): the epoch seeds the augmentation.

    input_size: (width, height) of the crop, pixels. grid: the codec's. augmentation: None for evaluation. exif: as in
    `psa_pose.media.pictures.read_image`.
    """

    def __init__(
        self,
        persons: Persons,
        image_folder: Path,
        skeleton: Skeleton,
        input_size: tuple[int, int],
        grid: Grid,
        padding: float,
        channel_order: str,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        exif: str = "ignore",
    ) -> None:
        self.persons = persons
        self.image_folder = image_folder
        self.skeleton = skeleton
        self.input_size = input_size
        self.grid = grid
        self.channel_order = channel_order
        self.augmentation = augmentation
        self.seed = seed
        self.exif = exif
        self.centers, self.regions = box_to_region(persons.boxes, input_size[0] / input_size[1], padding)
        self._last_image: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.persons)

    @property
    def ids(self) -> np.ndarray:
        """(N,): the annotation of each person, -1 for a detection."""
        return self.persons.annotation_ids

    @property
    def groups(self) -> np.ndarray:
        """(N,): the image of each person."""
        return self.persons.image

    def __getitem__(self, key: Key) -> Sample:
        return self.sample(key)

    def sample(self, key: Key, out: np.ndarray | None = None, pose: CropGeometry | None = None) -> Sample:
        """The sample of (epoch, row); its crop is written into `out` (H, W, 3) uint8, where that is given.

        pose: of this key, where `poses` has found it together with those of others.
        """
        epoch, row = key
        matrix, joints, visible = pose or next(self.poses([key]))
        try:
            crop = warp(self._image(int(self.persons.image[row])), matrix, self.input_size, out)
        except DataError as error:
            blank = np.zeros((self.input_size[1], self.input_size[0], 3), np.uint8) if out is None else out
            blank.fill(0)
            return Sample(blank, joints, np.zeros_like(visible), matrix, row, str(error))
        if self.augmentation and self.augmentation.pixels:
            generator = pixel_generator(self.seed, epoch, row)
            augment_pixels(crop, joints, visible, self.augmentation.pixels, self.channel_order, generator)
        return Sample(crop, joints, visible, matrix, row, "")

    def poses(self, keys: Sequence[Key]) -> Iterator[CropGeometry]:
        """Where the persons of (epoch, row) keys lie in their crops, without a look at the images."""
        rows = np.array([row for _, row in keys])
        views = [self._view(epoch, row) for epoch, row in keys]
        centers, regions, rotations, mirrored = zip(
            *((view.center, view.region, view.rotation, view.mirror) for view in views), strict=True
        )
        matrices = crop_matrix(np.array(centers), np.array(regions), rotations, self.input_size, self.grid, mirrored)
        joints, visible = self.persons.joints[rows], self.persons.visible[rows]
        joints = transform_points(joints, matrices).astype(np.float32)
        turned = np.array(mirrored)
        joints[turned] = joints[turned][:, self.skeleton.flip_order]
        visible[turned] = visible[turned][:, self.skeleton.flip_order]
        return map(CropGeometry, matrices, joints, visible)

    def _view(self, epoch: int, row: int) -> View:
        view = View(self.centers[row], self.regions[row])
        if self.augmentation is None:
            return view
        joints, visible = self.persons.joints[row], self.persons.visible[row]
        generator = sample_generator(self.seed, epoch, row)
        return augment_view(view, joints, visible, self.augmentation, self.skeleton, generator)

    def image_path(self, image: int) -> Path:
        """The file of an image of `persons`."""
        return self.image_folder / self.persons.image_names[image].decode()

    def stated_size(self, image: int) -> tuple[float, float]:
        """Width and height of an image of `persons` as the annotations state them; 0 where they do not."""
        width, height = self.persons.image_sizes[image].tolist()
        return width, height

    def _image(self, image: int) -> np.ndarray:
        """The decoded image; kept until another is asked for, since boxes of one image often follow each other."""
        if self._last_image is None or self._last_image[0] != image:
            path, size = self.image_path(image), self.stated_size(image)
            self._last_image = (image, read_image(path, self.channel_order, size, self.exif))
        return self._last_image[1]


def make_batch(dataset: CropDataset, keys: Sequence[Key]) -> Batch:
    """The samples of (epoch, row) keys as one batch; each crop is written where it stays."""
    width, height = dataset.input_size
    crops = torch.empty((len(keys), height, width, 3), dtype=torch.uint8)
    parts = zip(keys, crops.numpy(), dataset.poses(keys), strict=True)
    return _batch(crops, [dataset.sample(*part) for part in parts])


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples that are there already, as one batch of tensors."""
    return _batch(stack([sample.crop for sample in samples]), samples)


def _batch(crops: torch.Tensor, samples: Sequence[Sample]) -> Batch:
    _, joints, visible, matrices, rows, problems = zip(*samples, strict=True)
    return Batch(crops, stack(joints), stack(visible), stack(matrices), torch.tensor(rows), problems)


def stack(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    """Arrays of one shape as one tensor, along a new first axis."""
    return torch.from_numpy(np.stack(arrays))
