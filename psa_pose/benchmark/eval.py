"""The evaluation after the network, step by step, on a made-up input of the size of COCO val2017."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.data.formats.coco_form import PERSON_CATEGORY
from psa_pose.errors import PsaPoseError
from psa_pose.files import write_json
from psa_pose.metrics.coco_ap import Predictions, accumulate, match_results, to_results
from psa_pose.metrics.oks import instance_scores, oks_nms
from psa_pose.metrics.pycocotools_check import pycocotools_ap
from psa_pose.metrics.significance import bootstrap
from psa_pose.skeleton import COCO, Skeleton

KEYPOINT_SCORE, OKS_NMS, RESAMPLES = 0.2, 0.9, 1000
# val2017: images, those with a person, annotations, those with a labelled keypoint, crowds (rounded); the published
# detector's boxes.
IMAGES, PEOPLED, ANNOTATIONS, PERSONS, CROWDS, BOXES = 5000, 2693, 11004, 6352, 240, 104_125
WIDTH, HEIGHT = 640, 480


def benchmark_eval(rounds: int, share: float = 1.0, check: bool = False) -> dict[str, Any]:
    """Seconds (medians) from predictions in memory to the file on the disk and the AP, of val2017's size times `share`.

    total_s is the whole, one after the other; results_s (which holds oks_nms_s), write_s and coco_eval_s are its
    parts. oks_nms_s: rescoring and suppression, timed by themselves. bootstrap_s: of RESAMPLES resamples, beyond the
    total. check: also evaluate with pycocotools (pycocotools_s, slow), and raise where a figure differs.
    """
    truth, predictions = fake_val2017(COCO, share=share)
    sigmas = np.array(COCO.sigmas)
    runs: dict[str, list[float]] = {}

    def timed(name: str, started: float) -> float:
        now = time.perf_counter()
        runs.setdefault(name, []).append(now - started)
        return now

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        for _ in range(rounds):
            begun = time.perf_counter()
            results = to_results(predictions, sigmas, KEYPOINT_SCORE, OKS_NMS)
            now = timed("results_s", begun)
            write_json(file, results)
            now = timed("write_s", now)
            matches = match_results(truth, results, sigmas)
            stats = accumulate(matches).stats()
            timed("coco_eval_s", now)
            now = timed("total_s", begun)
            scores = instance_scores(predictions.box_scores, predictions.keypoint_scores, KEYPOINT_SCORE)
            oks_nms(predictions.joints, scores, predictions.areas, sigmas, OKS_NMS, predictions.image_ids)
            timed("oks_nms_s", now)
        size = file.stat().st_size
    now = time.perf_counter()
    bootstrap(matches, RESAMPLES)
    now = timed("bootstrap_s", now)
    if check:
        reference = pycocotools_ap(truth, results, sigmas)
        timed("pycocotools_s", now)
        if reference != stats:
            raise PsaPoseError(f"pycocotools finds {reference} where this project finds {stats}; report this")
    return {name: statistics.median(values) for name, values in sorted(runs.items(), reverse=True)} | {
        "images": len(truth["images"]),
        "boxes": len(predictions.joints),
        "results": len(results),
        "file_mb": size / 1e6,
        "ap": stats["AP"],
    }


def fake_val2017(skeleton: Skeleton, seed: int = 0, share: float = 1.0) -> tuple[dict[str, Any], Predictions]:
    """The content of an annotation file and what a middling network might predict on it; share: of val2017's size.

    About four boxes fall on each person, with errors of an AP near 56; the others are background, mostly with low
    scores. The same seed gives the same figures.
    """
    rng = np.random.default_rng(seed)
    images, peopled, count, persons, crowds, boxes = (
        max(1, round(n * share)) for n in (IMAGES, PEOPLED, ANNOTATIONS, PERSONS, CROWDS, BOXES)
    )
    image_ids = np.sort(rng.choice(600_000, images, replace=False)) + 1
    image = np.concatenate([np.arange(peopled), rng.choice(peopled, count - peopled)])
    height = np.exp(rng.uniform(np.log(25), np.log(400), count))
    size = np.stack([height * rng.uniform(0.3, 0.8, count), height], 1)
    corner = rng.uniform(0, 1, (count, 2)) * np.maximum(1, np.array([WIDTH, HEIGHT]) - size)
    joints = corner[:, None] + rng.uniform(0.05, 0.95, (count, skeleton.num_joints, 2)) * size[:, None]
    labelled = rng.random((count, skeleton.num_joints)) < rng.uniform(0.2, 1, (count, 1))
    order = rng.permutation(count)
    labelled[:, 0] |= True
    labelled[order[persons:]] = False
    crowd = np.isin(np.arange(count), order[len(order) - crowds :])
    truth = {
        "images": [{"id": int(i), "file_name": f"{i:012d}.jpg", "width": WIDTH, "height": HEIGHT} for i in image_ids],
        "annotations": _annotations(image_ids[image], corner, size, joints, labelled, crowd),
        "categories": [{"id": PERSON_CATEGORY, "name": "person", "keypoints": list(skeleton.names), "skeleton": []}],
    }
    whose = np.repeat(order[:persons], 4)[:boxes]
    found = _around(rng, joints[whose], size[whose], np.array(skeleton.sigmas))
    rest = boxes - len(whose)
    spot = rng.uniform(0, 1, (rest, 1, 2)) * [WIDTH, HEIGHT]
    background = spot + rng.normal(size=(rest, skeleton.num_joints, 2)) * rng.uniform(5, 80, (rest, 1, 1))
    real, noise = rng.beta(5, 2, len(whose)), rng.beta(1, 12, rest)
    quality = np.concatenate([rng.uniform(0.4, 1, len(whose)), rng.uniform(0, 0.5, rest)])[:, None]
    predictions = Predictions(
        image_ids=image_ids[np.concatenate([image[whose], rng.choice(images, rest)])],
        box_scores=np.concatenate([real, noise]),
        areas=np.concatenate([size[whose].prod(1) * 1.5, rng.uniform(1e3, 1e5, rest)]),
        joints=np.concatenate([found, background]),
        keypoint_scores=np.clip(quality + rng.normal(size=(boxes, skeleton.num_joints)) * 0.15, 0, 1),
    )
    return truth, predictions


def _around(rng: np.random.Generator, joints: np.ndarray, size: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Joints (N, K, 2) with errors in proportion to OKS's own scale, and now and then a joint astray."""
    scale = np.sqrt(size.prod(1) * 0.6)[:, None] * 2 * sigmas
    worse = rng.gamma(1.5, 0.2, (len(joints), 1)) + 0.1
    astray = np.where(rng.random(scale.shape) < 0.06, 8.0, 1.0)
    return joints + rng.normal(size=joints.shape) * (scale * worse * astray)[..., None]


def _annotations(
    image_ids: np.ndarray,
    corner: np.ndarray,
    size: np.ndarray,
    joints: np.ndarray,
    labelled: np.ndarray,
    crowd: np.ndarray,
) -> list[dict[str, Any]]:
    keypoints = np.concatenate([joints.round(), np.full_like(joints[..., :1], 2)], 2) * labelled[..., None]
    return [
        {
            "id": number + 1,
            "image_id": int(image_ids[number]),
            "category_id": PERSON_CATEGORY,
            "iscrowd": int(crowd[number]),
            "bbox": [*corner[number].round(2).tolist(), *size[number].round(2).tolist()],
            "area": float(size[number].prod().round(2) * 0.6),
            "num_keypoints": int(labelled[number].sum()),
            "keypoints": keypoints[number].astype(int).ravel().tolist(),
        }
        for number in range(len(image_ids))
    ]
