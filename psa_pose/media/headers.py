"""What the header of a picture's file says, without decoding it: its size, and how a camera was held (EXIF)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

# Enough for a header with a large EXIF block; the rest of the file is read where it is not.
_START = 1 << 16


class Header(NamedTuple):
    """Width and height of the pixels as stored, and EXIF's orientation: 1 (upright) to 8."""

    width: int
    height: int
    orientation: int


def read_image_header(path: Path) -> Header | None:
    """The header of a picture; None for a missing file or one of another format."""
    try:
        with open(path, "rb") as file:
            data = file.read(_START)
            return read_header(data) or read_header(data + file.read())
    except OSError:
        return None


def read_header(data: bytes) -> Header | None:
    """The header in the first bytes of a JPEG, PNG or WebP file; None for another file, or where they are too few."""
    size = None
    if data.startswith(b"\xff\xd8"):
        # Start of frame: bits, height and width (2 bytes each).
        frame = next((s for marker, s in jpeg_segments(data) if _is_frame(marker)), b"")
        size = struct.unpack(">HH", frame[1:5])[::-1] if len(frame) >= 5 else None
    elif data.startswith(b"\x89PNG") and len(data) >= 24:
        size = struct.unpack(">II", data[16:24])
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        size = _webp_size(data)
    return Header(size[0], size[1], exif_orientation(data)) if size and min(size) > 0 else None


def exif_orientation(data: bytes) -> int:
    """EXIF's orientation of a JPEG, PNG or WebP file, 1 to 8; 1 where it states none."""
    if data.startswith(b"\xff\xd8"):
        for marker, segment in jpeg_segments(data):
            if marker == 0xE1 and segment.startswith(b"Exif\0\0"):
                return _orientation(segment[6:])
    elif data.startswith(b"\x89PNG"):
        return _orientation(_chunk(data, 8, b"eXIf", ">"))
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _orientation(_chunk(data, 12, b"EXIF", "<").removeprefix(b"Exif\0\0"))
    return 1


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """The picture (H, W, C) as EXIF's orientation shows it (EXIF 2.3, 4.6.4); 5 to 8 exchange width and height."""
    if orientation in (5, 6, 7, 8):
        image = cv2.transpose(image)
    # OpenCV's codes: 1 mirrors left to right, 0 top to bottom, -1 both ways.
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if flip is None else cv2.flip(image, flip)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of the segments of a JPEG up to its frame (ITU-T T.81, annex B)."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
            continue
        yield marker, data[at + 4 : at + 2 + length]
        if _is_frame(marker):
            return
        at += 2 + length


def _is_frame(marker: int) -> bool:
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


def _chunk(data: bytes, at: int, name: bytes, order: str) -> bytes:
    """The content of the first chunk of a name: PNG states length then name (big), RIFF name then length (little)."""
    while at + 8 <= len(data):
        first, second = data[at : at + 4], data[at + 4 : at + 8]
        kind, length = (second, first) if order == ">" else (first, second)
        (size,) = struct.unpack(f"{order}I", length)
        if kind == name:
            return data[at + 8 : at + 8 + size]
        # PNG ends each chunk with 4 bytes of checksum, RIFF fills it up to an even length.
        at += 8 + size + (4 if order == ">" else size % 2)
    return b""


def _orientation(tiff: bytes) -> int:
    """Tag 0x0112 in the first directory of a TIFF header; 1 where it is not there or out of range."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack(f"{order}I", tiff[4:8])
    entries = tiff[start + 2 :]
    count = int.from_bytes(tiff[start : start + 2], "little" if order == "<" else "big")
    for i in range(min(count, len(entries) // 12)):
        tag, _, _, value = struct.unpack(f"{order}HHIH", entries[12 * i : 12 * i + 10])
        if tag == 0x0112:
            return value if 1 <= value <= 8 else 1
    return 1
