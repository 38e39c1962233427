"""A checkpoint and a picture -> people: `PoseEstimator`.

    estimator = psa_pose.PoseEstimator.from_checkpoint("best.pt")
    for person in estimator("picture.jpg", boxes=[[50, 20, 120, 300]]):
        print(person.score, person.keypoints)

Coordinates are pixels of the picture as `psa_pose.geometry` defines them: x = 0 is the centre of the leftmost column.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from psa_pose.checkpoints import check_content, load_checkpoint, load_weights
from psa_pose.codecs import Codec
from psa_pose.codecs.build import build_codec
from psa_pose.config import parse_config
from psa_pose.data.images import read_image
from psa_pose.errors import CheckpointError, ConfigError, DataError
from psa_pose.evaluation.oks import instance_scores
from psa_pose.geometry import box_to_region, crop_matrix, warp
from psa_pose.models import build_model
from psa_pose.models.gates import Gates, collect_gates
from psa_pose.predict import Normalization, predict_maps, to_image
from psa_pose.skeleton import Skeleton, make_skeleton

# cv2.warpAffine holds positions in 16 bits.
GREATEST_SIDE = 32_766


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


@dataclass(frozen=True)
class View:
    """What a network was trained to be shown: padding of the box, channel order, and score above which joints count."""

    padding: float
    channel_order: str
    keypoint_score: float


class PoseEstimator:
    """Pictures and person boxes in, people out. Any number of threads may call one estimator at the same time."""

    def __init__(
        self,
        model: nn.Module,
        codec: Codec,
        normalization: Normalization,
        skeleton: Skeleton,
        view: View,
        flip: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.skeleton = skeleton
        self.device = normalization.mean.device
        self._model = model.to(self.device).eval().requires_grad_(False)
        self._codec, self._normalization, self._view = codec, normalization, view
        self._flip, self._dtype = flip, dtype

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        device: str | torch.device = "auto",
        flip: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> PoseEstimator:
        """From what tools/train.py or scripts/convert_checkpoint.py wrote (.pt or .safetensors), and nothing else.

        device: "auto" (a GPU if there is one), or torch's word for one. flip: average with the mirrored crop.
        dtype: what the network computes in, float32, bfloat16, or on a GPU float16.
        Raises CheckpointError for an unfit file, ConfigError for what the device cannot do.
        """
        content = load_checkpoint(path)
        check_content(content, path)
        cfg = parse_config(content["config"], f"checkpoint {path}")
        shown = _shown(content["input"], path)
        if [list(cfg.INPUT.SIZE), cfg.INPUT.CHANNEL_ORDER] != [shown["SIZE"], shown["CHANNEL_ORDER"]]:
            raise CheckpointError(f"checkpoint {path} contradicts itself on its input; use another one")
        skeleton = make_skeleton(content["skeleton"], f"checkpoint {path}")
        if skeleton.num_joints != cfg.MODEL.NUM_JOINTS:
            raise CheckpointError(
                f"checkpoint {path} names {skeleton.num_joints} keypoints but its network has {cfg.MODEL.NUM_JOINTS}; "
                "use another one"
            )
        where = choose_device(device)
        check_dtype(dtype, where)
        model = build_model(cfg)
        load_weights(model, content["model"], path)
        normalization = Normalization.of(shown["MEAN"], shown["STD"], where, cfg.MODEL.CHANNELS_LAST)
        view = View(shown["PADDING"], shown["CHANNEL_ORDER"], cfg.TEST.KEYPOINT_SCORE)
        return cls(model, build_codec(cfg), normalization, skeleton, view, flip, dtype)

    def __call__(
        self,
        image: Any,
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
        heatmaps: bool = False,
        batch_size: int = 32,
    ) -> list[Person]:
        """The people in a picture, one per box and in the boxes' order.

        image: a path; a PIL image; or uint8 pixels (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey. EXIF rotation is
        ignored, as in the evaluation. boxes: (N, 4) x, y, width, height in image pixels, they may reach over the
        border; None takes the whole picture as one person's box. box_scores: (N,), 1 by default. heatmaps: keep them.
        batch_size: persons that the network sees at once.
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
        if not views:
            return {}
        # The hooks are put on a copy that shares the weights, so that other threads do not meet them.
        shared = {id(t): t for t in itertools.chain(self._model.parameters(), self._model.buffers())}
        with self._context():
            return collect_gates(copy.deepcopy(self._model, shared), self._normalization(_crops(views)))

    def _views(self, number: int, image: Any, boxes: ArrayLike | None, box_scores: ArrayLike | None) -> Iterator[_Crop]:
        """The crops of one picture, cut as they are asked for."""
        pixels = as_pixels(image)
        checked = check_boxes(boxes, pixels.shape[1], pixels.shape[0])
        scores = check_scores(box_scores, len(checked))
        width, height = self._codec.input_size
        centers, regions = box_to_region(checked, width / height, self._view.padding)
        for box, score, center, region in zip(checked, scores, centers, regions, strict=True):
            matrix = crop_matrix(center, region, 0.0, (width, height), self._codec.grid)
            crop = warp(pixels, matrix, (width, height))
            yield _Crop(number, box, score, matrix, crop if self._view.channel_order == "rgb" else crop[..., ::-1])

    def _predict(self, views: list[_Crop], heatmaps: bool) -> list[Person]:
        with torch.inference_mode():
            images = self._normalization(_crops(views))
            with self._context():
                maps = predict_maps(self._model, images, self._codec, self.skeleton.flip_pairs, self._flip)
            maps = maps.float()
            crop_joints, scores = (answer.cpu() for answer in self._codec.decode(maps))
            joints = to_image(crop_joints, torch.from_numpy(np.stack([view.matrix for view in views]))).numpy()
        certainty = scores.numpy().astype(float)
        found = instance_scores(np.array([v.score for v in views]), certainty, self._view.keypoint_score)
        keypoints = np.concatenate([joints, certainty[..., None]], axis=2)
        kept: Sequence[np.ndarray | None] = [m.copy() for m in maps.cpu().numpy()] if heatmaps else [None] * len(views)
        rows = zip(views, keypoints, found.tolist(), kept, strict=True)
        return [Person(view.box.copy(), points.copy(), score, map_) for view, points, score, map_ in rows]

    def _context(self) -> AbstractContextManager:
        return nullcontext() if self._dtype == torch.float32 else torch.autocast(self.device.type, self._dtype)


@dataclass(frozen=True, eq=False)
class _Crop:
    """A person's crop (H, W, 3) uint8 in the model's channel order; number: of the picture that it was cut from."""

    number: int
    box: np.ndarray
    score: float
    matrix: np.ndarray
    pixels: np.ndarray


def _crops(views: list[_Crop]) -> torch.Tensor:
    return torch.from_numpy(np.stack([view.pixels for view in views]))


def as_pixels(image: Any) -> np.ndarray:
    """A path, a PIL image or an array of grey, RGB or RGBA uint8 pixels -> (H, W, 3) uint8 RGB. Raises DataError."""
    if isinstance(image, str | Path):
        pixels = read_image(Path(image))
    elif hasattr(image, "getbands") and hasattr(image, "convert"):
        if image.mode[0] in "IF":
            raise DataError(f"a PIL image of mode {image.mode} has no 8-bit pixels; convert it to 'L' or 'RGB'")
        pixels = np.asarray(image.convert("RGB"))
    else:
        pixels = _from_array(image)
    if max(pixels.shape[:2]) > GREATEST_SIDE:
        raise DataError(
            f"an image of {pixels.shape[1]} x {pixels.shape[0]} pixels is too large; "
            f"cut or scale it to at most {GREATEST_SIDE} a side"
        )
    return np.ascontiguousarray(pixels)


def _from_array(image: Any) -> np.ndarray:
    if not isinstance(image, np.ndarray):
        raise DataError(f"an image cannot be a {type(image).__name__}; give a path, a PIL image or a NumPy array")
    pixels = image[..., None] if image.ndim == 2 else image
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.size == 0:
        raise DataError(
            f"an image array of shape {image.shape} and type {image.dtype} is not a picture; "
            "give non-empty uint8 pixels (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey"
        )
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]


