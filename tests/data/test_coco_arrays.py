"""The fast reader of annotation files against the one that reads entry by entry: equal, or it leaves the file to it.

More cases: FUZZ_CASES=5000 python -m pytest tests/data/test_coco_arrays.py
"""

import copy
import json
import os
import random
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psa_pose.data.build import build_train_set
from psa_pose.data.formats import coco_arrays
from psa_pose.data.formats.coco import Labels, labels_of, read_annotations
from psa_pose.data.formats.coco_arrays import read_arrays
from psa_pose.errors import DataError
from psa_pose.skeleton import COCO, make_skeleton

TWO = make_skeleton({"name": "two", "names": ["left_eye", "right_eye"]}, "two")
many = settings(
    max_examples=int(os.environ.get("FUZZ_CASES", 50)), deadline=None, suppress_health_check=list(HealthCheck)
)
seeds = st.integers(0, 2**32)

# What may stand beside the fields that are read.
EXTRAS = [
    {"segmentation": [[1.5, 2, 3e1, 4, 5.25, 6]]},
    {"segmentation": {"counts": [3, 4, 5], "size": [7, 8]}},
    {"segmentation": {"counts": 'aB]}, {[\\"', "size": [7, 8]}, "date": None},
    {"attributes": {"occluded": True, "ids": [], "note": "}, {"}},
    {"text": 'ü 木 \u2028 "images": [{"id": 1}], "', "score": -1e-7},
]
DECOYS = {"info": {"images": [1], "annotations": "[{"}, "licenses": [{"id": 1}], "more": {"annotations": []}}


def made(rng: random.Random) -> dict:
    """A file that is valid and unusual."""
    ids = rng.sample(range(-5, 2**40), rng.randint(1, 6))
    names = ["a.jpg", "sub\\b.jpg", "sub/ü 木.png", 'q"uote.jpg', "..jpg"]
    images = [
        {"id": i, "file_name": rng.choice(names), "width": rng.choice([1, 640, 99.5]), "height": rng.randint(1, 900)}
        for i in ids
    ]
    annotations = [person(rng, number, ids) for number in range(rng.randint(1, 9))]
    return {"images": images, "annotations": annotations, "categories": [category(rng)], **taken(rng, DECOYS)}


def category(rng: random.Random) -> dict:
    return {"id": 1, "name": "person", "keypoints": ["left_eye", "Right Eye"]} | rng.choice(
        [{}, {"skeleton": [[1, 2]]}]
    )


def person(rng: random.Random, number: int, ids: list[int]) -> dict:
    number_of = lambda: rng.choice([0, 3, -2, 7.25, 1e2, 33.333333333333336, 123456789])  # noqa: E731
    points = [[number_of(), number_of(), rng.choice([0, 1, 2, 2.0])] for _ in range(2)]
    optional = {"iscrowd": rng.choice([0, 0, 1]), "category_id": 1, "num_keypoints": sum(p[2] > 0 for p in points)}
    entry = {"id": 3 * number - 1, "image_id": rng.choice(ids), "bbox": [number_of() for _ in range(4)]}
    entry |= {"area": number_of(), "keypoints": [value for point in points for value in point]}
    return entry | taken(rng, optional) | rng.choice([{}, *EXTRAS])


def taken(rng: random.Random, entries: dict) -> dict:
    return {key: value for key, value in entries.items() if rng.random() < 0.8}


def shuffled(rng: random.Random, value):
    """The same with its keys in another order."""
    if isinstance(value, list):
        return [shuffled(rng, inner) for inner in value]
    if isinstance(value, dict):
        return {key: shuffled(rng, value[key]) for key in rng.sample(list(value), len(value))}
    return value


def written(path: Path, rng: random.Random, content: dict) -> Path:
    text = json.dumps(
        shuffled(rng, content),
        indent=rng.choice([None, None, 0, 3, "\t"]),
        separators=rng.choice([None, (",", ":"), (" ,\r\n", " : ")]),
        ensure_ascii=rng.random() < 0.5,
    )
    path.write_bytes(rng.choice(["", "", "\ufeff", "\n "]).encode() + text.encode())
    return path


def slow(path: Path, skeleton=TWO, category="") -> Labels | None:
    try:
        return labels_of(read_annotations(path, skeleton, category), skeleton)
    except DataError:
        return None


