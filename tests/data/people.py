"""Persons whose facts agree, made by a generator, to break one fact at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from psa_pose.skeleton import COCO

# An upright body: where COCO's keypoints lie in their box, as shares of its width and height.
BODY = np.array([
    (0.5, 0.06), (0.55, 0.05), (0.45, 0.05), (0.6, 0.06), (0.4, 0.06), (0.75, 0.2), (0.25, 0.2), (0.9, 0.35),
    (0.1, 0.35), (0.95, 0.5), (0.05, 0.5), (0.65, 0.52), (0.35, 0.52), (0.68, 0.75), (0.32, 0.75), (0.7, 0.96),
    (0.3, 0.96),
])  # fmt: skip


def consistent(sizes: list[tuple[int, int]], seed: int, each: tuple[int, int] = (1, 3)) -> dict[str, Any]:
    """A COCO file of persons on images of the given (width, height): boxes all over them, keypoints in the boxes."""
    rng = np.random.default_rng(seed)
    images = [{"id": i, "file_name": f"{i}.png", "width": w, "height": h} for i, (w, h) in enumerate(sizes, start=1)]
    annotations = []
    for image in images:
        for _ in range(rng.integers(each[0], each[1] + 1)):
            annotations.append(_person(len(annotations) + 1, image, rng))
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO.names)}]
    return {"images": images, "annotations": annotations, "categories": categories}


def _person(number: int, image: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    width, height = image["width"], image["height"]
    w, h = width * rng.uniform(0.2, 0.45), height * rng.uniform(0.4, 0.7)
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    points = BODY + rng.normal(0, 0.01, BODY.shape)
    labelled = rng.random(17) < 0.85
    labelled[rng.choice(17, 4, replace=False)] = True
    joints = np.where(labelled[:, None], np.array([x, y]) + points * [w, h], 0).clip(0)
    flags = np.where(labelled, rng.integers(1, 3, 17), 0)
    keypoints = np.concatenate([joints.round(2), flags[:, None]], axis=1).ravel().tolist()
    return {
        "id": number,
        "image_id": image["id"],
        "category_id": 1,
        "bbox": [round(float(v), 2) for v in (x, y, w, h)],
        "area": round(float(0.5 * w * h), 2),
        "iscrowd": 0,
        "num_keypoints": int(labelled.sum()),
        "keypoints": keypoints,
    }


def move_points(annotation: dict[str, Any], change: Any) -> None:
    """Change the labelled keypoints of an annotation: change maps (n, 2) to (n, 2)."""
    points = np.array(annotation["keypoints"], float).reshape(-1, 3)
    labelled = points[:, 2] > 0
    points[labelled, :2] = change(points[labelled, :2])
    annotation["keypoints"] = [int(v) if i % 3 == 2 else v for i, v in enumerate(points.ravel().tolist())]


def detections_of(content: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """What a good detector says of the persons: their boxes, slightly moved."""
    rng = np.random.default_rng(seed)
    answer = []
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        dx, dy, dw, dh = rng.normal(0, 0.03, 4) * [w, h, w, h]
        box = [round(float(v), 2) for v in (x + dx, y + dy, w + dw, h + dh)]
        score = round(float(rng.uniform(0.3, 1)), 3)
        answer.append({"image_id": annotation["image_id"], "category_id": 1, "bbox": box, "score": score})
    return answer
