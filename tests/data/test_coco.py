import json

import numpy as np
import pytest

from psa_pose.data.formats.coco import clip_boxes, ground_truth_persons, read_annotations
from psa_pose.data.formats.detections import detected_persons
from psa_pose.errors import DataError
from psa_pose.skeleton import COCO


def annotation(number: int, **changes) -> dict:
    keypoints = [10, 20, 2] + [0, 0, 0] * 16
    base = {"id": number, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 40], "area": 500.0, "iscrowd": 0}
    return {**base, "keypoints": keypoints, "num_keypoints": 1, **changes}


def write(path, annotations, images=None) -> None:
    images = images or [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    path.write_text(json.dumps(content))


def persons_of(path):
    return ground_truth_persons(read_annotations(path, COCO), COCO)


def test_selection_leaves_out_crowds_and_persons_without_keypoints(tmp_path):
    path = tmp_path / "a.json"
    nothing = [0, 0, 0] * 17
    write(path, [annotation(1), annotation(2, iscrowd=1), annotation(3, keypoints=nothing, num_keypoints=0)])
    persons, problems = persons_of(path)
    assert persons.annotation_ids.tolist() == [1]
    assert not problems
    assert persons.visible[0].tolist() == [1] + [0] * 16
    assert persons.joints.dtype == np.float32


def test_boxes_are_clipped_as_published():
    boxes = np.array([[-10, -5, 50, 40], [90, 70, 50, 50], [10, 10, 20, 30], [200, 10, 5, 5], [5, 5, 0.5, 9]], float)
    clipped = clip_boxes(boxes, np.array([[100, 80]] * 5, float))
    assert clipped.tolist() == [[0, 0, 49, 39], [90, 70, 9, 9], [10, 10, 19, 29], [200, 10, 0, 4], [5, 5, 0, 8]]


@pytest.mark.parametrize("changes", [{"bbox": [200, 5, 20, 40]}, {"area": 0}, {"bbox": [5, 5, 0, 0]}])
def test_a_person_without_area_is_named_with_its_annotation(tmp_path, changes):
    path = tmp_path / "a.json"
    write(path, [annotation(1), annotation(77, **changes)])
    persons, problems = persons_of(path)
    assert len(persons) == 1
    assert len(problems) == 1
    assert "annotation 77 on image 1" in problems[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"images": [', "not valid JSON"),
        ("[]", "not an object"),
        ('{"images": []}', "no list 'annotations'"),
        (json.dumps({"images": [{"id": 1}], "annotations": [], "categories": []}), "needs id, file_name"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, says):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_annotations(path, COCO)
    assert says in str(error.value)
    assert "broken.json" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"keypoints": [0] * 15}, "annotation 9 has 15 keypoint numbers; 17 keypoints"),
        ({"image_id": 5}, "belongs to image 5"),
        ({"bbox": [1, 2, 3]}, "a bbox that is not a list of x, y, width and height"),
        ({"bbox": [1, 2, 3, float("nan")]}, "finite"),
        ({"bbox": [1, 2, 3, "4"]}, "finite"),
    ],
)
def test_a_broken_annotation_is_named(tmp_path, changes, says):
    path = tmp_path / "a.json"
    write(path, [annotation(9, **changes)])
    with pytest.raises(DataError) as error:
        read_annotations(path, COCO)
    assert says in str(error.value)


def test_the_published_numbers_of_persons(coco_mini):
    for split, persons in (("train2017", 86), ("val2017", 68)):
        found, problems = persons_of(coco_mini / f"annotations/person_keypoints_{split}.json")
        assert (len(found), problems) == (persons, [])


def test_detections_follow_their_images_and_keep_their_boxes(tmp_path):
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 50, "height": 50} for i in (7, 3)]
    write(tmp_path / "a.json", [annotation(1, image_id=3)], images)
    detections = [
        {"image_id": 3, "category_id": 1, "bbox": [-4, 0, 90, 10], "score": 0.9},
        {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.2},
        {"image_id": 3, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.9},
        {"image_id": 3, "category_id": 1, "bbox": [5, 6, 0, 8], "score": 0.8},
        {"image_id": 3, "category_id": 1, "bbox": [5, 6, 7, 8], "score": 0.05},
    ]
    path = tmp_path / "d.json"
    path.write_text(json.dumps(detections))
    persons, problems = detected_persons(path, read_annotations(tmp_path / "a.json", COCO), COCO, 0.1)
    assert persons.image_ids[persons.image].tolist() == [7, 3]
    assert persons.boxes.tolist() == [[1, 2, 3, 4], [-4, 0, 90, 10]]
    assert persons.scores.tolist() == [0.2, 0.9]
    assert len(problems) == 1
    assert "[5, 6, 0, 8] on image 3" in problems[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"a": 1}, "must hold a list"),
        ([{"image_id": 1}], "entry 0 needs"),
        ([{"image_id": 99, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}], "image 99"),
        ([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3], "score": 1}], "four numbers"),
    ],
)
def test_a_broken_detection_file_is_named(tmp_path, content, says):
    write(tmp_path / "a.json", [annotation(1)])
    path = tmp_path / "d.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        detected_persons(path, read_annotations(tmp_path / "a.json", COCO), COCO)
    assert says in str(error.value)
