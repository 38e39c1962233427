"""Where the labelled pictures lie, and how large they are: from their headers, without decoding them."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from psa_pose.errors import DataError
from psa_pose.label_import.records import LabelledImage, slashes
from psa_pose.media.pictures import read_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Picture:
    """path: of the file. upright, stored: (width, height) with and without its EXIF orientation, pixels."""

    path: Path
    upright: tuple[int, int]
    stored: tuple[int, int]


class ImageFinder:
    """Finds pictures below a folder by the names that label files give them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[Path]] = {}
        for folder, _, files in os.walk(root, followlinks=True):
            for name in files:
                if name.lower().endswith(SUFFIXES):
                    self._by_name.setdefault(name, []).append(Path(folder) / name)

    def find(self, image: LabelledImage) -> tuple[Path | None, str]:
        """The file and "", or None and why there is none.

        First the path as it stands, from the label file's folder and from the root. Then the one file of that name
        below the root; of several, the one that shares most of the last folders of the path.
        """
        name = slashes(image.name)
        for path in (folder / n for n in (name, unquote(name)) for folder in (image.folder, self.root)):
            if os.path.isfile(path):
                return path, ""
        name = unquote(name)
        # Label Studio puts eight hexadecimal digits before the name of an uploaded file.
        base = PurePosixPath(name).name
        found = self._by_name.get(base) or self._by_name.get(base[9:] if base[8:9] == "-" else base, [])
        if not found:
            return None, f"no such picture in {self.root}"
        shared = [_shared_end(path, name) for path in found]
        if shared.count(max(shared)) > 1:
            return None, "several pictures have that name; give --images the folder that holds one"
        return found[shared.index(max(shared))], ""


def _shared_end(path: Path, name: str) -> int:
    """How many of the last parts of two paths agree."""
    parts = zip(reversed(path.parts), reversed(PurePosixPath(name).parts), strict=False)
    return next((i for i, (a, b) in enumerate(parts) if a != b), min(len(path.parts), len(PurePosixPath(name).parts)))


def pictures_in(folder: Path) -> list[Path]:
    """All pictures below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def measure(path: Path) -> Picture:
    """A picture and its size. Raises DataError where it is none."""
    for length in (1 << 14, 1 << 20):
        picture = _measure_header(path, length)
        if picture is not None:
            return picture
    height, width = read_image(path).shape[:2]
    return Picture(path, (width, height), (width, height))


def _measure_header(path: Path, length: int) -> Picture | None:
    """The size that the first bytes of a file tell; None where they do not."""
    try:
        with open(path, "rb") as file:
            data = file.read(length)
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error.strerror}; check the image folder") from None
    if data.startswith(b"\x89PNG") and len(data) > 24:
        size = (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
        return Picture(path, size, size)
    found, turned = _jpeg_size(data)
    return None if found is None else Picture(path, found[::-1] if turned else found, found)


def _jpeg_size(data: bytes) -> tuple[tuple[int, int] | None, bool]:
    """The size in a JPEG's start of frame (ITU-T T.81, annex B) and whether EXIF turns it on its side."""
    at, turned = 2, False
    while data.startswith(b"\xff\xd8") and at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            turned = _orientation(data[at + 10 : at + 2 + length]) >= 5
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return ((width, height) if width and height else None), turned
        at += 2 + length
    return None, turned


def _orientation(tiff: bytes) -> int:
    """EXIF's orientation, 1 to 8, from the TIFF header on (EXIF 2.3, 4.6.4: tag 0x0112 of the first directory)."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack(order + "I", tiff[4:8])
    count = int.from_bytes(tiff[start : start + 2], "little" if order == "<" else "big")
    for i in range(count):
        entry = tiff[start + 2 + 12 * i : start + 14 + 12 * i]
        if len(entry) == 12 and struct.unpack(order + "H", entry[:2])[0] == 0x0112:
            return int(struct.unpack(order + "H", entry[8:10])[0])
    return 1
