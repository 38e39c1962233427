"""Label maps as files: PNGs whose pixels are class indices, with or without a palette."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from psa_pose.errors import DataError
from psa_pose.files import atomic_write
from psa_pose.media.pictures import read_file
from psa_pose.segmentation.cityscapes_classes import train_ids
from psa_pose.segmentation.classes import IGNORE

UNKNOWN = 254
"""What a label table makes of a value that is neither a class nor ignored; no data set has so many classes."""

# PNG's bits of a grey pixel -> what Pillow multiplies its values by, to fill 0 to 255.
GREY_STEPS = {2: 85, 4: 17}


def index_table(classes: int) -> np.ndarray:
    """(256,) uint8, value in the file -> label, for files that hold 0 to classes - 1 and 255."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[:classes] = np.arange(classes)
    table[IGNORE] = IGNORE
    return table


def cityscapes_table() -> np.ndarray:
    """(256,) uint8, label id -> train id, for Cityscapes' labelIds files."""
    table = index_table(0)
    table[: len(train_ids())] = train_ids()
    return table


def read_label(path: Path, table: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
    """The label map of a PNG, (H, W) uint8: classes, and 255 where a pixel does not count.

    table: of `index_table` or `cityscapes_table`. size: (width, height) of the image it belongs to.
    Raises DataError for a missing or broken file, colours instead of indices, another size, a value that is no class.
    """
    values = read_indices(path)
    if size is not None and values.shape != size[::-1]:
        raise DataError(
            f"label {path} is {values.shape[1]}x{values.shape[0]} pixels, its image {size[0]}x{size[1]}; "
            "make them the same size"
        )
    labels = _through(values, table)
    # Values that are their own labels are all known.
    if labels is not values and (labels == UNKNOWN).any():
        wrong = sorted(set(np.unique(values[labels == UNKNOWN]).tolist()))
        allowed = int((table[:IGNORE] != UNKNOWN).sum())
        raise DataError(
            f"label {path} has the values {', '.join(map(str, wrong[:5]))}, which are neither one of the "
            f"{allowed} known ones nor 255; check the class list, or write 255 where a pixel does not count"
        )
    return labels


def _through(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Values (H, W) uint8 through a table; themselves where they are their own labels, which is seen sooner."""
    same = int((table != np.arange(256)).argmax())
    # 255 + 1 is 0 here.
    if table[IGNORE] == IGNORE and (values + np.uint8(1)).max(initial=0) <= same:
        return values
    return cv2.LUT(values, table)


def read_indices(path: Path) -> np.ndarray:
    """The pixel values of a PNG of class indices, (H, W) uint8, whatever its palette."""
    data = read_file(path)
    try:
        with Image.open(io.BytesIO(data)) as picture:
            kind = picture.mode
            values = np.array(picture) if kind in ("P", "L", "1") else None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        raise DataError(
            f"label {path} is not a picture that can be read ({len(data)} bytes); replace the file"
        ) from None
    if kind.startswith(("I", "F")):
        raise DataError(f"label {path} has 16 or more bits per pixel; write class indices as an 8-bit PNG")
    if values is None:
        raise DataError(
            f"label {path} is a colour picture ({kind}), not class indices; convert each colour to its class's number"
        )
    values, step = values.astype(np.uint8, copy=False), _grey_step(data)
    return values // np.uint8(step) if step > 1 else values


def _grey_step(data: bytes) -> int:
    """What the grey values of a file's bytes were multiplied by when they were read; 1: nothing."""
    # A PNG's header: its signature, then the size, the bits of a pixel and the kind, 0 for grey.
    small_grey = data[:4] == b"\x89PNG" and data[25] == 0
    return GREY_STEPS.get(data[24], 1) if small_grey else 1


def write_label(path: Path, labels: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write labels (H, W) uint8 as a PNG, with a palette (256, 3) uint8 RGB where given, whole or not at all."""
    atomic_write(path, lambda file: file.write(encode_label(labels, palette)))


def encode_label(labels: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """Labels (H, W) uint8 as the bytes of a PNG; palette: (256, 3) uint8 RGB, without it grey."""
    picture = Image.fromarray(np.ascontiguousarray(labels, np.uint8))
    if palette is not None:
        picture.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
