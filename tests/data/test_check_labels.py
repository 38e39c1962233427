"""Labels and boxes that contradict each other are named at the start of a run; those that agree are not."""

import json

import numpy as np
import pytest

from psa_pose.data.checks.boxes import check_boxes, detector_recall
from psa_pose.data.checks.labels import check_labels
from psa_pose.data.formats.coco import labels_of, read_annotations
from psa_pose.data.formats.detections import detected_persons
from psa_pose.skeleton import COCO
from tests.data.people import consistent, detections_of, move_points

SIZES = [(640, 480), (480, 640), (500, 375), (427, 640)] * 5


def each(content, change):
    """The content with every annotation changed in place, its image beside it."""
    images = {image["id"]: image for image in content["images"]}
    for annotation in content["annotations"]:
        change(annotation, images[annotation["image_id"]])
    return content


def box(function):
    return lambda c: each(
        c, lambda a, i: a.update(bbox=[float(v) for v in function(*a["bbox"], i["width"], i["height"])])
    )


def points(function):
    return lambda c: each(c, lambda a, i: move_points(a, lambda p: function(p, i)))


def both(factor):
    return lambda c: points(lambda p, i: p * factor)(
        box(lambda x, y, w, h, W, H: [factor * v for v in (x, y, w, h)])(c)
    )


