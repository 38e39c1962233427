"""One person -> one crop: decode the image, choose the view, warp image and joints with one matrix."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from psa_pose.data.augment import Augmentation, View, augment_view, sample_generator
from psa_pose.data.coco import Persons
from psa_pose.data.images import read_image
from psa_pose.errors import DataError
from psa_pose.geometry import Grid, box_to_region, crop_matrix, transform_points, warp
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


class CropDataset(Dataset):
    """Crops of persons, addressed by (epoch, row): the epoch seeds the augmentation.

    input_size: (width, height) of the crop, pixels. grid: the codec's. augmentation: None for evaluation.
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
    ) -> None:
        self.persons = persons
        self.image_folder = image_folder
        self.skeleton = skeleton
        self.input_size = input_size
        self.grid = grid
        self.channel_order = channel_order
        self.augmentation = augmentation
        self.seed = seed
        self.centers, self.regions = box_to_region(persons.boxes, input_size[0] / input_size[1], padding)
        self._last_image: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.persons)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        return self.sample(key)

    def sample(self, key: tuple[int, int], out: np.ndarray | None = None) -> Sample:
        """The sample of (epoch, row); its crop is written into `out` (H, W, 3) uint8, where that is given."""
        row = key[1]
        matrix, joints, visible = self.pose(key)
        try:
            crop = warp(self._image(int(self.persons.image[row])), matrix, self.input_size, out)
        except DataError as error:
            blank = np.zeros((self.input_size[1], self.input_size[0], 3), np.uint8) if out is None else out
            blank.fill(0)
            return Sample(blank, joints, np.zeros_like(visible), matrix, row, str(error))
        return Sample(crop, joints, visible, matrix, row, "")

    def pose(self, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Matrix, joints and visible of a sample, as in `Sample`, without a look at the image."""
        epoch, row = key
        joints, visible = self.persons.joints[row], self.persons.visible[row]
        view = View(self.centers[row], self.regions[row])
        if self.augmentation is not None:
            generator = sample_generator(self.seed, epoch, row)
            view = augment_view(view, joints, visible, self.augmentation, self.skeleton, generator)
        matrix = crop_matrix(view.center, view.region, view.rotation, self.input_size, self.grid, view.mirror)
        joints = transform_points(joints, matrix).astype(np.float32)
        if view.mirror:
            order = self.skeleton.flip_order
            joints, visible = joints[order], visible[order]
        return matrix, joints, visible

    def image_path(self, image: int) -> Path:
        """The file of an image of `persons`."""
        return self.image_folder / self.persons.image_names[image].decode()

    def _image(self, image: int) -> np.ndarray:
        """The decoded image; kept until another is asked for, since boxes of one image often follow each other."""
        if self._last_image is None or self._last_image[0] != image:
            self._last_image = (image, read_image(self.image_path(image), self.channel_order))
        return self._last_image[1]
