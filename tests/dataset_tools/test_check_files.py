import json
import re

import numpy as np
import pytest

from psa_pose.dataset_tools.check_files import check_annotation_file, check_detection_file
from psa_pose.skeleton import COCO


def files(people):
    return people / "annotations/person_keypoints_val2017.json", people / "val2017"


def test_good_files_have_no_findings(people):
    path, images = files(people)
    findings, counts = check_annotation_file(path, images, COCO)
    assert [f for f in findings if f.level == "error"] == []
    assert "8 images" in counts[0]
    detections = people / "person_detection_results/val2017_person_detections.json"
    assert check_detection_file(detections, path)[0] == []


def person(content):
    return next(a for a in content["annotations"] if a["num_keypoints"] and not a["iscrowd"])


def each(content, **changes):
    for annotation in content["annotations"]:
        annotation.update(changes)


@pytest.mark.parametrize(
    ("spoil", "level", "words"),
    [
        (lambda c: person(c).pop("area"), "error", "have no 'area'"),
        (lambda c: person(c).update(area=0), "error", "no area: their OKS is 0"),
        (lambda c: person(c).update(area=1e8), "warning", "area larger than their box"),
        (lambda c: person(c).update(image_id=-4), "error", "on an image that the file does not list"),
        (lambda c: person(c).update(keypoints=[1, 1, 2] * 5), "error", "51 keypoint numbers"),
        (lambda c: person(c).update(keypoints=[float("nan")] * 51), "error", "not finite"),
        (lambda c: person(c).update(keypoints=[0.5, 0.5, 2] * 17), "error", "fractions of the image"),
        (lambda c: person(c).update(keypoints=[5000, 5000, 2] * 17), "warning", "keypoints outside their image"),
        (lambda c: person(c).update(bbox=[9000, 5, 10, 10], area=50), "error", "box outside their image"),
        (lambda c: person(c).update(bbox=[-50, 5, 100, 10], area=50), "warning", "reaches out of their image"),
        (lambda c: person(c).update(bbox=[5, 5, 0, 10]), "error", "box without area"),
        (lambda c: person(c).update(num_keypoints=0), "error", "num_keypoints"),
        (lambda c: person(c).update(id=0), "error", "have id 0"),
        (lambda c: c["annotations"].append(dict(person(c))), "error", "share their id"),
        (lambda c: each(c, keypoints=[0, 0, 0] * 17, num_keypoints=0), "error", "AP would be -1"),
        (lambda c: each(c, iscrowd=1), "error", "AP would be -1"),
        (lambda c: each(c, area=1500.0), "warning", "no person is large"),
        (lambda c: each(c, category_id=2), "error", "results are written as 1"),
        (lambda c: c.update(categories=[]), "error", "used but not listed"),
        (lambda c: c["categories"][0].update(keypoints=["head"]), "error", "names keypoints"),
        (lambda c: c["images"].append(dict(c["images"][0])), "error", "image ids .* repeat"),
        (lambda c: c["images"][0].update(file_name="none.jpg"), "error", "are not in"),
        (lambda c: c["images"][0].pop("width"), "error", "lack id, file_name, width or height"),
        (lambda c: c.pop("categories"), "error", "no list 'categories'"),
    ],
)
def test_what_would_spoil_an_evaluation_is_named(people, tmp_path, spoil, level, words):
    path, images = files(people)
    content = json.loads(path.read_text())
    spoil(content)
    spoilt = tmp_path / "spoilt.json"
    spoilt.write_text(json.dumps(content))
    findings, _ = check_annotation_file(spoilt, images, COCO)

    assert any(f.level == level and re.search(words, f.text) for f in findings), findings


def test_what_is_wrong_with_detections_is_named(people, tmp_path):
    path, _ = files(people)
    box = {
        "image_id": json.loads(path.read_text())["images"][0]["id"],
        "category_id": 1,
        "bbox": [1, 1, 5, 5],
        "score": 1,
    }
    entries = [box, box | {"image_id": -1}, box | {"bbox": [1, 1, 0, 5]}, box | {"category_id": 3}, {"image_id": 1}]
    (tmp_path / "d.json").write_text(json.dumps(entries))
    texts = " ".join(f.text for f in check_detection_file(tmp_path / "d.json", path)[0])
    for words in (
        "1 entries lack",
        "1 boxes are not of category 1",
        "1 boxes are on images of another",
        "1 boxes have no",
    ):
        assert words in texts
    (tmp_path / "e.json").write_text("[]")
    assert "no box of a person" in check_detection_file(tmp_path / "e.json", path)[0][0].text


def test_whatever_stands_in_the_files_is_told_not_raised(people, tmp_path):
    path, images = files(people)
    rng = np.random.default_rng(0)
    junk = [None, "x", [], {}, -1, 0, True, 1e400, [None] * 4, ["a"] * 51, 2**70]
    for _ in range(150):
        content = json.loads(path.read_text())
        for _ in range(rng.integers(1, 4)):
            rows = content[("images", "annotations", "categories")[rng.integers(3)]]
            row = rows[rng.integers(len(rows))]
            row[list(row)[rng.integers(len(row))]] = junk[rng.integers(len(junk))]
        (tmp_path / "a.json").write_text(json.dumps(content))
        check_annotation_file(tmp_path / "a.json", images, COCO)
        boxes = json.loads((people / "person_detection_results/val2017_person_detections.json").read_text())
        key = ("image_id", "category_id", "bbox", "score")[rng.integers(4)]
        boxes[rng.integers(len(boxes))][key] = junk[rng.integers(len(junk))]
        (tmp_path / "d.json").write_text(json.dumps(boxes))
        check_detection_file(tmp_path / "d.json", tmp_path / "a.json")
