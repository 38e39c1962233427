"""A data set of train2017's size: its annotation file and one small folder entry per picture."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from psa_pose.benchmark.eval import HEIGHT, WIDTH, fake_val2017
from psa_pose.files import write_json
from psa_pose.gpu_check.bench import repeated
from psa_pose.skeleton import COCO

# 24 times val2017: 120,000 pictures and 264,096 persons; train2017 has 118,287 and 262,465.
TIMES = 24
# Corners of a person's outline; the file has the size of train2017's.
CORNERS = 24
# A file system lets a file have some tens of thousands of names.
NAMES_OF_A_FILE = 20_000


def coco_sized(root: Path) -> Path:
    """The root of the data set, made if it is not there: annotations/train.json and a folder train."""
    listed = root / "annotations/train.json"
    if listed.exists():
        return root
    content = fake_val2017(COCO)[0]
    generator = np.random.default_rng(0)
    for person in content["annotations"]:
        x, y, width, height = person["bbox"]
        outline = generator.uniform(0, 1, (CORNERS, 2)) * (width, height) + (x, y)
        person["segmentation"] = [outline.round(2).ravel().tolist()]
    content = repeated(content, TIMES)
    names = [f"{number:012d}.jpg" for number in range(len(content["images"]))]
    for picture, name in zip(content["images"], names, strict=True):
        picture["file_name"] = name
    _link_pictures(root / "train", names)
    write_json(listed, content)
    return root


def _link_pictures(folder: Path, names: list[str]) -> None:
    """The pictures: a grey one under all names."""
    folder.mkdir(parents=True, exist_ok=True)
    grey = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 128, np.uint8))[1].tobytes()
    for number, name in enumerate(names):
        path = folder / name
        path.unlink(missing_ok=True)
        if number % NAMES_OF_A_FILE:
            os.link(folder / names[number - number % NAMES_OF_A_FILE], path)
        else:
            path.write_bytes(grey)
