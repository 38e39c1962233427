"""`tools/browse.py`: samples of a data set before and after augmentation, as the network is fed them."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
from yacs.config import CfgNode

from psa_pose.codecs import Codec, build_codec
from psa_pose.config.skeleton import build_skeleton
from psa_pose.data.augment import View, augment_view, sample_generator
from psa_pose.data.build import build_test_sets, build_train_set
from psa_pose.data.dataset import CropDataset, collate
from psa_pose.data.loader import ShuffledBatches
from psa_pose.dataset_tools.segmentation import browse_pictures
from psa_pose.errors import ConfigError, DataError
from psa_pose.evaluation.pictures import picture_crops
from psa_pose.files import write_text
from psa_pose.geometry import invert, transform_points
from psa_pose.media.pictures import read_image
from psa_pose.run_log import report_problems
from psa_pose.skeleton import Skeleton
from psa_pose.visualization import html
from psa_pose.visualization.draw import write_picture
from psa_pose.visualization.samples import StoredSample, sample_sheet, show_sample

PICTURES, PAGES = (".png", ".jpg", ".jpeg"), (".html", ".htm")
COLUMNS = 2
NOTE = (
    "Each sample: the stored image with the person's box (white), annotated keypoints and the window that is cropped "
    "(yellow); the crop as the network is fed it, with its keypoints; its target heatmaps."
)


def run_browse(cfg: CfgNode, split: str, count: int, out: Path, info: Callable[[str], None] = print) -> int:
    """Write `count` samples of a split, "train" or "test", as a sheet (.png, .jpg) or a page (.html) into `out`.

    The answer: how many there were.

    train: the first that a training with this config and SEED sees, with the augmentation of its first epoch. test:
    persons drawn by SEED, cropped as in the evaluation, with annotated boxes unless TEST.BOXES is "detector".
    Raises ConfigError for another suffix, split or count, DataError for data that cannot be used.
    """
    if out.suffix.lower() not in PICTURES + PAGES:
        raise ConfigError(f"--out {out} is no picture or page; choose a name that ends in .png, .jpg or .html")
    if count < 1:
        raise ConfigError(f"--count is {count}; give 1 or more")
    if cfg.TASK == "segmentation":
        return browse_pictures(cfg, split, count, out, info)
    skeleton, codec = build_skeleton(cfg), build_codec(cfg)
    dataset, keys, name = _chosen(cfg, split, count, skeleton, codec, info)
    perhaps = [_shown(cfg, dataset, key, skeleton, codec, info) for key in keys]
    samples = [sample for sample in perhaps if sample]
    if not samples:
        raise DataError(f"none of the {len(keys)} images chosen of {name} can be read; check them, or another SEED")
    title = f"{name}: {len(samples)} of {len(dataset):,} persons, SEED {cfg.SEED}"
    if out.suffix.lower() in PAGES:
        body = [f"<h1>{escape(title)}</h1>", html.note(NOTE), html.figure_grid(samples, width=30)]
        text = html.page(title, body, width=75)
        write_text(out, text)
    else:
        middle = NOTE.index("; ") + 1
        write_picture(out, sample_sheet(samples, [title, NOTE[:middle], NOTE[middle + 1 :]], COLUMNS))
    return len(samples)


def _chosen(
    cfg: CfgNode, split: str, count: int, skeleton: Skeleton, codec: Codec, info: Callable[[str], None]
) -> tuple[CropDataset, list[tuple[int, int]], str]:
    """The data set, the (epoch, row) keys of the samples in it, and what it is called."""
    if split == "train":
        dataset = build_train_set(cfg, skeleton, codec.grid, info)
        images = dataset.persons.image if cfg.LOADER.GROUP_IMAGES else None
        batches = ShuffledBatches(len(dataset), min(count, len(dataset)), cfg.SEED, groups=images)
        return dataset, next(iter(batches)), f"{cfg.DATASET.TRAIN_ANNOTATIONS}, training"
    if split != "test":
        raise ConfigError(f"split {split!r} is not known; choose 'train' or 'test'")
    boxes = "detector" if cfg.TEST.BOXES == "detector" else "ground_truth"
    dataset = build_test_sets(cfg, skeleton, codec.grid, info, boxes)[0].dataset
    rows = np.random.default_rng(cfg.SEED).permutation(len(dataset))[:count]
    words = "detector's boxes" if boxes == "detector" else "annotated boxes"
    return dataset, [(0, int(row)) for row in rows], f"{cfg.DATASET.TEST_ANNOTATIONS}, {words}"


def _shown(
    cfg: CfgNode,
    dataset: CropDataset,
    key: tuple[int, int],
    skeleton: Skeleton,
    codec: Codec,
    info: Callable[[str], None],
) -> html.Figure | None:
    """One sample; None where its image cannot be read and DATASET.ON_ERROR is skip."""
    sample, persons, row = dataset.sample(key), dataset.persons, key[1]
    if sample.problem:
        report_problems([sample.problem], cfg.DATASET.ON_ERROR, info)
        return None
    batch = collate([sample])
    targets, _ = codec.encode(batch.joints, batch.visible)
    crop = picture_crops(batch, targets, dataset.channel_order)[0]
    number = int(persons.image[row])
    image = read_image(dataset.image_path(number), "rgb", dataset.stated_size(number), dataset.exif)
    # The outer edges of the crop's pixels, carried back into the image.
    right, bottom = dataset.input_size[0] - 0.5, dataset.input_size[1] - 0.5
    corners = np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]])
    window = transform_points(corners, invert(sample.matrix))
    stored = StoredSample(image, persons.boxes[row], persons.joints[row], persons.visible[row], window)
    return show_sample(stored, crop, skeleton, _words(dataset, key))


def _words(dataset: CropDataset, key: tuple[int, int]) -> list[str]:
    """Which person it is, and what was drawn for the crop."""
    persons, row = dataset.persons, key[1]
    box, labelled = persons.boxes[row], int(persons.visible[row].sum())
    number = int(persons.annotation_ids[row])
    who = f"annotation {number}" if number >= 0 else f"detection, score {persons.scores[row]:.2f}"
    name = dataset.image_path(int(persons.image[row])).name
    size = f"box {box[2]:.0f}x{box[3]:.0f} px, {labelled} of {len(persons.visible[row])} keypoints labelled"
    return [f"{name}, {who}", size, _drawn(dataset, key)]


def _drawn(dataset: CropDataset, key: tuple[int, int]) -> str:
    """The augmentation in words."""
    epoch, row = key
    if dataset.augmentation is None:
        return "not augmented"
    plain = View(dataset.centers[row], dataset.regions[row])
    generator = sample_generator(dataset.seed, epoch, row)
    joints, visible = dataset.persons.joints[row], dataset.persons.visible[row]
    view = augment_view(plain, joints, visible, dataset.augmentation, dataset.skeleton, generator)
    half = "half body, " if not np.array_equal(view.center, plain.center) else ""
    share = view.region[0] / plain.region[0]
    turn = f"turned by {view.rotation:+.0f} degrees" if view.rotation else "not turned"
    return f"{half}window {share:.2f} times the plain one, {turn}, {'mirrored' if view.mirror else 'not mirrored'}"
