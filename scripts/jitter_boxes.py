"""Write a detection file with several jittered boxes per image, made from the annotated ones.

python scripts/jitter_boxes.py --annotations F --out G [--per-image 20]

For measuring how fast detector boxes are read where no detector's file is at hand; the boxes detect nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.command_line import run_command
from psa_pose.errors import DataError


def main() -> None:
    parser = argparse.ArgumentParser(description="Jittered copies of annotated boxes, in COCO's result format.")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO keypoint annotations")
    parser.add_argument("--out", type=Path, required=True, help="detection file to write")
    parser.add_argument("--per-image", type=int, default=20, help="boxes on each image that has any (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    from psa_pose.config.skeleton import read_category
    from psa_pose.data.formats.coco import read_annotations
    from psa_pose.files import write_json

    content = read_annotations(args.annotations, read_category(args.annotations)).content
    boxes = jittered_boxes(content, args.per_image, np.random.default_rng(args.seed))
    if not boxes:
        raise DataError(f"{args.annotations} has no box to jitter; give annotations with boxes")
    write_json(args.out, boxes)
    images = len({box["image_id"] for box in boxes})
    print(f"{len(boxes):,} boxes on {images:,} images are in {args.out}; give it as DATASET.TEST_DETECTIONS")


def jittered_boxes(content: dict[str, Any], per_image: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Detections, `per_image` on each image: an annotated box, moved and scaled by a tenth of its size at random."""
    by_image: dict[int, list[list[float]]] = {}
    for annotation in content["annotations"]:
        if min(annotation["bbox"][2:]) > 0:
            by_image.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    detections = []
    for image, found in sorted(by_image.items()):
        box = np.array(found)[np.arange(per_image) % len(found)]
        size = box[:, 2:] * (1 + 0.1 * generator.standard_normal((per_image, 2)).clip(-3, 3))
        centre = box[:, :2] + box[:, 2:] / 2 + 0.1 * box[:, 2:] * generator.standard_normal((per_image, 2))
        rounded = np.concatenate([centre - size / 2, size], axis=1).round(2).tolist()
        scores = generator.uniform(0.05, 1, per_image).round(4).tolist()
        detections += [
            {"image_id": image, "category_id": 1, "bbox": one, "score": score}
            for one, score in zip(rounded, scores, strict=True)
        ]
    return detections


if __name__ == "__main__":
    run_command(main)
