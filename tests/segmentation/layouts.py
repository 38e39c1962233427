"""Small data sets in the layouts that the readers know, drawn on the spot."""

from pathlib import Path

import cv2
import numpy as np

from psa_pose.segmentation.classes import VOC
from psa_pose.segmentation.data.label_files import write_label


def blobs(rng, size=(60, 44), classes=21) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H, W, 3) of flat coloured regions and its label map, with a few ignored pixels."""
    coarse = rng.integers(0, classes, (4, 5)).astype(np.uint8)
    label = cv2.resize(coarse, size, interpolation=cv2.INTER_NEAREST)
    image = VOC.palette()[label] // 2 + rng.integers(0, 60, (size[1], size[0], 3)).astype(np.uint8)
    label[0, :3] = 255
    return image, label


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


def write_list(path: Path, names) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def make_voc(root: Path, train=("2007_000001", "2007_000002"), val=("2008_000003",), seed=0) -> Path:
    """VOCdevkit/VOC2012 with palette PNGs; the answer is that folder."""
    folder, rng = root / "VOCdevkit/VOC2012", np.random.default_rng(seed)
    for name in (*train, *val):
        image, label = blobs(rng)
        write_image(folder / f"JPEGImages/{name}.jpg", image)
        write_label(folder / f"SegmentationClass/{name}.png", label, VOC.palette())
    write_list(folder / "ImageSets/Segmentation/train.txt", train)
    write_list(folder / "ImageSets/Segmentation/val.txt", val)
    return folder


def make_cityscapes(root: Path, nvidia=False, seed=0) -> None:
    """Two cities of train and one of val, with label and instance ids, in one of the two folder conventions."""
    rng = np.random.default_rng(seed)
    images = root / ("leftImg8bit_trainvaltest/leftImg8bit" if nvidia else "leftImg8bit")
    labels = root / ("gtFine_trainvaltest/gtFine" if nvidia else "gtFine")
    for split, city in (("train", "aachen"), ("train", "ulm"), ("val", "munster")):
        for frame in range(2):
            image, _ = blobs(rng, (64, 32))
            name = f"{city}_000000_{frame:06d}"
            write_image(images / split / city / f"{name}_leftImg8bit.png", image)
            ids = rng.integers(0, 34, (32, 64)).astype(np.uint8)
            target = labels / split / city / f"{name}_gtFine_labelIds.png"
            write_label(target, ids)
            instances = np.where(ids >= 24, ids.astype(np.uint16) * 1000 + 1, ids).astype(np.uint16)
            assert cv2.imwrite(str(target).replace("labelIds", "instanceIds"), instances)
