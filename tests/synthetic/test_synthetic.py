"""The synthetic data set: what its files promise, and that the pictures agree with the labels."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO as CocoFile
from pycocotools.cocoeval import COCOeval

from psa_pose.errors import DataError
from psa_pose.skeleton import COCO
from psa_pose.synthetic.body import _limb_direction, rotation
from psa_pose.synthetic.dataset import _detection_path, _simulate_detections, annotation_path, generate
from psa_pose.synthetic.paint import Canvas
from psa_pose.synthetic.person import OWNER_STRIDE, Person, draw_person, label, sample_person
from psa_pose.synthetic.scene import _rle, draw_image

SIZES = {"train2017": 6, "val2017": 5}
SIZE = (160, 128)


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic") / "data"
    generate(root, SIZES, seed=3, image_size=SIZE, workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def pictures():
    return [draw_image(0, "train2017", index) for index in range(80)]


def blank(height: int = 200, width: int = 200) -> Canvas:
    return Canvas(
        np.full((height, width, 3), 255, np.float32),
        np.zeros((height, width), np.int32),
        np.zeros((height, width), np.float32),
        np.array([0, -0.6, 0.8], np.float32),
    )


def person_at(seed: int, yaw: float, height: float = 130) -> Person:
    person = sample_person(np.random.default_rng(seed), height, yaw)
    return Person(person.body, person.look, height, np.array([100.0, 110.0]))


def test_files_do_not_depend_on_the_number_of_workers(made, tmp_path):
    generate(tmp_path / "two", SIZES, seed=3, image_size=SIZE, workers=2, progress=False)
    assert contents(tmp_path / "two") == contents(made)


WAITING = """
import os, signal
from functools import partial
from psa_pose.synthetic.dataset import in_order

if __name__ == "__main__":
    drawn = in_order(partial(pow, 0), 9, 2)
    next(drawn)
    print("drawing", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_process_that_is_killed(tmp_path):
    (tmp_path / "draws.py").write_text(WAITING)
    # Who reads to the end of what workers inherit reads until the last of them is gone.
    done = subprocess.run([sys.executable, tmp_path / "draws.py"], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.returncode) == ("drawing\n", -signal.SIGKILL), done.stderr


def test_another_seed_split_or_index_is_another_picture():
    image, people = draw_image(0, "train2017", 0, SIZE)
    again, same = draw_image(0, "train2017", 0, SIZE)
    assert np.array_equal(image, again)
    assert people == same
    for other in ((1, "train2017", 0), (0, "val2017", 0), (0, "train2017", 1)):
        assert not np.array_equal(image, draw_image(*other, SIZE)[0])


def test_layout_and_ids(made):
    seen: set[int] = set()
    for split, count in SIZES.items():
        content = read(annotation_path(made, split))
        ids = [image["id"] for image in content["images"]]
        assert len(ids) == count
        assert not seen & set(ids)
        seen |= set(ids)
        for image in content["images"]:
            assert image["file_name"] == f"{image['id']:012d}.jpg"
            pixels = cv2.imread(str(made / split / image["file_name"]))
            assert pixels.shape == (image["height"], image["width"], 3) == (SIZE[1], SIZE[0], 3)
        assert {a["image_id"] for a in content["annotations"]} <= set(ids)
        assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"])
        (category,) = content["categories"]
        assert (category["id"], category["name"], tuple(category["keypoints"])) == (1, "person", COCO.names)
        assert [[a - 1, b - 1] for a, b in category["skeleton"]] == [list(pair) for pair in COCO.limb_pairs]


def test_the_same_request_draws_nothing_again(made):
    image = next((made / "train2017").iterdir())
    before = image.read_bytes()
    image.write_bytes(b"touched")
    generate(made, SIZES, seed=3, image_size=SIZE, workers=1, progress=False)
    assert image.read_bytes() == b"touched"
    image.write_bytes(before)


def test_another_request_replaces_and_leaves_what_is_not_ours(tmp_path):
    root = tmp_path / "data"
    generate(root, {"train2017": 2, "old": 2}, image_size=SIZE, workers=1, progress=False)
    (root / "old" / "notes.txt").write_text("mine")
    generate(root, {"train2017": 1}, image_size=SIZE, workers=1, progress=False)
    files = set(contents(root))
    assert "old/notes.txt" in files
    assert {name for name in files if name.endswith(".jpg")} == {"train2017/000000000001.jpg"}
    assert not any("old" in name for name in files - {"old/notes.txt"})


def test_unfinished_data_is_made_again(made, tmp_path, monkeypatch):
    root = tmp_path / "data"
    with monkeypatch.context() as patch:
        patch.setattr("psa_pose.synthetic.dataset._simulate_detections", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            generate(root, SIZES, seed=3, image_size=SIZE, workers=1, progress=False)
    assert not (root / "synthetic.json").exists()
    assert any(root.rglob("*.jpg"))
    generate(root, SIZES, seed=3, image_size=SIZE, workers=1, progress=False)
    assert contents(root) == contents(made)


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"1")
    (tmp_path / "synthetic.json").write_text('{"sizes": {"train2017": 1}}')
    before = contents(tmp_path)
    with pytest.raises(DataError, match="not made by the synthetic data generator"):
        generate(tmp_path, {"train2017": 1}, workers=1, progress=False)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "wrong", [{"sizes": {}}, {"sizes": {"a/b": 1}}, {"sizes": {"a": 0}}, {"image_size": (20, 90)}, {"people": (3, 2)}]
)
def test_senseless_parameters_are_refused(tmp_path, wrong):
    with pytest.raises(DataError, match="synthetic data"):
        generate(tmp_path / "data", **{"sizes": {"train2017": 1}, "workers": 1, "progress": False, **wrong})
    assert not (tmp_path / "data").exists()


