"""From the config to data sets: whose persons, which boxes, which folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from yacs.config import CfgNode

from psa_pose.data.augment import Augmentation
from psa_pose.data.augment_pixels import PixelAugmentation
from psa_pose.data.checks.boxes import check_boxes, detector_recall
from psa_pose.data.checks.findings import tell
from psa_pose.data.checks.images import SAMPLED, image_findings, look_at_images, turned_text
from psa_pose.data.checks.labels import check_crops, check_labels
from psa_pose.data.dataset import CropDataset
from psa_pose.data.formats.coco import (
    Annotations,
    Labels,
    Persons,
    labelled_persons,
    labels_of,
    read_annotations,
    read_image_info,
    select_images,
)
from psa_pose.data.formats.coco_arrays import read_arrays
from psa_pose.data.formats.detections import detected_persons
from psa_pose.data.formats.lsp import read_lsp
from psa_pose.data.formats.mpii import HeadTruth, read_head_truth, read_mpii
from psa_pose.errors import DataError
from psa_pose.geometry import Grid
from psa_pose.run_log import Info, report_problems
from psa_pose.skeleton import Skeleton


@dataclass(frozen=True)
class TestSet:
    """Persons to evaluate on and how their boxes were found: `protocol` is "ground_truth" or "detector".

    heads: MPII's truth, for PCKh; None where AP is computed. detector_recall: share of the annotated persons that a
    detector's box finds at IoU 0.5, which bounds the AP; None for other boxes and where nobody is annotated.
    """

    protocol: str
    split: str
    annotations: Annotations
    dataset: CropDataset
    heads: HeadTruth | None = None
    detector_recall: float | None = None


def build_train_set(cfg: CfgNode, skeleton: Skeleton, grid: Grid, info: Info) -> CropDataset:
    """The training persons with their augmentation. Raises DataError for files, images or boxes that cannot be used."""
    source = _path(cfg, cfg.DATASET.TRAIN_ANNOTATIONS)
    if cfg.DATASET.FORMAT == "mpii":
        _, persons, problems = read_mpii(source, skeleton)
        tell(check_crops(persons, cfg.INPUT.PADDING), source, "annotation file", info)
    else:
        labels = _train_labels(cfg, skeleton)
        _check_labels(labels, info)
        persons, problems = labelled_persons(labels)
    augmentation = Augmentation(
        scale=cfg.AUGMENT.SCALE,
        rotation=cfg.AUGMENT.ROTATION,
        rotation_prob=cfg.AUGMENT.ROTATION_PROB,
        flip_prob=cfg.AUGMENT.FLIP_PROB,
        half_body_prob=cfg.AUGMENT.HALF_BODY_PROB,
        half_body_joints=cfg.AUGMENT.HALF_BODY_JOINTS,
        shift=cfg.AUGMENT.SHIFT,
        pixels=PixelAugmentation(
            color=cfg.AUGMENT.COLOR,
            blur_prob=cfg.AUGMENT.BLUR_PROB,
            jpeg_prob=cfg.AUGMENT.JPEG_PROB,
            dropout_prob=cfg.AUGMENT.DROPOUT_PROB,
        ),
    )
    images = _path(cfg, cfg.DATASET.TRAIN_IMAGES)
    return _dataset(cfg, persons, problems, images, source, skeleton, grid, info, augmentation)


def build_test_sets(cfg: CfgNode, skeleton: Skeleton, grid: Grid, info: Info, boxes: str) -> list[TestSet]:
    """The test persons, once per box protocol that `boxes` ("ground_truth", "detector", "auto": both) asks for."""
    if cfg.DATASET.FORMAT == "mpii":
        return [_build_mpii_test_set(cfg, skeleton, grid, info)]
    annotations = read_split(cfg, "TEST", skeleton)
    labels = labels_of(annotations, skeleton)
    _check_labels(labels, info)
    if any(person["id"] == 0 for person in annotations.content["annotations"]):
        raise DataError(
            f"annotation file {annotations.path}: an annotation has id 0, which COCO's evaluation takes for no match; "
            "number them from 1"
        )
    images = _path(cfg, cfg.DATASET.TEST_IMAGES)
    sets = []
    recall: float | None = None
    for protocol in ("ground_truth", "detector") if boxes == "auto" else (boxes,):
        if protocol == "ground_truth":
            source = annotations.path
            persons, problems = labelled_persons(labels)
        elif cfg.DATASET.TEST_DETECTIONS:
            source = _path(cfg, cfg.DATASET.TEST_DETECTIONS)
            persons, problems = detected_persons(source, annotations, skeleton, cfg.TEST.BOX_SCORE)
            recall = _check_detections(persons, labels, source, info)
        else:
            continue
        dataset = _dataset(cfg, persons, problems, images, source, skeleton, grid, info)
        sets.append(TestSet(protocol, split_name(cfg), annotations, dataset, detector_recall=recall))
    return sets


def read_split(cfg: CfgNode, split: str, skeleton: Skeleton) -> Annotations:
    """The annotations of a split, "TRAIN" or "TEST", of FORMAT coco or lsp, on the images of its range."""
    data = cfg.DATASET
    path, (first, last) = _path(cfg, data[f"{split}_ANNOTATIONS"]), data[f"{split}_RANGE"]
    if data.FORMAT == "lsp":
        return read_lsp(path, _path(cfg, data[f"{split}_IMAGES"]), first, last)
    return select_images(read_annotations(path, skeleton, data.CATEGORY), first, last)


def _train_labels(cfg: CfgNode, skeleton: Skeleton) -> Labels:
    """The labels alone, which is all that a training needs: at once where the file is plain, else entry by entry."""
    data, labels = cfg.DATASET, None
    if data.FORMAT == "coco" and not data.TRAIN_RANGE[1]:
        labels = read_arrays(_path(cfg, data.TRAIN_ANNOTATIONS), skeleton, data.CATEGORY)
    return labels_of(read_split(cfg, "TRAIN", skeleton), skeleton) if labels is None else labels


def split_name(cfg: CfgNode) -> str:
    """What tables and files call the test images: their folder, and the range where there is one."""
    name, (first, last) = Path(cfg.DATASET.TEST_IMAGES).name, cfg.DATASET.TEST_RANGE
    return f"{name}_{first}-{last}" if last else name


def _check_labels(labels: Labels, info: Info) -> None:
    """Facts of the labels that must agree with each other: warnings are said, an error is raised."""
    if labels.other_categories:
        info(
            f"{labels.path}: {labels.other_categories:,} annotations are of other categories than the persons' "
            f"({labels.category}) and are not read"
        )
    tell(check_labels(labels), labels.path, "annotation file", info)


def _check_detections(persons: Persons, labels: Labels, source: Path, info: Info) -> float | None:
    """The recall of the annotated persons, where there are some; what contradicts itself is said or raised."""
    tell(check_boxes(persons, labels), source, "detection file", info)
    if not len(labels):
        return None
    recall = detector_recall(persons, labels)
    info(f"{source}: its boxes find {100 * recall:.1f} % of the {len(labels):,} annotated persons at IoU 0.5")
    return recall


def _build_mpii_test_set(cfg: CfgNode, skeleton: Skeleton, grid: Grid, info: Info) -> TestSet:
    """MPII's annotated centres and scales; the split is named as the file is."""
    source = _path(cfg, cfg.DATASET.TEST_ANNOTATIONS)
    annotations, persons, problems = read_mpii(source, skeleton)
    tell(check_crops(persons, cfg.INPUT.PADDING), source, "annotation file", info)
    heads, listed = read_head_truth(_path(cfg, cfg.DATASET.TEST_HEADS), skeleton), len(persons) + len(problems)
    if len(heads.head_sizes) != listed:
        raise DataError(
            f"{source} lists {listed} persons, {cfg.DATASET.TEST_HEADS} {len(heads.head_sizes)}; they belong to "
            "different splits"
        )
    images = _path(cfg, cfg.DATASET.TEST_IMAGES)
    dataset = _dataset(cfg, persons, problems, images, source, skeleton, grid, info)
    return TestSet("ground_truth", source.stem, annotations, dataset, heads)


