"""Frames in, people out, in order, while the next frames are already being read: `stream`.

for seen in stream(estimator, "video.mp4", lambda number, frame: detector(frame)):
    print(seen.number, len(seen.people))
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from psa_pose.errors import DataError
from psa_pose.inference.boxes import Boxes
from psa_pose.inference.estimator import Person, PoseEstimator
from psa_pose.inference.people import draw_people
from psa_pose.media.pictures import read_image
from psa_pose.media.video import Prefetcher, open_camera, open_video, read_camera, read_frames
from psa_pose.parallel import parallel_map

# A frame: (H, W, 3) uint8 RGB, or the path of a picture; or in the place of one that is broken, None or what is wrong.
Frame = np.ndarray | str | Path | DataError | None
# Number and pixels (H, W, 3) of a frame -> its boxes and their scores.
_BoxesOf = Callable[[int, np.ndarray], Boxes]
# Number of a frame and its people -> those that are left of them, or what they become.
Refine = Callable[[int, list[Person]], list[Person]]


class FrameResult(NamedTuple):
    """One frame: its number from 0, pixels (H, W, 3) uint8 RGB, people, and a copy with them on it, where asked for.

    problem: "", or why nobody could be looked for; pixels that could not be read are None.
    """

    number: int
    frame: np.ndarray | None
    people: list[Person]
    drawn: np.ndarray | None = None
    problem: str = ""


# Frames to be estimated together, with their boxes.
_Group = list[tuple[FrameResult, Boxes]]


def stream(
    estimator: PoseEstimator,
    frames: str | Path | int | Iterable[Frame],
    boxes: _BoxesOf | None = None,
    *,
    drawn: float | None = None,
    refine: Refine | None = None,
    heatmaps: bool = False,
    batch_frames: int = 4,
    live: bool | None = None,
    at_once: int = 1,
) -> Generator[FrameResult, None, None]:
    """The people of every frame, in order; reading, boxes, estimation and drawing each run in a thread of their own.

    frames: the path of a video, the number of a camera, or frames, also from a generator: pixels (H, W, 3) uint8 RGB
    or paths of pictures. Files of a turned camera come upright, as a viewer shows them. One that is broken (None, an
    error in its place, a picture that cannot be read, a box that the estimator refuses) is given back with its
    `problem` and nobody on it, and the others are not touched.
    boxes: called with number and pixels of a frame; None: every frame is one person's box.
    drawn: joints with a higher score than this are drawn on a copy of the frame; None: nothing is drawn.
    refine: called frame by frame, in order, with the number and the people; not for broken frames.
    heatmaps: keep them. batch_frames: frames whose persons are estimated together.
    live: do not wait for a batch to fill, and drop the oldest frames where they come faster than people are found;
    numbers then have gaps. None: for a camera alone.
    at_once: batches that are estimated side by side; see `psa_pose.parallel`. Of what is live one after the other.

    Frames wait in short queues, so that few are in memory whatever the length. An error of the frames, of `boxes` or of
    `refine` is raised here after the frames before it. Closing the generator, or leaving a loop over it in CPython,
    ends the threads, each after the frame that it is at. Raises DataError for a video or camera that cannot be opened.
    """
    for name, value in (("batch_frames", batch_frames), ("at_once", at_once)):
        if value < 1:
            raise DataError(f"{name} is {value}; give 1 or more")
    source: Iterable[Frame]
    if isinstance(frames, str | Path):
        source = read_frames(open_video(Path(frames)))
    elif isinstance(frames, int):
        source = read_camera(open_camera(str(frames)))
    else:
        source = frames
    live = isinstance(frames, int) if live is None else live
    return _stream(estimator, source, boxes, drawn, refine, heatmaps, batch_frames, live, 1 if live else at_once)


def _stream(
    estimator: PoseEstimator,
    source: Iterable[Frame],
    boxes: _BoxesOf | None,
    drawn: float | None,
    refine: Refine | None,
    heatmaps: bool,
    batch_frames: int,
    live: bool,
    at_once: int,
) -> Generator[FrameResult, None, None]:
    stages: list[Prefetcher] = []

    def ahead(items: Generator, most: int, newest: bool = False) -> Prefetcher:
        stages.append(Prefetcher(items, most, newest))
        return stages[-1]

    try:
        read = ahead(_read(source), 2, newest=live)
        located = ahead(_located(read, boxes), batch_frames)
        groups = _groups(located, batch_frames, live)
        found = ahead(_found(groups, estimator, refine, heatmaps, at_once), 2)
        yield from found if drawn is None else ahead(_drawn(found, estimator, drawn), 2)
    finally:
        for stage in stages:
            stage.close()
        for stage in stages:
            stage.join()


def _read(source: Iterable[Frame]) -> Generator[FrameResult, None, None]:
    for number, frame in enumerate(source):
        try:
            if isinstance(frame, DataError):
                raise frame
            if frame is None:
                raise DataError("it cannot be decoded")
            yield FrameResult(number, _pixels(frame), [])
        except DataError as error:
            yield FrameResult(number, None, [], problem=str(error))


def _pixels(frame: np.ndarray | str | Path) -> np.ndarray:
    if isinstance(frame, str | Path):
        return read_image(Path(frame), exif="apply")
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise DataError(
            f"a frame cannot be a {type(frame).__name__} of shape {np.shape(frame)}; give (H, W, 3) uint8 RGB pixels"
        )
    return frame


def _located(read: Iterator[FrameResult], boxes: _BoxesOf | None) -> Generator[tuple[FrameResult, Boxes], None, None]:
    for seen in read:
        given: Boxes = (None, None)
        if boxes is not None and seen.frame is not None:
            try:
                given = boxes(seen.number, seen.frame)
            except DataError as error:
                seen = seen._replace(problem=str(error))
        yield seen, given


def _groups(located: Prefetcher[tuple[FrameResult, Boxes]], most: int, live: bool) -> Generator[_Group, None, None]:
    """Frames to be estimated together: `most`, or fewer at the end; live: those that are there."""
    for first in located:
        group, error = [first], None
        try:
            while len(group) < most and (not live or located.waiting()):
                group.append(next(located))
        except StopIteration:
            pass
        except Exception as caught:  # Of the stages before; the frames before it come first.
            error = caught
        yield group
        if error:
            raise error


def _found(
    groups: Iterator[_Group], estimator: PoseEstimator, refine: Refine | None, heatmaps: bool, at_once: int
) -> Generator[FrameResult, None, None]:
    def answer(group: _Group) -> tuple[_Group, Sequence[list[Person] | DataError]]:
        return group, _people(estimator, [one for one in group if not one[0].problem], heatmaps)

    with closing(parallel_map(answer, groups, at_once)) as answered:
        for group, found in answered:
            answers = iter(found)
            for seen, _ in group:
                people = [] if seen.problem else next(answers)
                if isinstance(people, DataError):
                    yield seen._replace(problem=str(people))
                elif refine and not seen.problem:
                    yield seen._replace(people=refine(seen.number, people))
                else:
                    yield seen._replace(people=people)


def _people(estimator: PoseEstimator, group: _Group, heatmaps: bool) -> Sequence[list[Person] | DataError]:
    """Of each frame; of one that the estimator refuses, why, while the others are estimated one by one."""
    images, boxes = [seen.frame for seen, _ in group], [given for _, given in group]
    try:
        return estimator.batch(images, [box for box, _ in boxes], [score for _, score in boxes], heatmaps)
    except DataError as error:
        if len(group) == 1:
            return [error]
        return [answer for one in group for answer in _people(estimator, [one], heatmaps)]


def _drawn(
    found: Iterator[FrameResult], estimator: PoseEstimator, threshold: float
) -> Generator[FrameResult, None, None]:
    for seen in found:
        if seen.frame is None:
            yield seen
        else:
            yield seen._replace(drawn=draw_people(seen.frame, seen.people, estimator.skeleton, threshold))
