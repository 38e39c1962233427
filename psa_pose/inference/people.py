"""What is made of the people of a picture: a drawing, a COCO file, fewer of them where one was found twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.data.formats.coco_form import PERSON_CATEGORY
from psa_pose.files import write_json
from psa_pose.inference.estimator import Person
from psa_pose.inference.tracker import TrackedPerson
from psa_pose.metrics.oks import oks_nms
from psa_pose.skeleton import Skeleton
from psa_pose.visualization.draw import draw_skeleton


@dataclass
class CocoWriter:
    """A COCO file in the making: images, annotations with score, and the category that names the keypoints."""

    skeleton: Skeleton
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, image_id: int, name: str, size: tuple[int, int], people: Iterable[Person]) -> None:
        """One picture, or frame, of (width, height) pixels."""
        self.images.append({"id": image_id, "file_name": name, "width": size[0], "height": size[1]})
        for person in people:
            self.annotations.append({"id": len(self.annotations) + 1, "image_id": image_id, **_annotation(person)})

    def save(self, path: Path) -> None:
        """Write it whole."""
        limbs = [[a + 1, b + 1] for a, b in self.skeleton.limb_pairs]
        category = {"id": PERSON_CATEGORY, "name": "person", "keypoints": list(self.skeleton.names), "skeleton": limbs}
        write_json(path, {"images": self.images, "annotations": self.annotations, "categories": [category]})


def draw_people(image: np.ndarray, people: Iterable[Person], skeleton: Skeleton, threshold: float) -> np.ndarray:
    """A copy of an RGB picture with everybody on it, the best on top, each with a score at the box's corner.

    A person who is followed through a video has the number of the track before the score.
    """
    image = image.copy()
    for person in sorted(people, key=lambda person: person.score):
        image = draw_skeleton(image, person.keypoints[:, :2], person.keypoints[:, 2] > threshold, skeleton)
        track = f"#{person.track} " if isinstance(person, TrackedPerson) else ""
        x, y = np.clip(person.box[:2], 0, None)
        place = (int(x) + 2, int(y) + 12)
        for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            text = f"{track}{person.score:.2f}"
            cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, thickness, cv2.LINE_AA)
    return image


def suppress_duplicates(people: list[Person], spec: ModelSpec) -> list[Person]:
    """Without those who are another, better person once more: the OKS-NMS of the evaluation, under TEST.OKS_NMS.

    As there, areas are those of the padded boxes. The order stays.
    """
    if len(people) < 2:
        return people
    joints = np.stack([person.keypoints[:, :2] for person in people])
    scores = np.array([person.score for person in people])
    areas = spec.regions(np.stack([person.box for person in people]))[1].prod(1)
    kept = oks_nms(joints, scores, areas, np.array(spec.skeleton.sigmas), spec.oks_nms)
    return [people[row] for row in sorted(kept.tolist())]


def _annotation(person: Person) -> dict[str, Any]:
    keypoints = np.concatenate([person.keypoints[:, :2].round(2), person.keypoints[:, 2:].round(3)], axis=1)
    track = {"track_id": person.track} if isinstance(person, TrackedPerson) else {}
    return {
        "category_id": PERSON_CATEGORY,
        "bbox": person.box.tolist(),
        "area": float(person.box[2] * person.box[3]),
        "iscrowd": 0,
        "num_keypoints": len(keypoints),
        "keypoints": keypoints.flatten().tolist(),
        "score": person.score,
        **track,
    }