def build_submission_set(cfg: CfgNode, skeleton: Skeleton, grid: Grid, info: Info) -> TestSet:
    """The detector's boxes on images without annotations: DATASET.TEST_ANNOTATIONS is an image-info file.

    The split is named as the file is: image_info_test-dev2017.json is "test-dev2017".
    """
    if not cfg.DATASET.TEST_DETECTIONS:
        raise DataError("a submission has no annotated boxes; give the detector's file in DATASET.TEST_DETECTIONS")
    annotations = read_image_info(_path(cfg, cfg.DATASET.TEST_ANNOTATIONS))
    source = _path(cfg, cfg.DATASET.TEST_DETECTIONS)
    persons, problems = detected_persons(source, annotations, skeleton, cfg.TEST.BOX_SCORE)
    tell(check_boxes(persons, None), source, "detection file", info)
    dataset = _dataset(cfg, persons, problems, _path(cfg, cfg.DATASET.TEST_IMAGES), source, skeleton, grid, info)
    return TestSet("detector", annotations.path.stem.removeprefix("image_info_"), annotations, dataset)


def _path(cfg: CfgNode, relative: str) -> Path:
    return Path(cfg.DATASET.ROOT).expanduser() / relative


def _dataset(
    cfg: CfgNode,
    persons: Persons,
    problems: list[str],
    images: Path,
    source: Path,
    skeleton: Skeleton,
    grid: Grid,
    info: Info,
    augmentation: Augmentation | None = None,
) -> CropDataset:
    there = _images_there(persons, images)
    missing = np.unique(persons.image[~there])
    problems = problems + [f"image {images / persons.image_names[row].decode()} is missing" for row in missing]
    report_problems(problems, cfg.DATASET.ON_ERROR, info)
    persons = persons.select(there)
    exif = _look_at_images(cfg, persons, images, source, info)
    if len(persons) == 0:
        raise DataError(f"{source} has no person to use (not a crowd, with a keypoint and an image); check the file")
    return CropDataset(
        persons,
        images,
        skeleton,
        cfg.INPUT.SIZE,
        grid,
        cfg.INPUT.PADDING,
        cfg.INPUT.CHANNEL_ORDER,
        augmentation,
        cfg.SEED,
        exif,
    )


