"""Pascal VOC 2012 in its usual folders, with SBD's additional labels (SegmentationClassAug) where there are some."""

from __future__ import annotations

from pathlib import Path

from psa_pose.errors import DataError
from psa_pose.segmentation.data.pictures import Pictures, read_lines, refuse_shared

AUG_SPLITS = ("train_aug", "trainaug")
SPLITS = ("train", "val", "trainval", "test", *AUG_SPLITS)


def voc_root(root: Path) -> Path:
    """The folder that holds JPEGImages: root itself, root/VOC2012 or root/VOCdevkit/VOC2012."""
    for folder in (root, root / "VOC2012", root / "VOCdevkit/VOC2012"):
        if (folder / "JPEGImages").is_dir():
            return folder
    raise DataError(f"{root} holds no VOCdevkit/VOC2012/JPEGImages; unpack VOC 2012 there, or correct DATASET.ROOT")


def voc_pictures(root: Path, split: str) -> Pictures:
    """The pictures of train, val, trainval, test (no labels) or train_aug (also called trainaug).

    Raises DataError for a missing or empty list, and for a train_aug with an image of val.
    """
    folder = voc_root(root)
    if split not in SPLITS:
        raise DataError(f"Pascal VOC has no split {split!r}; use one of {', '.join(SPLITS)}")
    source = list_path(folder, split)
    names = tuple(read_ids(source))
    labels = "SegmentationClassAug" if split in AUG_SPLITS else "SegmentationClass"
    if split in AUG_SPLITS:
        val = list_path(folder, "val")
        refuse_shared(names, read_ids(val), source, val)
        if not (folder / labels).is_dir():
            raise DataError(
                f"{folder / labels} does not exist; build it from SBD's files with tools/voc_aug.py, "
                "or train on the split train"
            )
    return Pictures(
        source,
        names,
        tuple(folder / "JPEGImages" / f"{name}.jpg" for name in names),
        () if split == "test" else tuple(folder / labels / f"{name}.png" for name in names),
    )


def read_ids(path: Path) -> list[str]:
    """The image ids of a list, one a line; also of lines "/JPEGImages/ID.jpg /SegmentationClass/ID.png"."""
    return [Path(line.split()[0]).stem for line in read_lines(path)]


def list_path(folder: Path, split: str) -> Path:
    """Where a split's list is; train_aug.txt is found under both its names, and beside the folders too."""
    lists = folder / "ImageSets/Segmentation"
    names = AUG_SPLITS if split in AUG_SPLITS else (split,)
    places = [place / f"{name}.txt" for place in (lists, folder) for name in names]
    return next((place for place in places if place.is_file()), places[0])
