"""Pictures of any size and EXIF orientation, as bytes."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np


def pixels(width: int, height: int) -> np.ndarray:
    """A smooth picture (H, W, 3) in BGR that is like none of its turned or mirrored selves."""
    y, x = np.mgrid[:height, :width]
    planes = [255 * x / width, 255 * y / height, 120 + 100 * np.sin(x / 9) * (y > height / 2)]
    return np.stack(planes, -1).astype(np.uint8)


def photograph(stored: np.ndarray, orientation: int = 1, kind: str = ".jpg", big_endian: bool = False) -> bytes:
    """A file of the stored pixels; orientation 1 writes no EXIF."""
    data = cv2.imencode(kind, stored)[1].tobytes()
    if orientation == 1:
        return data
    order = ">" if big_endian else "<"
    head = b"MM\0*" if big_endian else b"II*\0"
    tiff = head + struct.pack(f"{order}IH", 8, 2)
    # Another tag first: ImageWidth.
    for tag, value in ((0x0100, 99), (0x0112, orientation)):
        tiff += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    tiff += struct.pack(f"{order}I", 0)
    if kind == ".png":
        chunk = b"eXIf" + tiff
        return data[:33] + struct.pack(">I", len(tiff)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    segment = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