def test_annotations_are_valid(pictures):
    for image, people in pictures:
        height, width = image.shape[:2]
        for person in people:
            keypoints = np.array(person["keypoints"], float).reshape(17, 3)
            x, y, v = keypoints.T
            assert set(v) <= {0, 1, 2}
            assert person["num_keypoints"] == (v > 0).sum()
            assert (keypoints[v == 0] == 0).all()
            assert ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).all()
            left, top, w, h = person["bbox"]
            assert 0 <= left < left + w <= width
            assert 0 <= top < top + h <= height
            assert 0 < person["area"] <= w * h
            seen = keypoints[v == 2]
            # A joint that is seen lies on the silhouette, up to the pixel its place is rounded to.
            assert (seen[:, 0] >= left - 1.5).all()
            assert (seen[:, 0] <= left + w + 0.5).all()
            assert (seen[:, 1] >= top - 1.5).all()
            assert (seen[:, 1] <= top + h + 0.5).all()


def test_people_are_mostly_whole_and_sizes_vary(pictures):
    people = [person for _, annotations in pictures for person in annotations if not person["iscrowd"]]
    assert len(people) > 60
    assert np.mean([person["num_keypoints"] >= 13 for person in people]) > 0.8
    areas = np.array([person["area"] for person in people])
    assert (areas < 96**2).any()
    assert (areas > 96**2).any()
    flags = np.array([person["keypoints"][2::3] for person in people])
    assert (flags == 2).mean() > 0.6
    assert (flags == 1).any(axis=0).all()  # every joint is hidden somewhere


def test_crowds_are_marked():
    drawn = (draw_image(0, "val2017", index, SIZE)[1] for index in range(60))
    crowds = [person for people in drawn for person in people if person["iscrowd"]]
    assert crowds
    for crowd in crowds:
        assert crowd["num_keypoints"] == 0 == sum(crowd["keypoints"])
        assert sum(crowd["segmentation"]["counts"]) == SIZE[0] * SIZE[1]
        assert sum(crowd["segmentation"]["counts"][1::2]) == crowd["area"]


@pytest.mark.parametrize("mask", [[[0, 1, 1], [0, 0, 1]], [[1, 0, 1], [1, 0, 0]], [[1, 1], [1, 1]]])
def test_run_lengths_go_down_the_columns(mask):
    counts = _rle(np.array(mask, bool))["counts"]
    values = np.repeat(np.arange(len(counts)) % 2, counts)
    assert values.reshape(np.array(mask).T.shape).T.tolist() == mask


def test_ground_truth_scores_one_in_pycocotools(made):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = CocoFile(str(annotation_path(made, "train2017")))
        people = [a for a in truth.dataset["annotations"] if a["num_keypoints"]]
        results = [{k: a[k] for k in ("image_id", "category_id", "keypoints")} | {"score": 0.9} for a in people]
        shifted = [{**r, "keypoints": (np.array(r["keypoints"], float) + 60).tolist()} for r in results]
        scores = []
        for predictions in (results, shifted):
            evaluation = COCOeval(truth, truth.loadRes(predictions), "keypoints")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            scores.append(evaluation.stats[0])
    assert scores[0] == pytest.approx(1.0)
    assert scores[1] < 0.2


def test_detections(made):
    for split in SIZES:
        ids = {image["id"] for image in read(annotation_path(made, split))["images"]}
        detections = read(_detection_path(made, split))
        assert detections
        for detection in detections:
            assert set(detection) == {"image_id", "category_id", "bbox", "score"}
            assert detection["image_id"] in ids
            assert detection["category_id"] == 1
            assert 0 < detection["score"] < 1
            x, y, w, h = detection["bbox"]
            assert min(x, y) >= 0
            assert min(w, h) >= 1.99
            assert x + w <= SIZE[0] + 0.02
            assert y + h <= SIZE[1] + 0.02


