"""Crops made on the device: workers read files, and the device decodes the JPEGs of a batch and warps them.

Order, randomness, joints, matrices and problems are those of the plain way (`dataset.py`, `loader.py`); the grey levels
differ as two decoders and two interpolations do. Decoding is torchvision's: nvJPEG on a GPU, libjpeg on a CPU. What its
decoders read differently or not at all (PNG, CMYK, more than 8 bits) is decoded by OpenCV, in the worker where the
file's first bytes tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from psa_pose.data.dataset import Batch, CropDataset, make_batch, stack
from psa_pose.data.loader import BatchMaker, Key
from psa_pose.errors import ConfigError, DataError
from psa_pose.geometry import invert
from psa_pose.media.headers import read_header
from psa_pose.media.pictures import Size, decode_image, is_plain_jpeg, orientation_to_apply, read_file, size_problem


class EncodedBatch(NamedTuple):
    """A `Batch` whose crops are not cut yet: M distinct images of B persons, all in one tensor: one shared memory.

    content: (bytes,) uint8, the images one after the other. sizes (M, 3): bytes, height and width; height 0 is a JPEG
    file, else these are RGB pixels; 0 bytes: the image has a problem. images (M,): of `Persons`. image_index (B,):
    which of the M is a person's. image_problems: M sentences, "" for none. The others: as in `Batch`.
    """

    content: torch.Tensor
    sizes: torch.Tensor
    images: torch.Tensor
    image_index: torch.Tensor
    image_problems: tuple[str, ...]
    joints: torch.Tensor
    visible: torch.Tensor
    matrices: torch.Tensor
    rows: torch.Tensor


def batch_maker(device_decode: bool, device: torch.device) -> BatchMaker:
    """What workers make: for `decode_on_device`, or crops. Raises ConfigError if the device decodes no JPEG."""
    if not device_decode:
        return make_batch
    jpeg = torch.from_numpy(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].reshape(-1))
    try:
        _torchvision_decode([jpeg], device)
    except (ImportError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"LOADER.DEVICE_DECODE is true but torchvision decodes no JPEG on {device} ({reason}); install a "
            "torchvision that does, or write false"
        ) from None
    return encode_batch


def encode_batch(dataset: CropDataset, keys: Sequence[Key]) -> EncodedBatch:
    """The samples of (epoch, row) keys with the files of their images, each read once. Runs in a worker."""
    matrices, joints, visible = zip(*dataset.poses(keys), strict=True)
    rows = np.array([row for _, row in keys])
    images, image_index = np.unique(dataset.persons.image[rows], return_inverse=True)
    contents, sizes, problems = zip(*(_encoded(dataset, int(image)) for image in images), strict=True)
    return EncodedBatch(
        content=torch.from_numpy(np.concatenate(contents)),
        sizes=torch.tensor(sizes),
        images=torch.from_numpy(images),
        image_index=torch.from_numpy(image_index),
        image_problems=problems,
        joints=stack(joints),
        visible=stack(visible),
        matrices=stack(matrices),
        rows=torch.from_numpy(rows),
    )


def _encoded(dataset: CropDataset, image: int) -> tuple[np.ndarray, tuple[int, int, int], str]:
    """Content, sizes and problem of an image, as in `EncodedBatch`. What is to be turned upright is decoded here."""
    path, size = dataset.image_path(image), dataset.stated_size(image)
    try:
        data = read_file(path)
        if is_plain_jpeg(data) and _as_stored(data, path, size, dataset.exif):
            return np.frombuffer(data, np.uint8), (len(data), 0, 0), ""
        pixels = decode_image(data, path, "rgb", size, dataset.exif)
    except DataError as error:
        return np.zeros(0, np.uint8), (0, 0, 0), str(error)
    return pixels.reshape(-1), (pixels.size, *pixels.shape[:2]), ""


def _as_stored(data: bytes, path: Path, size: Size, exif: str) -> bool:
    """True for a picture whose pixels are used as they are stored. Raises DataError where its size is another one."""
    header = read_header(data)
    if header is None or orientation_to_apply(header.orientation, header[:2], size, exif) > 1:
        return False
    problem = size_problem(path, header.orientation, header[:2], size)
    if problem:
        raise DataError(problem)
    return True


def decode_on_device(batch: Batch | EncodedBatch, dataset: CropDataset, device: torch.device) -> Batch:
    """The batch with its crops: on the device where it is encoded, else as it is. dataset: what it was made from."""
    if isinstance(batch, Batch):
        return batch
    pictures, problems = _pictures(batch, dataset, device)
    image_index = batch.image_index.tolist()
    usable = torch.tensor([not problems[i] for i in image_index])
    return Batch(
        crops=_crops(pictures, image_index, batch.matrices.numpy(), dataset.input_size, dataset.channel_order, device),
        joints=batch.joints,
        visible=batch.visible * usable[:, None],
        matrices=batch.matrices,
        rows=batch.rows,
        problems=tuple(problems[i] for i in image_index),
    )


def _pictures(batch: EncodedBatch, dataset: CropDataset, device: torch.device) -> tuple[list[torch.Tensor], list[str]]:
    """Each image of a batch, (3, H, W) uint8 RGB on the device, and its problem; with a problem, a black pixel."""
    sizes, problems = batch.sizes.tolist(), list(batch.image_problems)
    parts = batch.content.split([size[0] for size in sizes])
    jpegs = [i for i, size in enumerate(sizes) if size[0] and not size[1]]
    decoded = dict(zip(jpegs, decode_jpegs([parts[i] for i in jpegs], device), strict=True))
    pictures = []
    for i, (length, height, width) in enumerate(sizes):
        picture = decoded.get(i)
        if picture is None:
            pixels = torch.zeros(1, 1, 3, dtype=torch.uint8)
            if height:
                pixels = parts[i].view(height, width, 3)
            elif length:
                path = dataset.image_path(int(batch.images[i]))
                try:
                    pixels = torch.from_numpy(decode_image(parts[i].numpy().tobytes(), path))
                except DataError as error:
                    problems[i] = str(error)
            picture = pixels.to(device, non_blocking=True).permute(2, 0, 1)
        pictures.append(picture)
    return pictures, problems


def decode_jpegs(files: Sequence[torch.Tensor], device: torch.device) -> list[torch.Tensor | None]:
    """The bytes of JPEG files, (n,) uint8 on the CPU, -> (3, H, W) uint8 RGB on the device; None where it is refused.

    An EXIF rotation is ignored, grey becomes three equal channels.
    """
    if not files:
        return []
    try:
        return list(_torchvision_decode(files, device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        # One refused file is an error of them all.
        if len(files) == 1:
            return [None]
        return [picture for file in files for picture in decode_jpegs([file], device)]


def _torchvision_decode(files: Sequence[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    # torchvision 0.29 announces that this function will go; the rest of the package does without.
    from torchvision.io import ImageReadMode, decode_jpeg

    return decode_jpeg(list(files), ImageReadMode.RGB, device)


def _crops(
    pictures: Sequence[torch.Tensor],
    image_index: Sequence[int],
    matrices: np.ndarray,
    size: tuple[int, int],
    channel_order: str,
    device: torch.device,
) -> torch.Tensor:
    """The crops (B, H, W, 3) uint8 of persons: image_index (B,) says of which RGB picture, matrices (B, 2, 3) where."""
    extents = np.array([pictures[i].shape[:0:-1] for i in image_index], np.float64)
    grids = sampling_grids(matrices, extents, size, device)
    crops = torch.empty((len(image_index), 3, size[1], size[0]), device=device)
    for number, picture in enumerate(pictures):
        image = picture[None].float()
        for person in [row for row, i in enumerate(image_index) if i == number]:
            crops[person] = F.grid_sample(image, grids[person, None], padding_mode="zeros", align_corners=False)[0]
    if channel_order == "bgr":
        crops = crops.flip(1)
    return crops.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def sampling_grids(
    matrices: np.ndarray, extents: np.ndarray, size: tuple[int, int], device: torch.device
) -> torch.Tensor:
    """Where each pixel of a crop looks in its image, for `grid_sample` with align_corners=False: (B, H, W, 2) float32.

    matrices: (B, 2, 3), image to crop pixels. extents: (B, 2), width and height of the images. size: of the crops.
    """
    # x = 0 is the centre of the leftmost pixel here (`geometry.py`); there -1 and 1 are the picture's outer edges.
    back = invert(matrices) * (2 / extents[..., None])
    back[..., 2] += 1 / extents - 1
    # In float32 and without a matrix product, which may be in TF32: right to 1/1000 of a pixel in any photograph.
    numbers = torch.from_numpy(back).float()
    if device.type == "cuda":
        # From such memory a copy does not wait for what is queued on the device.
        numbers = numbers.pin_memory()
    a, b, c = numbers.to(device, non_blocking=True)[:, None, None].unbind(-1)
    x = torch.arange(size[0], device=device)[None, None, :, None]
    y = torch.arange(size[1], device=device)[None, :, None, None]
    return a * x + b * y + c
