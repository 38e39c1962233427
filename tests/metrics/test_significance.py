import copy

import numpy as np
import pytest

from psa_pose.metrics.coco_ap import STATS, keypoint_ap, match_results
from psa_pose.metrics.pycocotools_check import pycocotools_ap
from psa_pose.metrics.significance import bootstrap, differences, draw_images, intervals
from psa_pose.skeleton import COCO
from tests.metrics.cases import adversarial_case

SIGMAS = np.array(COCO.sigmas)


def distinct_scores(results, seed):
    """No ties: copies of an image would share them in an order that no evaluation defines."""
    scores = np.random.default_rng(seed).permutation(len(results)) / max(1, len(results))
    return [r | {"score": float(s)} for r, s in zip(results, scores, strict=True)]


def resampled(truth, results, weights):
    """The images drawn, each as often as its weight says, as new images."""
    images, annotations, found = [], [], []
    for image, times in zip(sorted(truth["images"], key=lambda i: i["id"]), weights, strict=True):
        for _ in range(int(times)):
            new = len(images) + 1
            images.append({**image, "id": new})
            for a in truth["annotations"]:
                if a["image_id"] == image["id"]:
                    annotations.append({**copy.deepcopy(a), "image_id": new, "id": len(annotations) + 1})
            found += [r | {"image_id": new} for r in results if r["image_id"] == image["id"]]
    return {**truth, "images": images, "annotations": annotations}, found


@pytest.mark.parametrize("seed", range(20, 32))
def test_a_resample_is_the_evaluation_of_the_drawn_images(seed):
    truth, results = adversarial_case(seed)
    results = distinct_scores(results, seed)
    samples = bootstrap(match_results(truth, results, SIGMAS), 6, seed=3)
    weights = np.concatenate([w for _, w in draw_images(len(truth["images"]), 6, 3)], axis=1).T
    assert (weights.sum(1) == len(truth["images"])).all()
    for drawn, sample in zip(weights, samples, strict=True):
        expected = pycocotools_ap(*resampled(truth, results, drawn), SIGMAS)
        # A hit and a false alarm of copies have equal scores: their order may differ.
        assert sample == pytest.approx([expected[name] for name in STATS], abs=2e-6 if (drawn < 2).all() else 0.1)


def study(seed, images=60, spread=(0.05, 0.05)):
    """Two models with errors of their own on the same persons."""
    rng = np.random.default_rng(seed)
    annotations, answers = [], ([], [])
    for image in range(1, images + 1):
        joints = rng.uniform(100, 200, (17, 2)).round()
        keypoints = np.concatenate([joints, np.full((17, 1), 2)], 1).ravel().tolist()
        annotations.append(
            {"id": image, "image_id": image, "category_id": 1, "bbox": [100, 100, 100, 100], "area": 6000.0,
             "iscrowd": 0, "keypoints": keypoints, "num_keypoints": 17}
        )  # fmt: skip
        for model in (0, 1):
            noisy = joints + rng.normal(size=(17, 2)) * spread[model] * 100 * rng.uniform(0.3, 2)
            points = np.concatenate([noisy, np.ones((17, 1))], 1).ravel().tolist()
            answers[model].append(
                {"image_id": image, "category_id": 1, "keypoints": points, "score": float(rng.random())}
            )
    found = [{"id": i, "file_name": "", "width": 300, "height": 300} for i in range(1, images + 1)]
    return {"images": found, "annotations": annotations, "categories": []}, *answers


def compare(truth, first, second, resamples=200):
    stats = [keypoint_ap(truth, answers, SIGMAS) for answers in (first, second)]
    samples = [bootstrap(match_results(truth, answers, SIGMAS), resamples) for answers in (first, second)]
    return stats, samples, differences(*stats, *samples)


def test_a_clear_difference_is_found_and_none_in_a_model_with_itself():
    truth, first, second = study(0, spread=(0.05, 0.08))
    stats, samples, moved = compare(truth, first, second)
    assert moved["AP"].value == stats[1]["AP"] - stats[0]["AP"] < 0
    assert moved["AP"].low < moved["AP"].value < moved["AP"].high < 0
    assert moved["AP"].p_value < 0.02
    alone = intervals(stats[0], samples[0])["AP"]
    assert alone.low < stats[0]["AP"] < alone.high
    same = compare(truth, first, first)[2]["AP"]
    assert (same.value, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_equal_models_differ_significantly_as_rarely_as_they_should():
    p_values = [compare(*study(seed), resamples=100)[2]["AP"].p_value for seed in range(40)]
    assert np.mean(np.array(p_values) < 0.05) <= 0.15
    assert 0.3 < np.median(p_values) < 0.8


def test_the_same_seed_draws_the_same():
    truth, first, _ = study(1, images=20)
    matches = match_results(truth, first, SIGMAS)
    assert np.array_equal(bootstrap(matches, 70, seed=5), bootstrap(matches, 70, seed=5))
    assert not np.array_equal(bootstrap(matches, 70, seed=5), bootstrap(matches, 70, seed=6))
