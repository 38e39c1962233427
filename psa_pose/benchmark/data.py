"""How fast samples are made, in this one process, against what cannot be avoided: decoding a JPEG and warping it."""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from yacs.config import CfgNode

from psa_pose.benchmark.measure import Timed, time_stages
from psa_pose.codecs import build_codec
from psa_pose.config.skeleton import build_skeleton
from psa_pose.data.build import build_test_sets, build_train_set
from psa_pose.data.dataset import CropDataset, make_batch
from psa_pose.data.loader import group_by_image

BATCH = 32


def benchmark_data(cfg: CfgNode, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of one sample: training, also with the persons of an image together, and each kind of test boxes.

    floor_ms: decoding the JPEG from memory, once for all boxes of an image that follow each other, plus one warp into a
    reused array with the sample's own matrix. plain_ms: as the published loaders work: read, decode and warp for every
    person, then float, normalised and channels first. Whole passes over the persons, in turn; medians.
    """
    cv2.setNumThreads(0)
    grid, skeleton = build_codec(cfg).grid, build_skeleton(cfg)
    train = build_train_set(cfg, skeleton, grid, print)
    generator = np.random.default_rng(0)
    shuffled = generator.permutation(len(train))
    grouped = group_by_image(shuffled, train.persons.image, generator)
    answer = [_measure("train", train, shuffled, rounds), _measure("train, images grouped", train, grouped, rounds)]
    for test_set in build_test_sets(cfg, skeleton, grid, print, "auto"):
        rows = np.arange(len(test_set.dataset))
        answer.append(_measure(f"test, {test_set.protocol} boxes", test_set.dataset, rows, rounds))
    return answer


def _measure(name: str, dataset: CropDataset, rows: np.ndarray, rounds: int) -> dict[str, Any]:
    keys = [(0, int(row)) for row in rows]
    images = dataset.persons.image[rows]
    jpegs = {i: np.frombuffer(_path(dataset, i).read_bytes(), np.uint8) for i in np.unique(images)}
    batches = [keys[i : i + BATCH] for i in range(0, len(keys), BATCH)]
    matrices = [dataset[key].matrix for key in keys]
    fresh = [i == 0 or images[i] != images[i - 1] for i in range(len(rows))]
    crop = np.empty((dataset.input_size[1], dataset.input_size[0], 3), np.uint8)
    paths = [_path(dataset, i) for i in images]

    def once(timed: Timed) -> None:
        image = None
        for i, matrix in enumerate(matrices):
            if fresh[i]:
                image = timed("decode", partial(cv2.imdecode, jpegs[images[i]], cv2.IMREAD_COLOR_RGB))
            timed("warp", partial(cv2.warpAffine, image, matrix, dataset.input_size, dst=crop))
        for part in batches:
            timed("sample", partial(make_batch, dataset, part))
        timed("plain", lambda: [_plain_sample(*one, dataset.input_size) for one in zip(paths, matrices, strict=True)])

    times = {what: [value / len(keys) for value in values] for what, values in time_stages(once, rounds).items()}
    floor = [d + w for d, w in zip(times["decode"], times["warp"], strict=True)]
    return {
        "set": name,
        "persons": len(keys),
        "images": len(jpegs),
        **{f"{what}_ms": statistics.median(values) for what, values in times.items()},
        "floor_ms": statistics.median(floor),
        "ratio": statistics.median(s / f for s, f in zip(times["sample"], floor, strict=True)),
        "times_as_fast": statistics.median(p / s for p, s in zip(times["plain"], times["sample"], strict=True)),
        "samples_per_second": 1e3 / statistics.median(times["sample"]),
    }


def _path(dataset: CropDataset, image: int) -> Path:
    return dataset.image_folder / dataset.persons.image_names[image].decode()


def _plain_sample(path: Path, matrix: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    assert image is not None
    crop = torch.from_numpy(cv2.warpAffine(image, matrix, size)).permute(2, 0, 1).contiguous().float().div(255)
    return crop.sub_(0.45).div_(0.22)
