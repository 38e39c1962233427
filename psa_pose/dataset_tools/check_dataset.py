"""`tools/check_dataset.py`: every file that a config trains and evaluates on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from yacs.config import CfgNode

from psa_pose.config.skeleton import build_skeleton
from psa_pose.data.build import read_split
from psa_pose.data.checks.findings import Finding
from psa_pose.data.checks.labels import check_crops
from psa_pose.data.formats.coco import Annotations
from psa_pose.data.formats.mpii import read_head_truth, read_mpii
from psa_pose.dataset_tools.check_facts import facts_of
from psa_pose.dataset_tools.check_files import check_annotation_file, check_detection_file
from psa_pose.dataset_tools.segmentation import check_pictures
from psa_pose.skeleton import Skeleton


def run_check(cfg: CfgNode, info: Callable[[str], None] = print) -> int:
    """Print what is found in each file; the answer is the number of errors. Raises DataError for unreadable files."""
    if cfg.TASK == "segmentation":
        return check_pictures(cfg, info)
    info(build_skeleton(cfg).describe())
    errors = sum(_tell(path, findings, counts, info) for path, findings, counts in checked_files(cfg))
    info("no errors" if not errors else f"{errors} errors: mend them before you train")
    return errors


def checked_files(cfg: CfgNode, train: bool = True) -> Iterator[tuple[Path, list[Finding], list[str]]]:
    """Each file of a config, what is found in it, and lines that count; train: also those that are trained on."""
    root, data, skeleton = Path(cfg.DATASET.ROOT).expanduser(), cfg.DATASET, build_skeleton(cfg)
    for split in ("TRAIN", "TEST") if train else ("TEST",):
        path, folder = root / data[f"{split}_ANNOTATIONS"], root / data[f"{split}_IMAGES"]
        if data.FORMAT == "mpii":
            yield path, *_check_mpii_file(path, folder, skeleton, cfg.INPUT.PADDING)
        elif data.FORMAT == "lsp":
            yield path, *_check_lsp_file(read_split(cfg, split, skeleton), folder, skeleton, data.EXIF)
        else:
            yield path, *check_annotation_file(path, folder, skeleton, data.CATEGORY, data.EXIF)
    if data.TEST_HEADS:
        heads = read_head_truth(root / data.TEST_HEADS, skeleton)
        yield root / data.TEST_HEADS, [], [f"{len(heads.head_sizes):,} persons with a head's size"]
    if data.TEST_DETECTIONS:
        path = root / data.TEST_DETECTIONS
        yield path, *check_detection_file(path, root / data.TEST_ANNOTATIONS, skeleton, data.CATEGORY)


def _check_lsp_file(
    annotations: Annotations, images: Path, skeleton: Skeleton, exif: str
) -> tuple[list[Finding], list[str]]:
    findings, counts = facts_of(annotations, images, skeleton, exif)
    names = [image["file_name"] for image in annotations.content["images"]]
    missing = [Finding("error", f"image {images / n} is missing") for n in names if not (images / n).is_file()]
    labelled = [person["num_keypoints"] for person in annotations.content["annotations"]]
    text = (
        f"{len(labelled):,} persons, {labelled.count(0):,} of them without a labelled joint, {sum(labelled):,} joints"
    )
    return missing + findings, [f"images {names[0]} to {names[-1]}: {text}", *counts]


def _check_mpii_file(path: Path, images: Path, skeleton: Skeleton, padding: float) -> tuple[list[Finding], list[str]]:
    annotations, persons, problems = read_mpii(path, skeleton)
    names = [image["file_name"] for image in annotations.content["images"]]
    problems += [f"image {images / name} is missing" for name in names if not (images / name).is_file()]
    blank = int((persons.visible.sum(1) == 0).sum())
    counts = [f"{len(names):,} images, {len(persons):,} persons, {blank:,} of them without a labelled joint"]
    return [*(Finding("error", problem) for problem in problems), *check_crops(persons, padding)], counts


def _tell(path: Path, findings: list[Finding], counts: list[str], info: Callable[[str], None]) -> int:
    info(f"{path}")
    for line in counts:
        info(f"  {line}")
    for finding in sorted(findings, key=lambda f: f.level):
        info(f"  {finding.level}: {finding.text}")
    return sum(finding.level == "error" for finding in findings)
