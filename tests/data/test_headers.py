"""Sizes and EXIF orientation from headers, and pictures read upright where the annotations are."""

import json

import cv2
import numpy as np
import pytest
import torch

from psa_pose.data.build import build_test_sets, build_train_set
from psa_pose.data.device_decode import decode_on_device, encode_batch
from psa_pose.errors import DataError
from psa_pose.media.headers import Header, exif_orientation, read_header, upright
from psa_pose.media.pictures import read_image
from psa_pose.skeleton import COCO
from tests.data.people import consistent
from tests.data.photographs import photograph, pixels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("big_endian", [False, True])
def test_upright_is_as_opencv_turns_it(orientation, big_endian):
    data = photograph(pixels(60, 40), orientation, big_endian=big_endian)
    array = np.frombuffer(data, np.uint8)
    stored = cv2.imdecode(array, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert exif_orientation(data) == orientation
    assert read_header(data) == Header(60, 40, orientation)
    assert np.array_equal(upright(stored, orientation), cv2.imdecode(array, cv2.IMREAD_COLOR))


@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("size", [(60, 40), (33, 301), (1, 1)])
def test_sizes_are_those_of_the_pixels(kind, size):
    assert read_header(photograph(pixels(*size), kind=kind)) == Header(*size, 1)


def test_a_lossless_webp_and_a_png_with_exif():
    data = cv2.imencode(".webp", pixels(61, 47), [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    assert read_header(data) == Header(61, 47, 1)
    assert read_header(photograph(pixels(61, 47), 6, ".png")) == Header(61, 47, 6)


def test_any_bytes_have_a_header_or_none():
    rng = np.random.default_rng(0)
    whole = [
        photograph(pixels(60, 40), 6),
        photograph(pixels(60, 40), 6, ".png"),
        photograph(pixels(60, 40), 1, ".webp"),
    ]
    for number in range(3000):
        data = bytearray(whole[number % 3][: rng.integers(1, 400)])
        for _ in range(rng.integers(0, 6)):
            data[rng.integers(len(data))] = rng.integers(256)
        header = read_header(bytes(data))
        assert header is None or (min(header) >= 1 and header.orientation <= 8)


@pytest.mark.parametrize(
    ("orientation", "stated", "exif", "answer"),
    [
        (6, (40, 60), "auto", "upright"),
        (6, (60, 40), "auto", "stored"),
        (3, (60, 40), "auto", "stored"),
        (3, (60, 40), "upright", "upright"),
        (6, (40, 60), "upright", "upright"),
        (6, (60, 40), "upright", "stored"),
        (6, (40, 60), "apply", "upright"),
        (3, (60, 40), "apply", "upright"),
        (6, (60, 40), "ignore", "stored"),
        (6, (0, 0), "auto", "stored"),
        (6, (0, 0), "apply", "upright"),
        (6, (61, 39), "auto", "stored"),
        (6, (40, 60), "ignore", "its EXIF orientation is 6, DATASET.EXIF 'auto' reads it upright"),
        (6, (60, 40), "apply", "the labels are of the picture as stored: write DATASET.EXIF 'auto' or 'ignore'"),
        (1, (40, 60), "auto", "width and height are exchanged: write those of the file"),
        (1, (120, 80), "auto", "the labels were made at 2 times its resolution: scale them, or use those pictures"),
        (1, (30, 20), "auto", "the labels were made at 0.5 times its resolution"),
        (1, (60, 90), "auto", "it is another picture, or was cut since"),
    ],
)
def test_a_picture_is_read_as_its_size_says(tmp_path, orientation, stated, exif, answer):
    path = tmp_path / "a.jpg"
    path.write_bytes(photograph(pixels(60, 40), orientation))
    stored = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if answer in ("stored", "upright"):
        wanted = stored if answer == "stored" else upright(stored, orientation)
        assert np.array_equal(read_image(path, "bgr", stated, exif), wanted)
        return
    with pytest.raises(DataError) as error:
        read_image(path, "bgr", stated, exif)
    assert answer in str(error.value)
    assert f"the annotations say {stated[0]} x {stated[1]}" in str(error.value)


# Whole data sets.


def write_set(root, orientations, change=lambda image: None, size=(120, 160)):
    """Photographs of upright people, stored as a phone does; the annotations are of the upright pictures."""
    content = consistent([size] * len(orientations), 3)
    (root / "images").mkdir(parents=True)
    for image, orientation in zip(content["images"], orientations, strict=True):
        turned = pixels(*size)
        # The orientation that undoes one is itself, but for a quarter turn, which the other one undoes.
        stored = upright(turned, {6: 8, 8: 6}.get(orientation, orientation))
        (root / "images" / image["file_name"]).write_bytes(photograph(stored, orientation, ".png"))
        change(image)
    (root / "a.json").write_text(json.dumps(content))


@pytest.fixture
def photographs(tiny_config, tmp_path):
    def make(*overrides):
        paths = [f"DATASET.{split}_{kind}" for split in ("TRAIN", "TEST") for kind in ("ANNOTATIONS", "IMAGES")]
        words = [word for key in paths for word in (key, "a.json" if key.endswith("ANNOTATIONS") else "images")]
        return tiny_config("DATASET.ROOT", tmp_path, *words, "DATASET.TEST_DETECTIONS", "", *overrides)

    return make


def build(cfg, said=None):
    return build_train_set(cfg, COCO, "unbiased", (said if said is not None else []).append)


@pytest.mark.parametrize("orientations", [[6] * 4, [8, 6, 1, 1, 6], [5, 7, 2, 4, 3, 1]])
def test_phone_photographs_are_read_upright_and_it_is_said(photographs, tmp_path, orientations):
    write_set(tmp_path, orientations)
    said: list[str] = []
    cfg = photographs()
    dataset = build(cfg, said)
    turned = sum(o > 1 for o in orientations)
    assert any(f"{turned} of {len(orientations)} pictures looked at are turned by their EXIF" in line for line in said)
    for image in range(len(orientations)):
        assert np.array_equal(dataset._image(image), pixels(120, 160)[..., ::-1])
    keys = [(0, row) for row in range(len(dataset))]
    batch = decode_on_device(encode_batch(dataset, keys), dataset, torch.device("cpu"))
    assert batch.problems == ("",) * len(dataset)
    (test_set,) = build_test_sets(cfg, COCO, "unbiased", lambda _: None, "ground_truth")
    assert all(test_set.dataset[key].problem == "" for key in keys)


def test_upside_down_photographs_alone_are_a_question(photographs, tmp_path):
    write_set(tmp_path, [3, 1])
    said: list[str] = []
    build(photographs(), said)
    assert any("1 of 2 pictures looked at are turned or mirrored by their EXIF orientation" in line for line in said)
    assert any("write DATASET.EXIF 'apply' or 'ignore'" in line for line in said)
    for word in ("apply", "ignore"):
        said = []
        dataset = build(photographs("DATASET.EXIF", word), said)
        assert not any("does not say whether" in line for line in said)
        assert np.array_equal(dataset._image(0), pixels(120, 160)[..., ::-1]) == (word == "apply")


def test_sizes_of_another_picture_end_a_run_at_its_start(photographs, tmp_path):
    write_set(tmp_path, [1, 1], lambda image: image.update(width=240, height=320))
    with pytest.raises(DataError) as error:
        build(photographs())
    assert "1.png is 120 x 160 pixels, the annotations say 240 x 320; the labels were made at 2 times" in str(
        error.value
    )
    assert "(2 of 2 pictures looked at)" in str(error.value)


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_a_size_is_compared_where_a_picture_is_decoded(photographs, tmp_path, kind):
    write_set(tmp_path, [1, 1])
    dataset = build(photographs())
    name = dataset.persons.image_names[1].decode()
    (tmp_path / "images" / name).write_bytes(photograph(pixels(100, 200), 1, kind))
    row = int(np.flatnonzero(dataset.persons.image == 1)[0])
    problem = "is 100 x 200 pixels, the annotations say 120 x 160; it is another picture, or was cut since"
    assert problem in dataset[(0, row)].problem
    batch = decode_on_device(encode_batch(dataset, [(0, 0), (0, row)]), dataset, torch.device("cpu"))
    assert batch.problems[0] == ""
    assert problem in batch.problems[1]
