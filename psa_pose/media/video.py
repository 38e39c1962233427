"""Frames of videos and cameras, read and written, and an iterator that makes its items ahead in a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np

from psa_pose.errors import DataError

T = TypeVar("T")
# Ten days of them: a file that states more states nonsense.
_MOST_FRAMES = 30_000_000


@dataclass(frozen=True)
class Video:
    """A video file: frames per second, width and height in pixels, frames that it states and that can be decoded."""

    path: Path
    fps: float
    size: tuple[int, int]
    stated: int
    decodable: int

    @property
    def count(self) -> int:
        """The frames that come out of it, broken ones too."""
        return max(self.stated, self.decodable)


def _open(source: str | int) -> cv2.VideoCapture:
    """Frames, and their stated size, upright where the file says that the camera was turned."""
    capture = cv2.VideoCapture(source)
    # OpenCV's default, which builds and backends may change; what cannot do it answers False.
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return capture


def open_video(path: Path) -> Video:
    """A video file, looked through once. Raises DataError for a file without a frame that OpenCV can decode."""
    capture = _open(str(path))
    try:
        keys = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_COUNT)
        width, height, stated = (int(capture.get(key)) for key in keys)
        # Some files state nonsense, live recordings nothing.
        stated = stated if 0 < stated < _MOST_FRAMES else 0
        tried = decodable = 0
        while (done := capture.grab()) or tried < stated:
            tried, decodable = tried + 1, decodable + done
        if not decodable:
            raise DataError(f"video {path} has no frame that OpenCV can decode; convert or replace it")
        return Video(path, capture.get(cv2.CAP_PROP_FPS) or 25.0, (width, height), stated, decodable)
    finally:
        capture.release()


def read_frames(video: Video) -> Iterator[np.ndarray | None]:
    """Its `count` frames, (H, W, 3) uint8 RGB; None for one that cannot be decoded, at its place."""
    capture = _open(str(video.path))
    missing, given = video.count - video.decodable, 0
    try:
        while given < video.count:
            done, frame = capture.read()
            # A decoder refuses a broken frame once, or passes over it: then the time of the next one has a gap.
            place = round(capture.get(cv2.CAP_PROP_POS_MSEC) * video.fps / 1000)
            gap = min(max(place - given, 0), missing) if done else 1
            for _ in range(gap):
                yield None
            missing, given = missing - gap, given + gap + done
            if done:
                yield np.ascontiguousarray(frame[..., ::-1])
    finally:
        capture.release()


# Frames in a row that a camera may fail to give before it counts as gone.
_LOST = 10


@dataclass(frozen=True)
class Camera:
    """An open camera: frames per second as it states them, and width and height in pixels."""

    capture: cv2.VideoCapture
    fps: float
    size: tuple[int, int]


def open_camera(name: str) -> Camera:
    """A camera by its number, or whatever else OpenCV opens, such as the address of a stream. Raises DataError."""
    capture = _open(int(name) if name.isdecimal() else name)
    if not capture.isOpened() or not capture.grab():
        capture.release()
        raise DataError(
            f"camera {name} cannot be opened; check that it is there, that you may use it and that no other program "
            "does, or try another number"
        )
    width, height = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    return Camera(capture, capture.get(cv2.CAP_PROP_FPS) or 25.0, (width, height))


def read_camera(camera: Camera) -> Iterator[np.ndarray | None]:
    """Its frames, (H, W, 3) uint8 RGB, until it gives no more, and None for one that it fails to give. Releases it."""
    failed = 0
    try:
        while failed < _LOST:
            done, frame = camera.capture.read()
            if not done:
                failed += 1
                continue
            yield from [None] * failed
            failed = 0
            yield np.ascontiguousarray(frame[..., ::-1])
    finally:
        camera.capture.release()


class Prefetcher(Iterator[T], Generic[T]):
    """What `items` yields, in order, at most `most` (1 or more) of them waiting here; the thread starts at once.

    An error of `items` is raised here, after the items before it. newest: where `most` are waiting the oldest is
    dropped instead of `items` being held up. `close`, then `join`, end the thread early, in the midst of `items`.
    """

    def __init__(self, items: Generator[T, None, None], most: int, newest: bool = False) -> None:
        self._items, self._most, self._newest = items, most, newest
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended or self._closed)
            if self._ready and not self._closed:
                self._changed.notify_all()
                return self._ready.popleft()
            if self._error is not None and not self._closed:
                error, self._error = self._error, None
                raise error
        raise StopIteration

    def waiting(self) -> bool:
        """Whether the next item is there already."""
        with self._changed:
            return bool(self._ready)

    def close(self) -> None:
        """Ask the thread to end; whoever waits here is told that there is no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for the thread, which first finishes the item that it is at."""
        self._thread.join()

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                if not self._put(item):
                    break
            self._items.close()
        except BaseException as caught:  # Whatever it is, it is raised where the items are taken.
            error = caught
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def _put(self, item: T) -> bool:
        with self._changed:
            if self._newest and len(self._ready) >= self._most:
                self._ready.popleft()
            self._changed.wait_for(lambda: len(self._ready) < self._most or self._closed)
            self._ready.append(item)
            self._changed.notify_all()
            return not self._closed


@contextmanager
def video_writer(path: Path, fps: float, size: tuple[int, int]) -> Iterator[cv2.VideoWriter]:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    if not writer.isOpened():
        raise DataError(f"video {path} cannot be written; check the folder and OpenCV's video support")
    try:
        yield writer
    finally:
        writer.release()


def write_frame(writer: cv2.VideoWriter, frame: np.ndarray, size: tuple[int, int]) -> None:
    # A writer leaves out, silently, frames of another size than the first one's.
    frame = frame if frame.shape[1::-1] == size else cv2.resize(frame, size)
    writer.write(np.ascontiguousarray(frame[..., ::-1]))
