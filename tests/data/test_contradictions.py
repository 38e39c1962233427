"""Small data sets that agree with themselves, with one fact broken: never a silent wrong answer, never a traceback.

More cases: FUZZ_CASES=5000 python -m pytest tests/data/test_contradictions.py
"""

import copy
import json
import os
import random
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psa_pose.config import load_config
from psa_pose.data.build import build_test_sets, build_train_set
from psa_pose.dataset_tools.check_files import check_annotation_file
from psa_pose.errors import PsaPoseError
from psa_pose.skeleton import COCO
from tests.conftest import REPOSITORY
from tests.data.people import consistent, detections_of, move_points
from tests.data.photographs import photograph, pixels

CASES = int(os.environ.get("FUZZ_CASES", 300))
fuzz = settings(max_examples=CASES, deadline=20_000, suppress_health_check=list(HealthCheck), print_blob=True)
SIZES = [(240, 180), (180, 240), (200, 150), (160, 220), (320, 200), (150, 260), (256, 192), (210, 280)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Pictures of the sizes above."""
    folder = tmp_path_factory.mktemp("contradictions")
    (folder / "images").mkdir()
    for number, size in enumerate(SIZES, start=1):
        (folder / "images" / f"{number}.png").write_bytes(photograph(pixels(*size), 1, ".png"))
    return folder


@cache
def base_config(root):
    words = ["DATASET.ROOT", root, "LOADER.WORKERS", 0, "DEVICE", "cpu"]
    for split in ("TRAIN", "TEST"):
        words += [f"DATASET.{split}_ANNOTATIONS", "a.json", f"DATASET.{split}_IMAGES", "images"]
    words += ["DATASET.TEST_DETECTIONS", "d.json"]
    return load_config(REPOSITORY / "configs/synthetic/quickstart.yaml", [str(word) for word in words])


def answer_of(root, content, detections) -> tuple[str, list[str]]:
    """The error that ends a run ("" for none) and the lines that it says."""
    (root / "a.json").write_text(json.dumps(content))
    (root / "d.json").write_text(json.dumps(detections))
    said: list[str] = []
    try:
        cfg = base_config(root)
        train = build_train_set(cfg, COCO, "unbiased", said.append)
        tests = build_test_sets(cfg, COCO, "unbiased", said.append, "auto")
        for dataset in (train, *(test.dataset for test in tests)):
            for row in range(0, len(dataset), 3):
                sample = dataset[(0, row)]
                assert np.isfinite(sample.matrix).all()
                assert np.isfinite(sample.joints).all()
                if sample.problem:
                    return sample.problem, said
    except PsaPoseError as error:
        return one_sentence(error), said
    return "", said


def one_sentence(error: PsaPoseError) -> str:
    assert str(error).strip()
    assert "Traceback" not in str(error)
    return str(error)


def warnings(said):
    return [line for line in said if "warning" in line or "are not read" in line]


def size_of(content, annotation):
    image = next(i for i in content["images"] if i["id"] == annotation["image_id"])
    return np.array([image["width"], image["height"]], float)


def boxes(change):
    def spoil(content, detections, rng):
        for a in content["annotations"]:
            a["bbox"] = [float(v) for v in change(np.array(a["bbox"]), size_of(content, a), rng)]

    return spoil


def points(change):
    def spoil(content, detections, rng):
        draw = rng.random()
        for a in content["annotations"]:
            move_points(a, lambda p, a=a: change(p, size_of(content, a), draw))

    return spoil


def found(change):
    def spoil(content, detections, rng):
        draw = rng.random()
        for d in detections:
            d["bbox"] = [float(v) for v in change(np.array(d["bbox"]), size_of(content, d), draw)]

    return spoil


def corners(box, size, _):
    return [*box[:2], *(box[:2] + box[2:])]


def centres(box, size, _):
    return [*(box[:2] + box[2:] / 2), *box[2:]]


def fractions(box, size, _):
    return box / np.tile(size, 2)


def each(key, value):
    """One value in one annotation, or in a random one, replaced."""

    def spoil(content, detections, rng):
        rng.choice(content["annotations"])[key] = value(rng) if callable(value) else value

    return spoil


def one_keypoint(part, value):
    def spoil(content, detections, rng):
        rng.choice(content["annotations"])["keypoints"][3 * rng.randrange(17) + part] = value

    return spoil


def one_image(key, value):
    def spoil(content, detections, rng):
        rng.choice(content["images"])[key] = value

    return spoil


def image_sizes(factor):
    def spoil(content, detections, rng):
        scale = factor(rng)
        for image in content["images"]:
            image["width"], image["height"] = round(image["width"] * scale), round(image["height"] * scale)

    return spoil


def exchanged_sizes(content, detections, rng):
    for image in content["images"]:
        image["width"], image["height"] = image["height"], image["width"]


def other_names(content, detections, rng):
    names = content["categories"][0]["keypoints"]
    a, b = rng.sample(range(17), 2)
    names[a], names[b] = names[b], names[a]


def detection_value(key, value):
    def spoil(content, detections, rng):
        for d in detections:
            d[key] = value(d[key]) if callable(value) else value

    return spoil


def one_detection(key, value):
    def spoil(content, detections, rng):
        rng.choice(detections)[key] = value

    return spoil


def mixed(content, detections, rng):
    """The pictures of one image's persons under another image's number."""
    ids = [i["id"] for i in content["images"]]
    for d in detections:
        d["image_id"] = ids[(ids.index(d["image_id"]) + 3) % len(ids)]


def missing_labelled(content, detections, rng):
    for a in content["annotations"]:
        a["keypoints"][:3], a["num_keypoints"] = [0, 0, 2], 17


BROKEN = {
    "box corners": boxes(corners),
    "box centres": boxes(centres),
    "box fractions": boxes(fractions),
    "box y x h w": boxes(lambda b, s, r: b[[1, 0, 3, 2]]),
    "box percent": boxes(lambda b, s, r: 100 * fractions(b, s, r)),
    "box moved": boxes(lambda b, s, r: np.add(b, [*(s * 0.6), 0, 0])),
    "box doubled": boxes(lambda b, s, r: 2 * b),
    "box empty": boxes(lambda b, s, r: [*b[:2], 0, b[3]]),
    "points fractions": points(lambda p, s, r: p / s),
    "points percent": points(lambda p, s, r: 100 * p / s),
    "points scaled": points(lambda p, s, r: p * (0.2 + 0.3 * r if r < 0.5 else 1.7 + 2 * r)),
    "points moved": points(lambda p, s, r: p + s * (0.5 + 0.4 * r)),
    "points turned": points(lambda p, s, r: p[:, ::-1] + [200, 100]),
    "points labelled at 0, 0": missing_labelled,
    "sizes of other pictures": image_sizes(
        lambda rng: rng.choice([0.5, 2, rng.uniform(1.1, 4), rng.uniform(0.2, 0.9)])
    ),
    "sizes exchanged": exchanged_sizes,
    "names in another order": other_names,
    "area in other units": lambda c, d, rng: [a.update(area=a["area"] * 1e-4) for a in c["annotations"]],
    "area zero": each("area", 0),
    "no area": lambda c, d, rng: rng.choice(c["annotations"]).pop("area"),
    "num_keypoints zero": each("num_keypoints", 0),
    "image unknown": each("image_id", 4711),
    "id twice": lambda c, d, rng: c["annotations"].append(copy.deepcopy(c["annotations"][0])),
    "id zero": each("id", 0),
    "person twice": lambda c, d, rng: c["annotations"].append(copy.deepcopy(c["annotations"][0]) | {"id": 999}),
    "visibility true": one_keypoint(2, True),
    "visibility 0.7": one_keypoint(2, 0.7),
    "visibility text": one_keypoint(2, "2"),
    "coordinate null": one_keypoint(0, None),
    "coordinate NaN": one_keypoint(1, float("nan")),
    "coordinate infinite": one_keypoint(1, float("inf")),
    "coordinate text": one_keypoint(0, "12"),
    "coordinate list": one_keypoint(1, [3]),
    "iscrowd text": each("iscrowd", "0"),
    "iscrowd 2": each("iscrowd", 2),
    "keypoints short": lambda c, d, rng: rng.choice(c["annotations"])["keypoints"].pop(),
    "keypoints pairs": each("keypoints", [1.0, 2.0] * 17),
    "keypoints nested": each("keypoints", [[1.0, 2.0, 2]] * 17),
    "category other": lambda c, d, rng: [a.update(category_id=7) for a in c["annotations"]],
    "category text": each("category_id", "1"),
    "categories two": lambda c, d, rng: c["categories"].append(c["categories"][0] | {"id": 2, "name": "dog"}),
    "width text": one_image("width", "240"),
    "height null": one_image("height", None),
    "file name other": one_image("file_name", "none.png"),
    "file name of another": lambda c, d, rng: c["images"][0].update(file_name=c["images"][1]["file_name"]),
    "image id twice": lambda c, d, rng: c["images"][0].update(id=c["images"][1]["id"]),
    "found corners": found(corners),
    "found fractions": found(fractions),
    "found percent": found(lambda b, s, r: 100 * fractions(b, s, r)),
    "found centres": found(centres),
    "found scaled": found(lambda b, s, r: b * (2 + r)),
    "found elsewhere": mixed,
    "found off the picture": one_detection("bbox", [9000.0, 3.0, 20.0, 30.0]),
    "found with scores of 90": detection_value("score", lambda s: 100 * s),
    "found with scores below 0": detection_value("score", lambda s: s - 2),
    "found twice": lambda c, d, rng: d.extend(copy.deepcopy(d)),
    "found of category 2": detection_value("category_id", 2),
    "found on unknown images": one_detection("image_id", 4711),
    "found with a text score": one_detection("score", "0.5"),
    "found with a null box": one_detection("bbox", [1, 2, None, 4]),
    "found without area": one_detection("bbox", [1, 2, 0, 4]),
}


@fuzz
@given(st.sampled_from(sorted(BROKEN)), st.integers(0, 2**32), st.integers(6, len(SIZES)))
def test_one_broken_fact_is_never_silent(root, name, seed, count):
    content = consistent(SIZES[:count], seed % 2**31)
    detections = detections_of(content, seed % 2**31)
    BROKEN[name](content, detections, random.Random(seed))
    error, said = answer_of(root, content, detections)
    assert error or warnings(said), (name, seed)
    check_annotation_file(root / "a.json", root / "images", COCO)


@fuzz
@given(st.integers(0, 2**32), st.integers(1, len(SIZES)), st.sampled_from(["", "backslash", "iscrowd", "category"]))
def test_what_agrees_is_read_without_a_word(root, seed, count, change):
    content = consistent(SIZES[:count], seed % 2**31)
    detections = detections_of(content, seed % 2**31)
    if change == "backslash":
        for image in content["images"]:
            image["file_name"] = ".\\" + image["file_name"]
    if change == "iscrowd":
        for a in content["annotations"]:
            del a["iscrowd"]
    if change == "category":
        content["categories"][0]["id"] = 7
        for row in (*content["annotations"], *detections):
            row["category_id"] = 7
    error, said = answer_of(root, content, detections)
    assert (error, warnings(said)) == ("", [])
