"""`tools/check_dataset.py` and `tools/browse.py` for pictures with label maps."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
from yacs.config import CfgNode

from psa_pose.data.loader import ShuffledBatches
from psa_pose.errors import DataError
from psa_pose.files import write_text
from psa_pose.run_log import report_problems
from psa_pose.segmentation.classes import IGNORE, ClassList
from psa_pose.segmentation.data.build import build_classes, build_test_sets, build_train_set, find_pictures
from psa_pose.segmentation.data.dataset import SegmentationDataset, make_segmentation_batch
from psa_pose.segmentation.data.pictures import missing_files
from psa_pose.segmentation.visualization import blended, fitted
from psa_pose.visualization import html
from psa_pose.visualization.draw import grid, write_picture

# Of the same kind of finding, so many are printed.
TOLD = 5


def check_pictures(cfg: CfgNode, info: Callable[[str], object] = print) -> int:
    """Read every picture and label of a config; print what would end a run or spoil it; the number of errors.

    Found are missing and broken files, labels of another size than their image, values that are no class, colours given
    as indices, pictures in both splits, and, as warnings, classes that never occur.
    """
    classes, errors = build_classes(cfg), 0
    for what, make in (("training", build_train_set), ("test", _test_dataset)):
        try:
            dataset = make(_skipping(cfg), lambda _: None)
        except DataError as error:
            info(f"{what}: error: {error}")
            errors += 1
            continue
        which = "TRAIN" if what == "training" else "TEST"
        _, missing = missing_files(find_pictures(cfg, which))
        errors += _check_split(what, dataset, missing, classes, info)
    info("no errors" if not errors else f"{errors} errors: mend them before you train")
    return errors


def _check_split(
    what: str, dataset: SegmentationDataset, missing: list[str], classes: ClassList, info: Callable[[str], object]
) -> int:
    pixels, problems = np.zeros(256, np.int64), list(missing)
    for row in range(len(dataset)):
        try:
            _, label = dataset.read(row)
            pixels += np.bincount(label.ravel(), minlength=256)
        except DataError as error:
            problems.append(str(error))
    info(f"{what}: {dataset.pictures.source}, {len(dataset):,} pictures")
    total = max(1, int(pixels.sum()))
    shares = [f"{name} {100 * pixels[i] / total:.1f}" for i, name in enumerate(classes.names)]
    info(f"  % of the pixels: {', '.join(shares)}; ignored {100 * pixels[IGNORE] / total:.1f}")
    for problem in problems[:TOLD]:
        info(f"  error: {problem}")
    if len(problems) > TOLD:
        info(f"  error: and {len(problems) - TOLD} more")
    absent = [name for i, name in enumerate(classes.names) if not pixels[i]]
    if absent and dataset.pictures.labels:
        info(f"  warning: never labelled: {', '.join(absent)}")
    return len(problems)


def browse_pictures(cfg: CfgNode, split: str, count: int, out: Path, info: Callable[[str], object] = print) -> int:
    """Write `count` samples of a split, "train" or "test": the stored picture with its labels, and the crop that a
    training is fed with its labels; a sheet (.png, .jpg) or a page (.html) by the suffix of `out`. How many there were.
    """
    classes = build_classes(cfg)
    dataset = build_train_set(cfg, info) if split == "train" else _test_dataset(cfg, info)
    keys = next(iter(ShuffledBatches(len(dataset), min(count, len(dataset)), cfg.SEED)))
    figures = []
    for key in keys:
        batch = make_segmentation_batch(dataset, [key])
        if batch.problems[0]:
            report_problems(list(batch.problems), cfg.DATASET.ON_ERROR, info)
            continue
        order = slice(None) if dataset.channel_order == "rgb" else slice(None, None, -1)
        stored, label = dataset.read(key[1])
        pairs = ((stored, label), (batch.images[0].numpy(), batch.labels[0].numpy()))
        images = [np.ascontiguousarray(image[..., order]) for image, _ in pairs]
        shown = [blended(image, labels, classes) for image, (_, labels) in zip(images, pairs, strict=True)]
        pictures = [fitted(picture) for picture in (images[0], shown[0], images[1], shown[1])]
        figures.append(html.Figure(pictures, [dataset.pictures.names[key[1]], "stored; as a training is fed it"]))
    if not figures:
        raise DataError(f"none of the pictures chosen of {dataset.pictures.source} can be read; check them")
    title = f"{dataset.pictures.source}: {len(figures)} of {len(dataset):,} pictures, SEED {cfg.SEED}"
    if out.suffix.lower() in (".html", ".htm"):
        write_text(out, html.page(title, [f"<h1>{escape(title)}</h1>", html.figure_grid(figures, width=30)], width=75))
    else:
        write_picture(out, grid([picture for figure in figures for picture in figure.pictures], 4))
    return len(figures)


def _test_dataset(cfg: CfgNode, info: Callable[[str], object]) -> SegmentationDataset:
    return build_test_sets(cfg, info, ("full",))[0].dataset


def _skipping(cfg: CfgNode) -> CfgNode:
    """The config with problems skipped, which are counted apart."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASET.ON_ERROR = "skip"
    return cfg
