import copy
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
        (lambda c: each(c, category_id=2), "error", "category .* is used but not listed"),
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


def test_facts_that_contradict_each_other_are_named(people, tmp_path):
    """Those that a run compares at its start: the check says them too, and of all pictures."""
    path, images = files(people)
    content = json.loads(path.read_text())
    detections = json.loads((people / "person_detection_results/val2017_person_detections.json").read_text())

    def checked(changed):
        (tmp_path / "a.json").write_text(json.dumps(changed))
        return " ".join(f"{f.level}: {f.text}" for f in check_annotation_file(tmp_path / "a.json", images, COCO)[0])

    doubled = copy.deepcopy(content)
    for image in doubled["images"]:
        image.update(width=2 * image["width"], height=2 * image["height"])
    assert re.search(
        r"error: image .* pixels, the annotations say 384 x 320; the labels were made at 2 times", checked(doubled)
    )
    corners = copy.deepcopy(content)
    for a in corners["annotations"]:
        x, y, w, h = a["bbox"]
        a["bbox"] = [x, y, x + w, y + h]
    assert "as corners x1, y1, x2, y2" in checked(corners)
    again = copy.deepcopy(content)
    again["images"].append(again["images"][0] | {"id": 99999})
    assert "warning: 1 image files are listed more than once" in checked(again)

    (tmp_path / "d.json").write_text(json.dumps([d | {"category_id": 2} for d in detections]))
    texts = " ".join(f.text for f in check_detection_file(tmp_path / "d.json", path)[0])
    assert f"all {len(detections)} boxes are of category 2; 1 is read" in texts
    (tmp_path / "d.json").write_text(json.dumps([d | {"score": 90.0} for d in detections] * 2))
    findings, counts = check_detection_file(tmp_path / "d.json", path)
    texts = " ".join(f.text for f in findings)
    assert "score outside 0 to 1 (90 to 90)" in texts
    assert "are another once more" in texts
    assert re.fullmatch(r"they find \d+\.\d % of \d+ annotated persons at IoU 0.5", counts[1])


def test_real_photographs_have_no_findings(coco_mini):
    for split in ("train2017", "val2017"):
        path = coco_mini / f"annotations/person_keypoints_{split}.json"
        assert check_annotation_file(path, coco_mini / split, COCO)[0] == []
    found = coco_mini / "person_detection_results/simulated_val2017_person_detections.json"
    findings, counts = check_detection_file(found, path)
    assert [f.text for f in findings] == ["19 boxes are not of category 1 (person) and are not used"]
    assert counts[1] == "they find 100.0 % of 68 annotated persons at IoU 0.5"
