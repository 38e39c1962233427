"""Where the labelled pictures lie, and how large they are: from their headers, without decoding them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from psa_pose.label_import.records import LabelledImage, slashes
from psa_pose.media.headers import read_image_header
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
    pairs = zip_longest(reversed(path.parts), reversed(PurePosixPath(name).parts))
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def pictures_in(folder: Path) -> list[Path]:
    """All pictures below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def measure(path: Path) -> Picture:
    """A picture and its size. Raises DataError where it is none."""
    header = read_image_header(path)
    if header is None:
        height, width = read_image(path).shape[:2]
        return Picture(path, (width, height), (width, height))
    size = (header.width, header.height)
    return Picture(path, size[::-1] if header.orientation >= 5 else size, size)