def _look_at_images(cfg: CfgNode, persons: Persons, folder: Path, source: Path, info: Info) -> str:
    """How pictures are read, by a look at some headers; what contradicts their stated sizes is said or raised."""
    rows = np.unique(persons.image)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(SAMPLED, len(rows))).astype(int))]
    paths = [folder / persons.image_names[row].decode() for row in rows]
    looked = look_at_images(paths, persons.image_sizes[rows], cfg.DATASET.EXIF)
    if looked.turned:
        info(f"{source}: {turned_text(looked)}")
    findings = image_findings(looked)
    if cfg.DATASET.ON_ERROR == "skip":
        # Each is left out where it is decoded.
        findings = [finding for finding in findings if finding.level == "warning"]
    tell(findings, source, "annotation file", info)
    return looked.exif


def _images_there(persons: Persons, folder: Path) -> np.ndarray:
    """Mask (N,): the person's image file exists. One listing per folder, not one question per image."""
    if not folder.is_dir():
        raise DataError(f"image folder {folder} does not exist; check DATASET.ROOT and the image folders")
    # Names are decoded one by one: at COCO's size a list of them is 10 MB.
    parents = {name[: name.rfind(b"/") + 1].decode() for name in persons.image_names}
    listed = {parent + f for parent in parents if (folder / parent).is_dir() for f in os.listdir(folder / parent)}
    there = np.fromiter((name.decode() in listed for name in persons.image_names), bool, len(persons.image_names))
    return there[persons.image]