def labels(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    return labels_of(read_annotations(path, COCO), COCO)


def size(image):
    return np.array([image["width"], image["height"]])


BROKEN = {
    "corners": (
        box(lambda x, y, w, h, W, H: (x, y, x + w, y + h)),
        "error",
        "boxes lie on their image and hold their own keypoints; as corners x1, y1, x2, y2",
    ),
    "centres": (box(lambda x, y, w, h, W, H: (x + w / 2, y + h / 2, w, h)), "error", "as a centre, width and height"),
    "exchanged box": (box(lambda x, y, w, h, W, H: (y, x, h, w)), "error", "as y, x, height, width"),
    "fractions in the box": (
        box(lambda x, y, w, h, W, H: (x / W, y / H, w / W, h / H)),
        "error",
        "as fractions of",
    ),
    "yolo": (
        box(lambda x, y, w, h, W, H: ((x + w / 2) / W, (y + h / 2) / H, w / W, h / H)),
        "error",
        "as fractions of the image, a centre, width and height",
    ),
    "percent": (
        box(lambda x, y, w, h, W, H: (100 * x / W, 100 * y / H, 100 * w / W, 100 * h / H)),
        "error",
        "as percent",
    ),
    "points as fractions": (points(lambda p, i: p / size(i)), "error", "fractions of the image? Write pixels"),
    "points as percent": (points(lambda p, i: 100 * p / size(i)), "error", "as percent of the image the keypoints of"),
    "points exchanged": (points(lambda p, i: p[:, ::-1]), "error", "as y, x the keypoints of"),
    "points at twice the scale": (points(lambda p, i: 2 * p), "error", "as 2 times as large as the boxes' pixels"),
    "points at half the scale": (points(lambda p, i: p / 2), "error", "as 0.5 times as large"),
    "points moved": (points(lambda p, i: np.add(p, [150, 0])), "error", "as pixels moved by 1"),
    "all fractions": (
        lambda c: points(lambda p, i: p / size(i))(box(lambda x, y, w, h, W, H: (x / W, y / H, w / W, h / H))(c)),
        "error",
        "fractions of the image? Write pixels",
    ),
    "labels at twice the size": (both(2), "error", "labelled keypoints on their image"),
    "labels at half the size": (both(0.5), "warning", "were the labels made on smaller pictures?"),
    "areas in other units": (lambda c: each(c, lambda a, i: a.update(area=a["area"] / 1e4)), "error", "2 to 100 % of"),
    "missing points labelled": (
        lambda c: each(c, lambda a, i: a.update(keypoints=[0, 0, 2, *a["keypoints"][3:]], num_keypoints=17)),
        "error",
        "are labelled (v > 0) at exactly 0, 0",
    ),
    "persons twice": (
        lambda c: c | {"annotations": c["annotations"] + [a | {"id": 1000 + a["id"]} for a in c["annotations"][:4]]},
        "warning",
        "4 persons are annotated more than once (annotations 1001, 1002, 1003, 1004)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("seed", range(3))
def test_what_contradicts_itself_is_named(tmp_path, name, seed):
    spoil, level, words = BROKEN[name]
    found = check_labels(labels(tmp_path, spoil(consistent(SIZES, seed))))
    assert any(f.level == level and words in f.text for f in found), found


@pytest.mark.parametrize("seed", range(20))
def test_what_agrees_is_not_named(tmp_path, seed):
    count = np.random.default_rng(seed).integers(1, len(SIZES) + 1)
    assert check_labels(labels(tmp_path, consistent(SIZES[:count], seed))) == []


@pytest.mark.parametrize(("part", "level"), [(0.05, None), (0.2, "warning"), (0.6, "error")])
def test_the_share_decides_and_the_worst_are_named(tmp_path, part, level):
    content = consistent(SIZES * 3, 0)
    wrong = content["annotations"][: int(part * len(content["annotations"]))]
    for number, annotation in enumerate(wrong, start=1):
        move_points(annotation, lambda p, n=number: p + 50 * n + 600)
    found = [f for f in check_labels(labels(tmp_path, content)) if "in their box" in f.text]
    assert [f.level for f in found] == ([level] if level else [])
    if level:
        ids = [a["id"] for a in wrong[::-1][:5]]
        assert f"not annotations {', '.join(map(str, ids))}" in found[0].text


def test_real_annotations_agree(coco_mini):
    for split in ("train2017", "val2017"):
        path = coco_mini / f"annotations/person_keypoints_{split}.json"
        assert check_labels(labels_of(read_annotations(path, COCO), COCO)) == []


def test_real_faults_are_found(coco_mini):
    studio = coco_mini.parent / "studio/annotations"
    if not studio.is_dir():
        pytest.skip(f"no studio photographs in {studio}")
    said = [
        check_labels(labels_of(read_annotations(studio / f"{split}.json", COCO), COCO)) for split in ("train", "val")
    ]
    texts = [finding.text for findings in said for finding in findings]
    assert [text.split(" of their own")[0] for text in texts] == [
        "57 boxes leave out 4 or more",
        "11 boxes leave out 4 or more",
    ]
    assert [
        "10 of them lie beside their person" in texts[0],
        "3 of them lie beside their person (annotations 926, 969, 991)" in texts[1],
    ] == [True, True]


# Detections.


def found_and_labels(tmp_path, content, detections):
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "d.json").write_text(json.dumps(detections))
    annotations = read_annotations(tmp_path / "a.json", COCO)
    return detected_persons(tmp_path / "d.json", annotations, COCO)[0], labels_of(annotations, COCO)


def boxes(function):
    def change(detections, content):
        sizes = {i["id"]: (i["width"], i["height"]) for i in content["images"]}
        return [d | {"bbox": [float(v) for v in function(*d["bbox"], *sizes[d["image_id"]])]} for d in detections]

    return change


WRONG_BOXES = {
    "corners": (
        boxes(lambda x, y, w, h, W, H: (x, y, x + w, y + h)),
        "error",
        "as corners x1, y1, x2, y2 they would",
    ),
    "fractions": (
        boxes(lambda x, y, w, h, W, H: (x / W, y / H, w / W, h / H)),
        "error",
        "as fractions of the image",
    ),
    "percent": (
        boxes(lambda x, y, w, h, W, H: (100 * x / W, 100 * y / H, 100 * w / W, 100 * h / H)),
        "error",
        "percent",
    ),
    "another numbering": (
        lambda d, c: [e | {"image_id": 1 + (e["image_id"] + 2) % 20} for e in d],
        "warning",
        "annotated persons at IoU 0.5; are they of these images, at this size?",
    ),
    "scores of 90": (
        lambda d, c: [e | {"score": 100 * e["score"]} for e in d],
        "warning",
        "boxes have a score outside 0 to 1",
    ),
    "off the picture": (
        lambda d, c: [*d, d[0] | {"bbox": [5000, 10, 30, 40]}],
        "warning",
        "1 of 44 boxes lie off their picture, such as [5000.0, 10.0, 30.0, 40.0] on image 1",
    ),
    "each three times": (lambda d, c: d * 3, "warning", "86 of 129 boxes are another once more"),
}


@pytest.mark.parametrize("name", WRONG_BOXES)
def test_what_is_wrong_with_detections_is_named(tmp_path, name):
    spoil, level, words = WRONG_BOXES[name]
    content = consistent(SIZES, 1)
    found, truth = found_and_labels(tmp_path, content, spoil(detections_of(content, 1), content))
    findings = check_boxes(found, truth)
    assert any(f.level == level and words in f.text for f in findings), findings
    if name in ("corners", "fractions"):
        alone = check_boxes(found, None)
        assert any(f.level == "error" for f in alone), alone


@pytest.mark.parametrize("seed", range(10))
def test_good_detections_are_not_named(tmp_path, seed):
    content = consistent(SIZES, seed)
    found, truth = found_and_labels(tmp_path, content, detections_of(content, seed))
    assert (check_boxes(found, truth), check_boxes(found, None)) == ([], [])
    assert detector_recall(found, truth) == 1


def test_recall_is_that_of_a_plain_count(tmp_path):
    content = consistent(SIZES, 5, each=(0, 4))
    kept = detections_of(content, 5)
    rng = np.random.default_rng(5)
    kept = [d | {"bbox": [v * f for v, f in zip(d["bbox"], rng.uniform(0.7, 1.4, 4), strict=True)]} for d in kept]
    found, truth = found_and_labels(tmp_path, content, [d for d in kept if rng.random() < 0.8])

    def overlap(a, b):
        w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
        h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
        shared = max(w, 0) * max(h, 0)
        return shared / (a[2] * a[3] + b[2] * b[3] - shared)

    hits = [
        any(overlap(b, f) >= 0.5 for f, j in zip(found.boxes, found.image, strict=True) if j == i)
        for b, i in zip(truth.boxes, truth.image, strict=True)
    ]
    assert 0.2 < np.mean(hits) < 0.95
    assert detector_recall(found, truth) == np.mean(hits)
