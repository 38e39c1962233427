"""Boxes, detections and labels of drawn pictures against plain counts."""

import numpy as np

from psa_pose.segmentation.data.synthetic import BLEND, _labels
from psa_pose.synthetic.dataset import _simulate_detections
from psa_pose.synthetic.scene import _box_and_area


def test_a_box_holds_the_first_and_the_last_pixel_of_its_mask():
    mask = np.zeros((12, 20), bool)
    mask[3:8, 5:16] = True
    assert _box_and_area(mask) == ([5, 3, 11, 5], 55)


def test_a_crowd_is_left_to_the_false_alarms():
    crowd = {"iscrowd": 1, "bbox": [10, 10, 60, 80], "area": 4000, "keypoints": [0] * 51}
    found = [len(_simulate_detections(np.random.default_rng(n), [crowd], (200, 150))) for n in range(300)]
    # A Poisson number of 0.35 each.
    assert abs(np.mean(found) - 0.35) < 5 * np.sqrt(0.35 / 300)


def test_the_blend_of_wall_and_ground_is_ignored():
    labels = _labels(np.zeros((40, 6), np.int32), 10.0)
    assert labels[:, 0].tolist() == [0] * 10 + [255] * BLEND + [1] * (30 - BLEND)
