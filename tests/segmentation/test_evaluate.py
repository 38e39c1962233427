"""What a test adds to the confusion matrix: Cityscapes' own figures, from the files of instances beside the labels."""

import cv2
import numpy as np
import pytest
import torch

from psa_pose.errors import DataError
from psa_pose.segmentation.cityscapes_classes import label_ids
from psa_pose.segmentation.data.cityscapes import instance_path
from psa_pose.segmentation.data.label_files import read_indices, write_label
from psa_pose.segmentation.evaluation.evaluate import evaluate
from psa_pose.segmentation.metrics.cityscapes import image_counts, scores
from psa_pose.tasks import build_task
from tests.segmentation.layouts import make_cityscapes


@pytest.fixture
def city(scene_config, tmp_path):
    """A task whose test split has two pictures with labels and instances."""
    make_cityscapes(tmp_path / "city")
    words = ["DATASET.FORMAT", "cityscapes", "DATASET.ROOT", tmp_path / "city", "DATASET.CLASSES", "cityscapes"]
    return build_task(scene_config(*words, "MODEL.NUM_CLASSES", 19, "DATASET.TEST_SPLIT", "val"))


def guess(images: torch.Tensor) -> torch.Tensor:
    """The classes 0 to 18 of each picture in stripes, in the place of a network."""
    return (torch.arange(images.shape[2]) % 19).to(torch.uint8).expand(images.shape[:3])


def scored(task, info=print, model=guess):
    (test_set,) = task.test_sets(print)
    return evaluate(task.cfg, test_set, model, task.classes, info), test_set.dataset.pictures.labels


def test_cityscapes_own_figures_are_those_of_its_files(city):
    result, labels = scored(city)
    prediction = label_ids()[guess(torch.zeros(1, 32, 64, 3))[0].numpy()]
    total = None
    for path in labels:
        instances = cv2.imread(str(instance_path(path)), cv2.IMREAD_UNCHANGED)
        counts = image_counts(read_indices(path), instances, prediction)
        total = counts if total is None else total + counts
    means = scores(total).means()
    assert result.stats["miou"] == pytest.approx(means.pop("miou"), abs=1e-12)
    assert {name: result.stats[name] for name in means} == means
    assert 0 < means["iiou"] < 1
    truth, _ = scored(city, model=city.oracle("labels"))
    assert {truth.stats[name] for name in ("miou", "iiou", "category_iou", "category_iiou")} == {1.0}


def test_a_label_of_255_counts_as_little_as_one_of_0(city):
    results = []
    for value in (0, 255):
        (test_set,) = city.test_sets(print)
        for path in test_set.dataset.pictures.labels:
            ids = read_indices(path).copy()
            ids[:4] = value
            write_label(path, ids)
        results.append(scored(city)[0].stats)
    assert results[0] == results[1]


def test_what_is_amiss_with_instances_is_said(city):
    (test_set,) = city.test_sets(print)
    first = instance_path(test_set.dataset.pictures.labels[0])
    assert cv2.imwrite(str(first), np.zeros((3, 3), np.uint16))
    with pytest.raises(DataError, match=r"instanceIds.png are no picture of its label's size; fetch gtFine again"):
        scored(city)
    first.unlink()
    said = []
    result, _ = scored(city, said.append)
    assert "iiou" not in result.stats
    assert "only 1 of 2 images have instanceIds files" in said[0]
