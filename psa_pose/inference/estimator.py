"""`PoseEstimator`: pictures and person boxes in, people out, whatever computes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from psa_pose.checkpoints.spec import load_network
from psa_pose.device import check_dtype, usable_device
from psa_pose.errors import DataError
from psa_pose.inference.backends import Backend, OnnxBackend
from psa_pose.media.pictures import as_pixels
from psa_pose.metrics.oks import instance_scores
from psa_pose.models.gates import Gates
from psa_pose.predict import TorchBackend, crop_to_image


@dataclass(frozen=True, eq=False)
class Person:
    """One person: box (4,) float64 x, y, width, height and keypoints (K, 3) float64 x, y, score, in image pixels.

    score: the box's times the mean of the keypoints' scores above TEST.KEYPOINT_SCORE, as in COCO's evaluation.
    heatmaps: (C, h, w) float32, the network's answer for the crop, where it was asked for.
    """

    box: np.ndarray
    keypoints: np.ndarray
    score: float
    heatmaps: np.ndarray | None = None


class PoseEstimator:
    """Pictures and person boxes in, people out. Any number of threads may call one estimator at the same time."""

    def __init__(self, network: Backend) -> None:
        self.skeleton = network.spec.skeleton
        self.device = network.device
        self.spec = network.spec
        self._network = network

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        device: str | torch.device = "auto",
        flip: bool = True,
        dtype: torch.dtype = torch.float32,
        fold: bool = True,
        channels_last: bool | None = None,
        compile: bool = False,
    ) -> PoseEstimator:
        """From what tools/train.py or tools/convert.py wrote (.pt or .safetensors), and nothing else.

        device: "auto" (a GPU if there is one), or torch's word for one. flip: average with the mirrored crop.
        dtype: what the network computes in, float32, bfloat16, or on a GPU float16.
        fold: BatchNorm is folded into the convolutions: the same answers up to rounding, in less time. channels_last:
        the order in which features are kept; None takes True on a CPU, where it is faster, and elsewhere what the
        network was trained with. compile: torch.compile, with whatever it needs; the first calls take minutes.
        Raises CheckpointError for an unfit file, ConfigError for what the device cannot do.
        """
        model, spec = load_network(path)
        where = usable_device(device)
        check_dtype(dtype, where)
        last = channels_last if channels_last is not None else spec.channels_last or where.type == "cpu"
        return cls(TorchBackend(model, spec, where, flip, dtype, fold, last, compile))

    @classmethod
    def from_onnx(
        cls,
        path: str | Path,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        threads: int = 0,
        flip: bool | None = None,
    ) -> PoseEstimator:
        """From a file that tools/export.py wrote as ONNX, computed by ONNX Runtime.

        providers: ONNX Runtime's names of what computes, the preferred first. threads: 0 takes as many as torch uses.
        flip: average with the mirrored crop; None: what the file does, by default True as of a checkpoint.
        Raises CheckpointError for an unfit file, ConfigError where ONNX Runtime or a provider is not installed, and
        where the file flips otherwise than it is asked to.
        """
        return cls(OnnxBackend(path, providers, threads, flip))

    def __call__(
        self,
        image: Any,
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
        heatmaps: bool = False,
        batch_size: int = 32,
    ) -> list[Person]:
        """The people in a picture, one per box and in the boxes' order.

        image: a path; a PIL image; or uint8 pixels (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey. A file or PIL image of
        a turned camera (EXIF orientation) is turned upright first, as every viewer shows it: image pixels, of boxes
        and answers, are those of the upright picture. boxes: (N, 4) x, y, width, height in image pixels, they may
        reach over the border; None takes the whole picture as one person's box. box_scores: (N,), 1 by default.
        heatmaps: keep them. batch_size: persons that the network sees at once.
        Raises DataError for a picture that cannot be read, or a box that is not finite, empty or outside the picture.
        """
        return self.batch([image], [boxes], [box_scores], heatmaps, batch_size)[0]

    def batch(
        self,
        images: Sequence[Any],
        boxes: Sequence[ArrayLike | None] | None = None,
        box_scores: Sequence[ArrayLike | None] | None = None,
        heatmaps: bool = False,
        batch_size: int = 32,
    ) -> list[list[Person]]:
        """As a call, for M pictures: their persons share batches, and each picture is read once. A list per picture."""
        boxes = [None] * len(images) if boxes is None else boxes
        box_scores = [None] * len(images) if box_scores is None else box_scores
        if not len(images) == len(boxes) == len(box_scores) or batch_size < 1:
            raise DataError(
                f"{len(images)} images with {len(boxes)} lists of boxes and {len(box_scores)} of scores, batches of "
                f"{batch_size}; give one list of each per image, and batches of 1 or more"
            )
        people: list[list[Person]] = [[] for _ in images]
        views = itertools.chain.from_iterable(
            self._views(number, *given) for number, given in enumerate(zip(images, boxes, box_scores, strict=True))
        )
        while chunk := list(itertools.islice(views, batch_size)):
            for one, person in zip(chunk, self._predict(chunk, heatmaps), strict=True):
                people[one.number].append(person)
        return people

    def gates(self, image: Any, boxes: ArrayLike | None = None) -> dict[str, Gates]:
        """The gates of every PSA block for the picture's N boxes, by module name in the network's order.

        Each: channel gate (N, C, 1, 1) and spatial gate (N, 1, h, w), None where the block has none. Not mirrored.
        """
        views = list(self._views(0, image, boxes, None))
        return self._network.gates(_crops(views)) if views else {}

    def _views(self, number: int, image: Any, boxes: ArrayLike | None, box_scores: ArrayLike | None) -> Iterator[_Crop]:
        """The crops of one picture, cut as they are asked for."""
        pixels = as_pixels(image)
        checked = _checked_boxes(boxes, pixels.shape[1], pixels.shape[0])
        scores = _checked_scores(box_scores, len(checked))
        for box, score in zip(checked, scores, strict=True):
            yield _Crop(number, box, score, *self.spec.crop(pixels, box))

    def _predict(self, views: list[_Crop], heatmaps: bool) -> list[Person]:
        crop_joints, scores, maps = self._network(_crops(views), heatmaps)
        matrices = torch.from_numpy(np.stack([view.matrix for view in views]))
        joints = crop_to_image(torch.from_numpy(crop_joints), matrices).numpy()
        certainty = scores.astype(float)
        found = instance_scores(np.array([v.score for v in views]), certainty, self.spec.keypoint_score)
        keypoints = np.concatenate([joints, certainty[..., None]], axis=2)
        kept: Sequence[np.ndarray | None] = [None] * len(views) if maps is None else [m.copy() for m in maps]
        rows = zip(views, keypoints, found.tolist(), kept, strict=True)
        return [Person(view.box.copy(), points.copy(), score, map_) for view, points, score, map_ in rows]


@dataclass(frozen=True, eq=False)
class _Crop:
    """A person's crop (H, W, 3) uint8 RGB; number: of the picture that it was cut from."""

    number: int
    box: np.ndarray
    score: float
    pixels: np.ndarray
    matrix: np.ndarray


def _crops(views: list[_Crop]) -> np.ndarray:
    return np.stack([view.pixels for view in views])


def _checked_boxes(boxes: ArrayLike | None, width: int, height: int) -> np.ndarray:
    """Boxes for a picture of width x height as (N, 4) float64; None: the whole of it. Raises DataError."""
    if boxes is None:
        return np.array([[0, 0, width, height]], float)
    try:
        array = np.array(boxes, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.full(1, np.nan)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise DataError("boxes must be numbers of shape (N, 4): x, y, width, height; give a list of such rows")
    wrong = ~(np.isfinite(array).all(1) & (array[:, 2:] > 0).all(1))
    if wrong.any():
        raise DataError(
            f"box {array[wrong][0].tolist()} (x, y, width, height) has no area; give finite numbers and sides above 0"
        )
    left, top, right, bottom = array[:, 0], array[:, 1], array[:, 0] + array[:, 2], array[:, 1] + array[:, 3]
    outside = (left >= width) | (top >= height) | (right <= 0) | (bottom <= 0) | (np.abs(array) > 1e6).any(1)
    if outside.any():
        raise DataError(
            f"box {array[outside][0].tolist()} (x, y, width, height) is not on the image of {width} x {height} pixels; "
            "give it in pixels of this image"
        )
    return array


def _checked_scores(scores: ArrayLike | None, number: int) -> list[float]:
    """One finite score per box, 1 where none are given. Raises DataError."""
    array = np.ones(number) if scores is None else np.asarray(scores, dtype=np.float64)
    if array.shape != (number,) or not np.isfinite(array).all():
        raise DataError(f"box scores of shape {array.shape} for {number} boxes; give one finite number per box")
    return array.tolist()
