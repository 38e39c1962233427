"""Which images a split has and where their label maps are; what is missing or in two splits is said before a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from psa_pose.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class Pictures:
    """Images of a split, in the order of its list.

    source: the list or folder they are from. names: distinct ids. images: files. labels: files, empty without labels.
    """

    source: Path
    names: tuple[str, ...]
    images: tuple[Path, ...]
    labels: tuple[Path, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise DataError(f"{self.source} lists no image; check the path and the split")
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise DataError(f"{self.source} lists {twice} more than once; keep each image once")

    def __len__(self) -> int:
        return len(self.names)

    def select(self, mask: np.ndarray) -> Pictures:
        """Those where mask (N,) is true; raises DataError where there are none."""

        def kept(values: Sequence) -> tuple:
            return tuple(value for value, keep in zip(values, mask, strict=True) if keep) if values else ()

        return Pictures(self.source, kept(self.names), kept(self.images), kept(self.labels))


def missing_files(pictures: Pictures) -> tuple[np.ndarray, list[str]]:
    """Mask (N,) of the pictures whose files are there, and a sentence about each file that is not."""
    there, problems = np.ones(len(pictures), bool), []
    for what, paths in (("image", pictures.images), ("label", pictures.labels)):
        listed = _listing(path.parent for path in paths)
        for row, path in enumerate(paths):
            if path.name not in listed[path.parent]:
                there[row] = False
                problems.append(f"{what} {path} is missing ({pictures.source} lists {pictures.names[row]})")
    return there, problems


def _listing(folders: Iterable[Path]) -> dict[Path, frozenset[str]]:
    """The names in each folder: one listing, not one question per file."""
    return {
        folder: frozenset(os.listdir(folder)) if folder.is_dir() else frozenset() for folder in dict.fromkeys(folders)
    }


def check_disjoint(train: Pictures, test: Pictures) -> None:
    """Raise DataError where an image is in both: what is learnt by heart would be tested."""
    refuse_shared(train.names, test.names, train.source, test.source)


def refuse_shared(train: Iterable[str], test: Iterable[str], train_source: Path, test_source: Path) -> None:
    """Raise DataError where a name is in both lists."""
    shared = sorted(set(train) & set(test))
    if shared:
        others = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
        raise DataError(
            f"{train_source} lists {shared[0]}{others}, which {test_source} tests on; "
            "take them out of the training list"
        )


def read_lines(path: Path) -> list[str]:
    """The lines of a list that are not empty, without the space around them. Raises DataError where there are none."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise DataError(f"image list {path} cannot be read: {error.strerror}; check the data set's folder") from None
    except UnicodeDecodeError:
        raise DataError(f"image list {path} is not text; write one image per line") from None
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"image list {path} is empty; write one image per line")
    return lines


def folder_pictures(images: Path, labels: Path | None) -> Pictures:
    """Every image below a folder, sorted; its label has the same path below `labels`, ending in .png."""
    if not images.is_dir():
        raise DataError(f"image folder {images} does not exist; check the path")
    found = sorted(path for path in images.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    relative = [path.relative_to(images) for path in found]
    names = tuple(path.with_suffix("").as_posix() for path in relative)
    # A name may hold dots: with_suffix takes the last part only.
    files = tuple(labels / path.with_suffix(".png") for path in relative) if labels is not None else ()
    return Pictures(images, names, tuple(found), files)
