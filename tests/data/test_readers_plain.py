"""Which persons of a file are taken, and with what, against a plain walk through it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from psa_pose.data.formats.coco import ground_truth_persons, read_annotations
from psa_pose.data.formats.detections import detected_persons
from psa_pose.data.formats.mpii import read_head_truth, read_mpii
from psa_pose.skeleton import MPII, make_skeleton

TWO = make_skeleton({"name": "two", "names": ["left_eye", "right_eye"]}, "two")
few = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 10**6)


def write(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("plain")


def annotation_file(rng, folder):
    ids = rng.permutation(50)[:4].tolist()
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 60 + i, "height": 50 + i} for i in ids]
    annotations = []
    for number in range(int(rng.integers(1, 9))):
        visible = rng.integers(0, 3, 2)
        x, y = rng.integers(1, 30, 2)
        points = [[int(x + 3 * k), int(y + k), int(visible[k])] if visible[k] else [0, 0, 0] for k in range(2)]
        annotations.append(
            {"id": 10 + number, "image_id": int(rng.choice(ids)), "category_id": 1, "iscrowd": int(rng.random() < 0.2),
             "bbox": [int(x) - 2, int(y) - 2, int(rng.choice([12, 40, 200])), int(rng.choice([12, 40, 200]))],
             "area": int(rng.choice([0, 1, 90])), "keypoints": np.ravel(points).tolist(),
             "num_keypoints": int((visible > 0).sum())}
        )  # fmt: skip
    categories = [{"id": 1, "name": "person", "keypoints": list(TWO.names), "skeleton": []}]
    return write(folder / "a.json", {"images": images, "annotations": annotations, "categories": categories})


@few
@given(seeds)
def test_annotated_persons_one_by_one(folder, seed):
    path = annotation_file(np.random.default_rng(seed), folder)
    content = json.loads(path.read_text())
    persons, problems = ground_truth_persons(read_annotations(path, TWO), TWO)
    row, missing = 0, 0
    names = [image["file_name"].encode() for image in content["images"]]
    assert persons.image_names.tolist() == names
    for a in content["annotations"]:
        points = np.array(a["keypoints"]).reshape(2, 3)
        if a["iscrowd"] or not (points[:, 2] > 0).any():
            continue
        if a["area"] <= 0:
            missing += 1
            continue
        (place,) = [i for i, image in enumerate(content["images"]) if image["id"] == a["image_id"]]
        image, (x, y, w, h) = content["images"][place], a["bbox"]
        x1, y1 = max(x, 0), max(y, 0)
        x2, y2 = min(image["width"] - 1, x1 + w - 1), min(image["height"] - 1, y1 + h - 1)
        assert persons.image[row] == place
        assert persons.annotation_ids[row] == a["id"]
        assert persons.boxes[row].tolist() == [x1, y1, x2 - x1, y2 - y1]
        assert persons.joints[row].tolist() == points[:, :2].tolist()
        # COCO's 1 (hidden) and 2 (visible) are both labelled.
        assert persons.visible[row].tolist() == (points[:, 2] > 0).tolist()
        assert persons.scores[row] == 1
        row += 1
    assert (len(persons), len(problems)) == (row, missing)


@few
@given(seeds, st.sampled_from([0.0, 0.5, 0.75]))
def test_detected_persons_one_by_one(folder, seed, least):
    rng = np.random.default_rng(seed)
    path = annotation_file(rng, folder)
    annotations = read_annotations(path, TWO)
    ids = [image["id"] for image in annotations.content["images"]]
    found = [
        {"image_id": int(rng.choice(ids)), "category_id": int(rng.choice([1, 1, 1, 2])), "score": float(score),
         "bbox": [*rng.integers(0, 40, 2).tolist(), *rng.choice([0, 5, 9], 2, p=[0.1, 0.5, 0.4]).tolist()]}
        for score in rng.choice([0.25, 0.5, 0.75, 0.9], rng.integers(1, 12))
    ]  # fmt: skip
    if not any(d["category_id"] == 1 and d["score"] >= least for d in found):
        return
    persons, problems = detected_persons(write(folder / "d.json", found), annotations, TWO, least)
    wanted = [d for i in ids for d in found if d["image_id"] == i and d["category_id"] == 1 and d["score"] >= least]
    usable = [d for d in wanted if min(d["bbox"][2:]) > 0]
    assert persons.boxes.tolist() == [d["bbox"] for d in usable]
    assert persons.scores.tolist() == [d["score"] for d in usable]
    assert persons.image_ids[persons.image].tolist() == [d["image_id"] for d in usable]
    assert len(problems) == len(wanted) - len(usable)
    assert set(persons.annotation_ids.tolist()) <= {-1}
    assert not persons.visible.any()


@few
@given(seeds)
def test_mpii_persons_and_heads_one_by_one(folder, seed):
    rng = np.random.default_rng(seed)
    entries = []
    for _ in range(5):
        centre = [-1.0, -1.0] if rng.random() < 0.2 else rng.uniform(50, 200, 2).round(1).tolist()
        entries.append(
            {"image": f"{rng.integers(3)}.jpg", "center": centre, "scale": round(float(rng.uniform(0.5, 3)), 2),
             "joints": rng.uniform(1, 300, (16, 2)).round(1).tolist(), "joints_vis": rng.integers(0, 2, 16).tolist()}
        )  # fmt: skip
    _, persons, problems = read_mpii(write(folder / "m.json", entries), MPII)
    usable = [(n, e) for n, e in enumerate(entries, 1) if e["center"][0] != -1]
    assert len(problems) == len(entries) - len(usable)
    names = list(dict.fromkeys(e["image"] for e in entries))
    for row, (number, entry) in enumerate(usable):
        (x, y), s = entry["center"], entry["scale"]
        # Pixels count from 1; the square of side 200 scale around a centre that lies 15 scale lower.
        expected = [x - 1 - 100 * s, y - 1 + 15 * s - 100 * s, 200 * s, 200 * s]
        np.testing.assert_allclose(persons.boxes[row], expected)
        np.testing.assert_allclose(persons.joints[row], np.array(entry["joints"]) - 1, atol=1e-4)
        assert persons.visible[row].tolist() == entry["joints_vis"]
        assert persons.annotation_ids[row] == number
        assert persons.image_names[persons.image[row]].decode() == entry["image"]
    assert [name.decode() for name in persons.image_names] == names
    joints, missing = rng.uniform(1, 300, (16, 2, 4)), rng.integers(0, 2, (16, 4))
    boxes = np.stack([rng.uniform(0, 50, (2, 4)), rng.uniform(60, 90, (2, 4))])
    savemat(folder / "gt.mat", {"pos_gt_src": joints, "jnt_missing": missing, "headboxes_src": boxes})
    heads = read_head_truth(folder / "gt.mat", MPII)
    for n in range(4):
        np.testing.assert_allclose(heads.joints[n], joints[:, :, n] - 1)
        assert heads.visible[n].tolist() == (missing[:, n] == 0).tolist()
        assert heads.head_sizes[n] == pytest.approx(0.6 * np.hypot(*(boxes[1, :, n] - boxes[0, :, n])))
