"""What a run compares at its start, of a whole data set: labels, boxes and pictures that contradict each other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from psa_pose.data.checks.boxes import check_boxes, detector_recall
from psa_pose.data.checks.findings import Finding, some
from psa_pose.data.checks.images import image_findings, look_at_images, turned_text
from psa_pose.data.checks.labels import check_labels
from psa_pose.data.formats.coco import Annotations, image_arrays, image_sizes, labels_of, read_annotations
from psa_pose.data.formats.detections import detected_persons
from psa_pose.errors import DataError
from psa_pose.skeleton import Skeleton


def annotation_facts(
    path: Path, images: Path | None, skeleton: Skeleton, category: str, exif: str
) -> tuple[list[Finding], list[str]]:
    """Findings in an annotation file that a run could read, and lines that count. images: their folder, None: not
    looked at. Raises DataError where it could not be read.
    """
    return facts_of(read_annotations(path, skeleton, category), images, skeleton, exif)


def facts_of(
    annotations: Annotations, images: Path | None, skeleton: Skeleton, exif: str
) -> tuple[list[Finding], list[str]]:
    """The same of annotations that are read."""
    findings, counts = check_labels(labels_of(annotations, skeleton)), []
    if annotations.other_categories:
        counts.append(f"{annotations.other_categories:,} annotations of other categories than {annotations.category}")
    names = Counter(image["file_name"] for image in annotations.content["images"])
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        text = f"{len(repeated):,} image files are listed more than once ({some(repeated, 'such as')})"
        findings.append(Finding("warning", f"{text}: their persons are counted apart; list each file once"))
    if images is not None and images.is_dir():
        image_facts, turned = _image_facts(annotations, images, exif)
        findings, counts = findings + image_facts, counts + ([turned] if turned else [])
    return findings, counts


def _image_facts(annotations: Annotations, images: Path, exif: str) -> tuple[list[Finding], str]:
    paths = [images / name.decode() for name in image_arrays(annotations)[1]]
    looked = look_at_images(paths, image_sizes(annotations), exif)
    return image_findings(looked), turned_text(looked)


def detection_facts(path: Path, annotation_path: Path, skeleton: Skeleton, category: str) -> tuple[list[Finding], str]:
    """Findings in a detection file that a run could read, and a line that tells its recall of the annotated persons.

    Raises DataError where one of the two files could not be read.
    """
    annotations = read_annotations(annotation_path, skeleton, category)
    labels = labels_of(annotations, skeleton)
    persons, _ = detected_persons(path, annotations, skeleton)
    recall = f"they find {100 * detector_recall(persons, labels):.1f} % of {len(labels):,} annotated persons at IoU 0.5"
    return check_boxes(persons, labels), recall if len(labels) else ""


def unreadable(error: DataError, findings: list[Finding]) -> list[Finding]:
    """What no run could read, where nothing else says so yet."""
    known = any(finding.level == "error" for finding in findings)
    return [] if known else [Finding("error", str(error))]
