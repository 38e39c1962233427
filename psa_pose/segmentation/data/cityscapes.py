"""Cityscapes in both of its folder conventions, and lists of HRNet's form."""

from __future__ import annotations

from pathlib import Path

from psa_pose.errors import DataError
from psa_pose.segmentation.data.pictures import Pictures, read_lines

IMAGE_END = "_leftImg8bit.png"
SPLITS = ("train", "val", "trainval", "test", "train_extra")


def cityscapes_pictures(root: Path, split: str, labels: str = "gtFine") -> Pictures:
    """The pictures of train, val, trainval, test (no labels) or train_extra, sorted by city and frame.

    labels: gtFine or gtCoarse; train_extra has coarse ones only. Folders as Cityscapes packs them, or as NVIDIA's code
    expects them (leftImg8bit_trainvaltest/leftImg8bit and so on).
    """
    if split not in SPLITS or labels not in ("gtFine", "gtCoarse"):
        raise DataError(f"Cityscapes has no {labels} {split!r}; use gtFine or gtCoarse and one of {', '.join(SPLITS)}")
    kind = "gtCoarse" if split == "train_extra" else labels
    images: list[Path] = []
    files: list[Path] = []
    source = root
    for part in ("train", "val") if split == "trainval" else (split,):
        source = _split_folder(root, "leftImg8bit", part)
        found = sorted(source.glob(f"*/*{IMAGE_END}"))
        images += found
        if split != "test":
            target = _split_folder(root, kind, part)
            files += [target / path.parent.name / _label_name(path.name, kind) for path in found]
    names = tuple(path.name.removesuffix(IMAGE_END) for path in images)
    return Pictures(source if split != "trainval" else source.parent, names, tuple(images), tuple(files))


def cityscapes_list(root: Path, path: Path) -> Pictures:
    """The pictures of a list of HRNet's form: image and label file, relative to root, on each line; or image only."""
    pairs = [line.split() for line in read_lines(path)]
    odd = next((number for number, pair in enumerate(pairs, 1) if len(pair) != len(pairs[0]) or len(pair) > 2), 0)
    if odd:
        raise DataError(
            f"image list {path}, line {odd}, has not the same one or two paths as the others; mend the line"
        )
    images = tuple(root / pair[0] for pair in pairs)
    names = tuple(Path(pair[0]).name.removesuffix(IMAGE_END) for pair in pairs)
    return Pictures(path, names, images, tuple(root / pair[1] for pair in pairs if len(pair) == 2))


def instance_path(label: Path) -> Path:
    """The instanceIds file beside a labelIds file, which iIoU needs."""
    return label.with_name(label.name.replace("_labelIds.png", "_instanceIds.png"))


def _split_folder(root: Path, kind: str, split: str) -> Path:
    """The folder of a split's cities, in either convention."""
    packs = ("trainextra", "trainvaltest") if kind == "leftImg8bit" else ("trainvaltest",)
    places = [root / kind / split, *(root / f"{kind}_{pack}" / kind / split for pack in packs)]
    # NVIDIA's code keeps the coarse labels in gtCoarse/gtCoarse.
    places.append(root / kind / kind / split)
    for place in places:
        if place.is_dir():
            return place
    raise DataError(f"{places[0]} does not exist; unpack Cityscapes' {kind} there, or correct DATASET.ROOT")


def _label_name(image: str, kind: str) -> str:
    return image.removesuffix(IMAGE_END) + f"_{kind}_labelIds.png"
