"""What a command was pointed at: files, folders or patterns, cameras; and the frames of both videos and cameras."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from psa_pose.errors import DataError

VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
# Frames; ten days of them.
GREATEST_COUNT = 30_000_000
PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def find_files(words: Iterable[str]) -> list[Path]:
    """The files that words name, each once: a file, the pictures and videos in a folder, or those a pattern matches.

    A file that is named is taken whatever its suffix. Raises DataError for a word that names nothing.
    """
    found: dict[Path, None] = {}
    for word in words:
        path = Path(word)
        if path.is_dir():
            some = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES + VIDEOS)
        else:
            some = [path] if path.is_file() else sorted(Path(p) for p in glob.glob(word, recursive=True))
        some = [p for p in some if p.is_file()]
        if not some:
            raise DataError(f"{word!r} names no picture or video; give a file, a folder with some, or a pattern")
        found |= dict.fromkeys(some)
    return list(found)


def is_video(path: Path) -> bool:
    """By its suffix."""
    return path.suffix.lower() in VIDEOS


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


def open_video(path: Path) -> Video:
    """Look through a video once. Raises DataError for a file without a frame that OpenCV can decode."""
    capture = cv2.VideoCapture(str(path))
    try:
        keys = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_COUNT)
        width, height, stated = (int(capture.get(key)) for key in keys)
        # Some files state nonsense, live recordings nothing.
        stated = stated if 0 < stated < GREATEST_COUNT else 0
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
    capture = cv2.VideoCapture(str(video.path))
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
LOST = 10


@dataclass(frozen=True)
class Camera:
    """An open camera: frames per second as it states them, and width and height in pixels."""

    capture: cv2.VideoCapture
    fps: float
    size: tuple[int, int]


def open_camera(name: str) -> Camera:
    """A camera by its number, or whatever else OpenCV opens, such as the address of a stream. Raises DataError."""
    capture = cv2.VideoCapture(int(name) if name.isdecimal() else name)
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
        while failed < LOST:
            done, frame = camera.capture.read()
            if not done:
                failed += 1
                continue
            yield from [None] * failed
            failed = 0
            yield np.ascontiguousarray(frame[..., ::-1])
    finally:
        camera.capture.release()