def test_good_boxes_score_more_than_false_ones():
    person = {"iscrowd": 0, "area": 9000.0, "bbox": [80.0, 30.0, 90.0, 190.0], "keypoints": [100, 100, 2] * 17}
    boxes = [b for i in range(200) for b in _simulate_detections(np.random.default_rng(i), [person], (320, 256))]
    near = [np.abs(np.array(b["bbox"]) - person["bbox"]).max() < 15 for b in boxes]
    scores = np.array([b["score"] for b in boxes])
    assert 150 < sum(near) < len(boxes)  # some false alarms and duplicates
    assert np.median(scores[near]) > 0.8 > 0.5 > np.median(scores[~np.array(near)])


def test_rotations_and_limbs_follow_the_body_axes():
    assert np.allclose(_limb_direction(0, 0, 1), [0, -1, 0])
    assert np.allclose(_limb_direction(90, 0, 1), [0, 0, 1])
    assert np.allclose(_limb_direction(0, 90, 1), [1, 0, 0])
    # Turned by 90 degrees a body faces the right of the picture and shows its right side.
    assert np.allclose(rotation(1, 90) @ [0, 0, 1], [1, 0, 0])
    assert (rotation(1, 90) @ [-1, 0, 0])[2] > 0.99


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("yaw", [0, 180])
def test_front_and_back_tell_left_from_right(seed, yaw):
    person = person_at(seed, yaw)
    canvas = blank()
    draw_person(canvas, person, 1)
    place = {name: person.pixel(point) for name, point in person.body.joints.items()}
    up, left = place["neck"] - place["pelvis"], place["left_shoulder"] - place["right_shoulder"]
    # Whatever the tilt in the picture: with the chest towards the viewer, left is clockwise from up.
    clockwise = up[0] * left[1] - up[1] * left[0] > 0
    assert clockwise == (person.body.trunk[2, 2] > 0)
    facing = person.body.head[2, 2]
    if abs(person.body.trunk[2, 2]) > 0.5:
        assert clockwise == (yaw == 0)
    if abs(facing) > 0.4:
        assert (label(person, canvas.owner, 1)[COCO.names.index("nose"), 2] > 0) == (facing > 0)


def test_a_face_is_seen_from_the_front_only():
    front, back = person_at(5, 0), person_at(5, 180)
    whites = []
    for person in (front, back):
        canvas = blank()
        canvas.image[:] = 0
        draw_person(canvas, person, 1)
        x, y = np.round(person.pixel(person.body.joints["head"])).astype(int)
        patch = canvas.image[y - 9 : y + 10, x - 9 : x + 10]
        whites.append(np.abs(patch - person.look.face.hair).mean())
    # From behind the head is all hair.
    assert whites[0] > 1.5 * whites[1]


def test_a_nearer_person_hides_joints():
    far, near = person_at(1, 0), person_at(2, 0, height=190)
    canvas = blank()
    draw_person(canvas, far, 1)
    alone = label(far, canvas.owner, 1)
    draw_person(canvas, near, 2)
    behind = label(far, canvas.owner, 1)
    assert np.array_equal(alone[:, :2], behind[:, :2])
    hidden = (alone[:, 2] == 2) & (behind[:, 2] == 1)
    assert hidden.sum() >= 4
    for x, y, _ in behind[hidden]:
        rows, columns = slice(int(y) - 1, int(y) + 3), slice(int(x) - 1, int(x) + 3)
        assert (canvas.owner[rows, columns] // OWNER_STRIDE == 2).any()


def test_joints_outside_the_picture_are_not_labelled():
    person = person_at(1, 0)
    whole, cut = blank(), blank(height=115)
    for canvas in (whole, cut):
        draw_person(canvas, person, 1)
    before, after = label(person, whole.owner, 1), label(person, cut.owner, 1)
    below = before[:, 1] > 114
    assert below.any()
    assert (after[below] == 0).all()
    assert np.array_equal(before[~below], after[~below])


def test_the_far_side_of_a_turned_body_is_hidden():
    def seen(yaw: float) -> dict[str, float]:
        flags = []
        for seed in range(30):
            person, canvas = person_at(seed, yaw), blank()
            draw_person(canvas, person, 1)
            flags.append(label(person, canvas.owner, 1)[:, 2] == 2)
        return dict(zip(COCO.names, np.mean(flags, axis=0), strict=True))

    front, turned, profile = seen(0), seen(65), seen(90)  # turned to the right of the picture: the left side is far
    assert front["left_shoulder"] > 0.8
    assert turned["left_shoulder"] < 0.2
    assert turned["left_hip"] < 0.2
    for joint in ("shoulder", "elbow", "hip", "knee"):
        assert profile[f"right_{joint}"] > 0.7
        assert profile[f"left_{joint}"] < profile[f"right_{joint}"] - 0.3
