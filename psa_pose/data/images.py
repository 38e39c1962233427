"""Reading a picture as the published pipelines do, or saying what is wrong with the file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from psa_pose.errors import DataError


def read_image(path: Path, channel_order: str = "rgb") -> np.ndarray:
    """The picture as (H, W, 3) uint8 in "rgb" or "bgr" order.

    Grey becomes three equal channels, an alpha channel is dropped, 16 bits become 8, and an EXIF rotation is ignored:
    COCO's annotations are in the pixels as stored. Raises DataError for a missing, truncated or unreadable file.
    """
    return decode_image(read_file(path), path, channel_order)


def read_file(path: Path) -> bytes:
    """A picture's file as it is. Raises DataError where it is missing or truncated."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error.strerror}; check the image folder") from None
    if is_truncated(data):
        raise DataError(f"image {path} is truncated ({len(data)} bytes, its end is missing); copy or download it again")
    return data


def decode_image(data: bytes, path: Path, channel_order: str = "rgb") -> np.ndarray:
    """The picture in a file's bytes, as `read_image` gives it; path: for the DataError where OpenCV cannot read it."""
    colour = cv2.IMREAD_COLOR_RGB if channel_order == "rgb" else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), colour | cv2.IMREAD_IGNORE_ORIENTATION) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"image {path} is not a picture that OpenCV can read ({len(data)} bytes); replace the file")
    return image


def is_truncated(data: bytes) -> bool:
    """True for a JPEG or PNG whose end marker is missing: OpenCV would fill the rest with grey and say nothing."""
    if data.startswith(b"\xff\xd8"):
        if data.endswith(b"\xff\xd9"):
            return False
        # An EXIF thumbnail has an end marker of its own, but it lies before the picture's last start-of-scan.
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda") or b"\xff\xd9" not in data
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    return False


def is_plain_jpeg(data: bytes) -> bool:
    """True for a JPEG as every decoder reads it: 8 bits, Huffman codes, grey or YCbCr (ITU-T T.81, annex B).

    False for anything else, among it CMYK and RGB stored as such, of which decoders make different colours.
    """
    at, converted = 2, True
    while data.startswith(b"\xff\xd8") and at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
            continue
        segment = data[at + 4 : at + 2 + length]
        if marker == 0xEE and segment.startswith(b"Adobe"):
            converted = segment[11:12] != b"\0"
        # Start of frame: bits, height and width (2 bytes each), number of components, then 3 bytes for each.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            grey, colour = segment[5:6] == b"\1", segment[5:6] == b"\3" and converted and segment[6::3] != b"RGB"
            return marker <= 0xC2 and segment[:1] == b"\x08" and (grey or colour)
        at += 2 + length
    return False