def assert_equal(found: Labels, wanted: Labels):
    for field in fields(Labels):
        ours, theirs = getattr(found, field.name), getattr(wanted, field.name)
        if isinstance(theirs, np.ndarray):
            np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
            assert ours.dtype == theirs.dtype, field.name
            assert ours.shape == theirs.shape, field.name
        else:
            assert ours == theirs, field.name


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("arrays") / "a.json"


@pytest.fixture(params=[3000, 4 << 20])
def piece(request, monkeypatch):
    """Bytes: of a few entries, and of all of them."""
    monkeypatch.setattr(coco_arrays, "PIECE", request.param)
    return request.param


@many
@given(seed=seeds)
def test_unusual_files_are_read_at_once_and_as_entry_by_entry(path, piece, seed):
    rng = random.Random(seed)
    written(path, rng, made(rng))
    found, wanted = read_arrays(path, TWO), slow(path)
    assert wanted is not None
    # Texts that look like the ends of entries may stand wherever a piece is cut.
    data = path.read_bytes()
    if found is None:
        assert data.count(b"}, {") + data.count(b"1}]") > 2
    else:
        assert_equal(found, wanted)


values = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4)
values |= st.sampled_from([0, 1, 2, -1, "", [], {}, [[1]], {"id": 1}, 2**63, -(2**63), 1e9, 1.0, "..", "a\x00"])


def change(rng: random.Random, content: dict, value) -> dict:
    """Another value somewhere, or an entry or a key that is twice there or missing."""
    content = copy.deepcopy(content)
    name = rng.choice(["images", "annotations", "annotations", "categories"])
    entry = rng.choice(content[name])
    key = rng.choice(list(entry))
    action = rng.choice(["value", "value", "value", "inner", "twice", "key missing", "list missing", "list"])
    if action == "value":
        entry[key] = value
    elif action == "inner" and isinstance(entry[key], list) and entry[key]:
        entry[key][rng.randrange(len(entry[key]))] = value
    elif action == "twice":
        content[name].append(copy.deepcopy(entry))
    elif action == "key missing":
        del entry[key]
    elif action == "list missing":
        del content[name]
    elif action == "list":
        content[name] = value
    return content


@many
@given(seed=seeds, value=values)
def test_a_changed_fact_is_read_alike_or_left_to_the_other(path, piece, seed, value):
    rng = random.Random(seed)
    written(path, rng, change(rng, made(rng), value))
    agree(path)


@many
@given(seed=seeds)
def test_damaged_bytes_are_read_alike_or_left_to_the_other(path, piece, seed):
    rng = random.Random(seed)
    data = bytearray(written(path, rng, made(rng)).read_bytes())
    for _ in range(rng.randint(1, 3)):
        data[rng.randrange(len(data))] = rng.choice([*b'[]{},:"\\ 0-.ent\x00\x0b\xff\x80', rng.randrange(256)])
    path.write_bytes(data[: rng.choice([len(data), len(data), rng.randrange(len(data))])])
    agree(path)


def agree(path: Path):
    found = read_arrays(path, TWO)
    if found is not None:
        wanted = slow(path)
        assert wanted is not None
        assert_equal(found, wanted)


def test_a_real_file_is_read_at_once(coco_mini):
    for split in ("train2017", "val2017"):
        path = coco_mini / f"annotations/person_keypoints_{split}.json"
        found = read_arrays(path, COCO)
        assert found is not None
        assert_equal(found, labels_of(read_annotations(path, COCO), COCO))


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"{}", b'{"images": [], "annotations": [], "categories": []}',
        b'{"images": [{"id": 1}], "annotations": [{"id": 1}], "categories": []}',
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_left_to_the_other(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text)
    assert read_arrays(tmp_path / "a.json", TWO) is None
    assert read_arrays(tmp_path / "none.json", TWO) is None


def test_a_training_needs_no_more_than_the_arrays(people, tiny_config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("psa_pose.data.build.read_arrays", lambda *_: None)
        expected = build_train_set(tiny_config(), COCO, "unbiased", lambda _: None).persons
    monkeypatch.setattr("psa_pose.data.build.read_split", None)
    found = build_train_set(tiny_config(), COCO, "unbiased", lambda _: None).persons
    assert_same = np.testing.assert_array_equal
    for field in fields(found):
        assert_same(getattr(found, field.name), getattr(expected, field.name))
        assert getattr(found, field.name).dtype == getattr(expected, field.name).dtype