def check_boxes(boxes: ArrayLike | None, width: int, height: int) -> np.ndarray:
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


def check_scores(scores: ArrayLike | None, number: int) -> list[float]:
    """One finite score per box, 1 where none are given. Raises DataError."""
    array = np.ones(number) if scores is None else np.asarray(scores, dtype=np.float64)
    if array.shape != (number,) or not np.isfinite(array).all():
        raise DataError(f"box scores of shape {array.shape} for {number} boxes; give one finite number per box")
    return array.tolist()


def choose_device(device: str | torch.device) -> torch.device:
    """ "auto" or a torch device -> a device that is there. Raises ConfigError. Changes no process-wide setting."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        first = str(error).splitlines()[0][:120]
        raise ConfigError(f"device {str(device)!r} cannot be used ({first}); choose 'auto' or 'cpu'") from None
    return chosen


def check_dtype(dtype: torch.dtype, device: torch.device) -> None:
    """Raise ConfigError for a number type that networks are not evaluated in on this device."""
    allowed = (torch.float32, torch.bfloat16, *((torch.float16,) if device.type == "cuda" else ()))
    if dtype not in allowed:
        raise ConfigError(f"dtype {dtype} cannot be used on a {device.type}; choose one of {allowed}")


def _shown(stated: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The checkpoint's input; raises CheckpointError where something is not stated."""
    for key in ("SIZE", "PADDING", "CHANNEL_ORDER", "MEAN", "STD"):
        if key not in stated:
            raise CheckpointError(f"checkpoint {path} does not state INPUT.{key}; use another one")
    return stated
