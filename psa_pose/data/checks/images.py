"""The pictures of a data set held against the sizes that its annotations state, by their headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from psa_pose.data.checks.findings import Finding
from psa_pose.media.headers import Header, read_image_header
from psa_pose.media.pictures import Size, orientation_to_apply, size_problem

# Pictures looked at before a run; every one is looked at as it is decoded.
SAMPLED = 500


class Looked(NamedTuple):
    """pictures: how many were looked at. exif: how pictures are read, see `images.orientation_to_apply`.

    turned: how many are turned upright. unsure: those whose size does not say whether they are to be turned.
    problems: of those of another size.
    """

    pictures: int
    exif: str
    turned: int
    unsure: list[Path]
    problems: list[str]


def look_at_images(paths: Sequence[Path], sizes: np.ndarray, exif: str) -> Looked:
    """What the headers of files say of their stated sizes (M, 2); what is missing or of another format is passed over.

    exif: DATASET.EXIF. Where "auto" finds pictures on their side that are labelled upright, those whose size says
    nothing (upside down, mirrored, square) are read upright too.
    """
    seen = [
        (path, (size[0], size[1]), read_image_header(path)) for path, size in zip(paths, sizes.tolist(), strict=True)
    ]
    found = [(path, size, header) for path, size, header in seen if header is not None]

    def applied(header: Header, size: Size, how: str) -> int:
        return orientation_to_apply(header.orientation, header[:2], size, how)

    unsure = [p for p, size, header in found if applied(header, size, "auto") == 1 < applied(header, size, "upright")]
    if exif == "auto" and any(applied(header, size, exif) > 1 for _, size, header in found):
        exif = "upright"
    problems, turned = [], 0
    for path, size, header in found:
        orientation = applied(header, size, exif)
        turned += orientation > 1
        actual = header[1::-1] if orientation >= 5 else header[:2]
        problems.append(size_problem(path, header.orientation, actual, size, orientation > 1))
    return Looked(len(found), exif, turned, unsure if exif == "auto" else [], [p for p in problems if p])


def image_findings(looked: Looked) -> list[Finding]:
    """What was seen, as findings."""
    findings = []
    if looked.problems:
        more = f" ({len(looked.problems):,} of {looked.pictures:,} pictures looked at)" if looked.problems[1:] else ""
        findings.append(Finding("error", f"{looked.problems[0]}{more}"))
    if looked.unsure:
        text = (
            f"{len(looked.unsure):,} of {looked.pictures:,} pictures looked at are turned or mirrored by their EXIF "
            f"orientation, such as {looked.unsure[0]}, and their size does not say whether the labels are of the "
            "upright picture"
        )
        findings.append(Finding("warning", f"{text}; they are read as stored: write DATASET.EXIF 'apply' or 'ignore'"))
    return findings


def turned_text(looked: Looked) -> str:
    """What becomes of photographs that are stored on their side; "" where none is turned."""
    if not looked.turned:
        return ""
    return (
        f"{looked.turned:,} of {looked.pictures:,} pictures looked at are turned by their EXIF orientation, and "
        "the stated sizes are those of the upright pictures: such pictures are read upright (DATASET.EXIF)"
    )
