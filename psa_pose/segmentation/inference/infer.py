"""`tools/infer.py` with a segmentation network: blended pictures and index PNGs, of pictures and videos."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from psa_pose.distributed import progress_bar
from psa_pose.errors import DataError
from psa_pose.media.files import free_name, is_video
from psa_pose.media.pictures import read_image
from psa_pose.media.video import open_video, read_frames, video_writer, write_frame
from psa_pose.segmentation.data.label_files import write_label
from psa_pose.segmentation.inference.segmenter import Segmenter
from psa_pose.visualization.draw import write_picture


def run_segment(
    segmenter: Segmenter, files: list[Path], folder: Path, frames: int | None = None,
    lap: Callable[[], None] = lambda: None,
) -> list[str]:  # fmt: skip
    """One sentence for each file in which something could not be read, after all were answered for.

    Into the folder: <stem>_blend.jpg (.png for a .png) and <stem>_labels.png of each picture, <stem>_blend.mp4 of each
    video. frames: at most so many of a video. lap: called after every file.
    """
    problems, taken = list[str](), set[str]()
    for path in progress_bar(files, "files", leave=False):
        stem = folder / free_name(path.stem, taken)
        try:
            if is_video(path):
                problems += _segment_video(segmenter, path, stem, frames)
            else:
                _segment_picture(segmenter, path, stem)
        except DataError as error:
            problems.append(f"{path}: {error}")
        lap()
    return problems


def _segment_picture(segmenter: Segmenter, path: Path, stem: Path) -> None:
    image = read_image(path)
    labels = segmenter(image)
    write_label(stem.with_name(f"{stem.name}_labels.png"), labels, segmenter.classes.palette())
    suffix = ".png" if path.suffix.lower() == ".png" else ".jpg"
    write_picture(stem.with_name(f"{stem.name}_blend{suffix}"), segmenter.blend(image, labels))


def _segment_video(segmenter: Segmenter, path: Path, stem: Path, frames: int | None) -> list[str]:
    """A frame that is broken shows the one before it, black at first."""
    video, broken = open_video(path), 0
    shown = np.zeros((video.size[1], video.size[0], 3), np.uint8)
    stem.parent.mkdir(parents=True, exist_ok=True)
    path = stem.with_name(f"{stem.name}_blend.mp4")
    with video_writer(path, video.fps, video.size) as writer:
        for frame in islice(read_frames(video), frames):
            broken += frame is None
            shown = shown if frame is None else segmenter.blend(frame, segmenter(frame))
            write_frame(writer, shown, video.size)
    return [f"{video.path}: {broken} frames could not be decoded"] if broken else []
