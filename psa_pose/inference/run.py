"""`tools/infer.py`: people on pictures and videos, drawn and as COCO files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from psa_pose.checkpoints import write_whole
from psa_pose.data.images import read_image
from psa_pose.errors import DataError
from psa_pose.estimator import Person, PoseEstimator
from psa_pose.inference.boxes import BoxSource
from psa_pose.inference.sources import Video, is_video, open_video, read_frames
from psa_pose.skeleton import Skeleton
from psa_pose.visualization.draw import draw_skeleton, write_picture


@dataclass
class Written:
    """A COCO file in the making: images, annotations with score, and the category that names the keypoints."""

    skeleton: Skeleton
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, image_id: int, name: str, size: tuple[int, int], people: Iterable[Person]) -> None:
        """One picture, or frame, of (width, height) pixels."""
        self.images.append({"id": image_id, "file_name": name, "width": size[0], "height": size[1]})
        for person in people:
            entry = {"id": len(self.annotations) + 1, "image_id": image_id, **_annotation(person)}
            self.annotations.append(entry)

    def save(self, path: Path) -> None:
        """Write it whole."""
        limbs = [[a + 1, b + 1] for a, b in self.skeleton.limb_pairs]
        category = {"id": 1, "name": "person", "keypoints": list(self.skeleton.names), "skeleton": limbs}
        content = {"images": self.images, "annotations": self.annotations, "categories": [category]}
        write_whole(path, lambda file: file.write(json.dumps(content).encode()))


def run_infer(
    estimator: PoseEstimator, files: list[Path], boxes: BoxSource, folder: Path, threshold: float = 0.2
) -> list[str]:
    """Draw and list the people of every file into `folder`; the answer: one sentence for each file or video in which
    something could not be read. threshold: keypoints with a higher score are drawn.
    """
    problems: list[str] = []
    pictures = [path for path in files if not is_video(path)]
    listed, ids = Written(estimator.skeleton), image_ids(pictures)
    names: set[str] = set()
    for path in tqdm(files, desc="files", disable=not sys.stderr.isatty()):
        name = _free_name(path.stem, names)
        try:
            if is_video(path):
                problems += infer_video(estimator, open_video(path), boxes, folder / name, threshold)
                continue
            image = read_image(path)
            people = estimator(image, *boxes(path, image))
        except DataError as error:
            problems.append(f"{path}: {error}")
            continue
        listed.add(ids[path], path.name, (image.shape[1], image.shape[0]), people)
        suffix = ".png" if path.suffix.lower() == ".png" else ".jpg"
        write_picture(folder / f"{name}_pose{suffix}", draw_people(image, people, estimator.skeleton, threshold))
    if pictures:
        listed.save(folder / "keypoints.json")
    return problems


def infer_video(
    estimator: PoseEstimator, video: Video, boxes: BoxSource, stem: Path, threshold: float = 0.2
) -> list[str]:
    """Write <stem>_pose.mp4 and <stem>_keypoints.json, a frame for every frame; the answer: what could not be decoded.

    A frame that cannot be decoded shows the one before it (black at first) and nobody. The sound is not kept.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    out = stem.with_name(f"{stem.name}_pose.mp4")
    writer = cv2.VideoWriter(str(out), cv2.VideoWriter.fourcc(*"mp4v"), video.fps, video.size)
    if not writer.isOpened():
        raise DataError(f"video {out} cannot be written; check the folder and OpenCV's video support")
    listed, broken = Written(estimator.skeleton), []
    shown = np.zeros((video.size[1], video.size[0], 3), np.uint8)
    try:
        frames = tqdm(read_frames(video), video.path.name, video.count, False, disable=not sys.stderr.isatty())
        for number, frame in enumerate(frames):
            people: list[Person] = []
            if frame is None:
                broken.append(number)
            else:
                people = estimator(frame, *boxes(video.path, frame))
                shown = draw_people(frame, people, estimator.skeleton, threshold)
            listed.add(number, f"{video.path.name}#{number}", video.size, people)
            writer.write(np.ascontiguousarray(shown[..., ::-1]))
    finally:
        writer.release()
    listed.save(stem.with_name(f"{stem.name}_keypoints.json"))
    if not broken:
        return []
    return [f"{video.path}: {len(broken)} of {video.count} frames cannot be decoded (frame {broken[0]} first)"]


def draw_people(image: np.ndarray, people: Iterable[Person], skeleton: Skeleton, threshold: float) -> np.ndarray:
    """A copy of an RGB picture with everybody on it, the best on top, each with a score at the box's corner."""
    image = image.copy()
    for person in sorted(people, key=lambda person: person.score):
        image = draw_skeleton(image, person.keypoints[:, :2], person.keypoints[:, 2] > threshold, skeleton)
        x, y = np.clip(person.box[:2], 0, None)
        place = (int(x) + 2, int(y) + 12)
        cv2.putText(image, f"{person.score:.2f}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return image


def image_ids(pictures: list[Path]) -> dict[Path, int]:
    """Ids: the numbers that the names are, as in COCO, where all are different numbers; otherwise 1, 2, 3..."""
    stems = [path.stem for path in pictures]
    numbers = [int(stem) for stem in stems if stem.isdecimal()]
    coco = len(set(numbers)) == len(stems)
    return dict(zip(pictures, numbers if coco else range(1, len(stems) + 1), strict=True))


def _annotation(person: Person) -> dict[str, Any]:
    keypoints = np.concatenate([person.keypoints[:, :2].round(2), person.keypoints[:, 2:].round(3)], axis=1)
    return {
        "category_id": 1,
        "bbox": person.box.tolist(),
        "area": float(person.box[2] * person.box[3]),
        "iscrowd": 0,
        "num_keypoints": len(keypoints),
        "keypoints": keypoints.flatten().tolist(),
        "score": person.score,
    }


def _free_name(stem: str, taken: set[str]) -> str:
    """The stem, with a number where another file in this run has it."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name)
    return name
