"""`tools/infer.py`: people on pictures, videos and cameras, drawn and as COCO files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from psa_pose.distributed import progress_bar
from psa_pose.errors import DataError
from psa_pose.inference.boxes import BoxSource
from psa_pose.inference.estimator import Person, PoseEstimator
from psa_pose.inference.match import shortest_names
from psa_pose.inference.overlays import write_overlays
from psa_pose.inference.people import CocoWriter, suppress_duplicates
from psa_pose.inference.stream import Frame, FrameResult, Refine, stream
from psa_pose.inference.tracker import Tracker
from psa_pose.media.files import free_name, is_video
from psa_pose.media.video import Camera, open_video, read_camera, read_frames, video_writer, write_frame
from psa_pose.parallel import batches_at_once
from psa_pose.visualization.draw import write_picture

# Frames between two calls of InferOptions.lap: two batches of them.
LAP = 8


@dataclass(frozen=True)
class InferOptions:
    """What is made of the people. threshold: keypoints with a higher score are drawn.

    doubles: drop those who were found twice.
    overlays: "heatmaps" and "gates", of pictures. smooth: follow people through a video and smooth their joints.
    frames: at most so many of a video or camera; None: all.
    lap: called after every few frames, in the thread that finds people.
    """

    threshold: float = 0.2
    doubles: bool = False
    overlays: tuple[str, ...] = ()
    smooth: bool = False
    frames: int | None = None
    lap: Callable[[], None] = lambda: None


def run_infer(
    estimator: PoseEstimator, files: list[Path], boxes: BoxSource, folder: Path, wanted: InferOptions | None = None
) -> list[str]:
    """Draw and list the people of every file into `folder`; the answer: one sentence for each file or video in which
    something could not be read.
    """
    wanted, taken = wanted or InferOptions(), set[str]()
    stems = {path: folder / free_name(path.stem, taken) for path in files}
    pictures = [path for path in files if not is_video(path)]
    problems = infer_pictures(estimator, pictures, boxes, stems, wanted) if pictures else []
    for path in filter(is_video, files):
        try:
            problems += _infer_video(estimator, path, boxes, stems[path], wanted)
        except DataError as error:
            problems.append(f"{path}: {error}")
    return problems


def infer_pictures(
    estimator: PoseEstimator, pictures: list[Path], boxes: BoxSource, stems: dict[Path, Path], wanted: InferOptions
) -> list[str]:
    """Write <stem>_pose.jpg (.png for a .png) of each, its overlays, and one keypoints.json beside them."""
    problems, listed, ids = list[str](), CocoWriter(estimator.skeleton), image_ids(pictures)
    names = shortest_names(pictures)
    found = stream(
        estimator,
        pictures,
        lambda index, frame: boxes(pictures[index], frame),
        drawn=wanted.threshold,
        refine=_refine(estimator, wanted),
        heatmaps="heatmaps" in wanted.overlays,
        at_once=batches_at_once(estimator.device),
    )
    with closing(found):
        for seen in progress_bar(found, "pictures", len(pictures), leave=False):
            path, stem = pictures[seen.number], stems[pictures[seen.number]]
            if seen.problem or seen.frame is None or seen.drawn is None:
                problems.append(f"{path}: {seen.problem}")
                continue
            listed.add(ids[path], names[path], (seen.frame.shape[1], seen.frame.shape[0]), seen.people)
            suffix = ".png" if path.suffix.lower() == ".png" else ".jpg"
            write_picture(stem.with_name(f"{stem.name}_pose{suffix}"), seen.drawn)
            if wanted.overlays:
                write_overlays(estimator, seen.frame, seen.people, wanted.threshold, stem, wanted.overlays)
    listed.save(stems[pictures[0]].with_name("keypoints.json"))
    return problems


def _infer_video(estimator: PoseEstimator, path: Path, boxes: BoxSource, stem: Path, wanted: InferOptions) -> list[str]:
    """Write <stem>_pose.mp4 and <stem>_keypoints.json, a frame for every frame; the answer: what could not be read.

    A frame that is broken shows the one before it (black at first) and nobody. The sound is not kept.
    """
    video = open_video(path)
    count = min(video.count, wanted.frames or video.count)
    found = _stream_of(estimator, islice(read_frames(video), count), path, boxes, video.fps, wanted, live=False)
    broken = record(estimator, found, stem, path.name, video.fps, video.size, count)
    if not broken:
        return []
    return [f"{path}: {len(broken)} of {count} frames could not be used (frame {broken[0][0]} first: {broken[0][1]})"]


def infer_camera(
    estimator: PoseEstimator, camera: Camera, name: str, boxes: BoxSource, stem: Path, wanted: InferOptions
) -> list[str]:
    """As for a video, until the camera ends, `wanted.frames` have come, or Ctrl-C.

    A frame that came while the network was busy is not looked at: it shows the one before it and is not listed.
    """
    frames = islice(read_camera(camera), wanted.frames)
    found = _stream_of(estimator, frames, Path(name), boxes, camera.fps, wanted, live=True)
    try:
        broken = record(estimator, found, stem, name, camera.fps, camera.size, wanted.frames)
    except KeyboardInterrupt:
        return []
    return [f"{name}: {len(broken)} frames could not be used (frame {broken[0][0]} first)"] if broken else []


def record(
    estimator: PoseEstimator,
    found: Generator[FrameResult, None, None],
    stem: Path,
    name: str,
    fps: float,
    size: tuple[int, int],
    count: int | None,
) -> list[tuple[int, str]]:
    """Write <stem>_pose.mp4 and <stem>_keypoints.json, in which frames are named <name>#<number>; what has been found
    is written also where it ends in an error or by Ctrl-C. The answer: number and problem of each broken frame.
    """
    listed, broken, written = CocoWriter(estimator.skeleton), list[tuple[int, str]](), 0
    shown = np.zeros((size[1], size[0], 3), np.uint8)
    stem.parent.mkdir(parents=True, exist_ok=True)
    with video_writer(stem.with_name(f"{stem.name}_pose.mp4"), fps, size) as writer, closing(found):
        try:
            for seen in progress_bar(found, name, count, leave=False):
                # A camera's frames that nobody had time for.
                for _ in range(written, seen.number):
                    write_frame(writer, shown, size)
                shown, written = shown if seen.drawn is None else seen.drawn, seen.number + 1
                write_frame(writer, shown, size)
                listed.add(seen.number, f"{name}#{seen.number}", size, seen.people)
                if seen.problem:
                    broken.append((seen.number, seen.problem))
        finally:
            listed.save(stem.with_name(f"{stem.name}_keypoints.json"))
    return broken


def image_ids(pictures: list[Path]) -> dict[Path, int]:
    """Ids: the numbers that the names are, as in COCO, where all are different numbers; otherwise 1, 2, 3..."""
    stems = [path.stem for path in pictures]
    numbers = [int(stem) for stem in stems if stem.isdecimal()]
    coco = len(set(numbers)) == len(stems)
    return dict(zip(pictures, numbers if coco else range(1, len(stems) + 1), strict=True))


def _stream_of(
    estimator: PoseEstimator, frames: Iterator[Frame], path: Path, boxes: BoxSource, fps: float, wanted: InferOptions,
    live: bool,
) -> Generator[FrameResult, None, None]:  # fmt: skip
    return stream(
        estimator,
        frames,
        lambda index, frame: boxes(path.with_name(f"{path.name}#{index}"), frame),
        drawn=wanted.threshold,
        refine=_refine(estimator, wanted, fps),
        live=live,
        at_once=batches_at_once(estimator.device),
    )


def _refine(estimator: PoseEstimator, wanted: InferOptions, fps: float | None = None) -> Refine:
    """fps: of a video whose people are to be followed; None: pictures that do not belong together."""
    smoother = Tracker(estimator.skeleton.sigmas, fps, wanted.threshold) if fps and wanted.smooth else None

    def refine(index: int, people: list[Person]) -> list[Person]:
        if index % LAP == 0:
            wanted.lap()
        people = suppress_duplicates(people, estimator.spec) if wanted.doubles else people
        return smoother(index, people) if smoother else people

    return refine
