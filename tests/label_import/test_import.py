"""`tools/import_dataset.py`: every form becomes the same clean data set, and what cannot is told."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psa_pose.config import load_config
from psa_pose.config.skeleton import build_skeleton
from psa_pose.data.formats.coco import ground_truth_persons, read_annotations
from psa_pose.dataset_tools.check_dataset import run_check
from psa_pose.errors import ConfigError, DataError, PsaPoseError
from psa_pose.inference.estimator import Person
from psa_pose.inference.people import CocoWriter
from psa_pose.label_import.clean import AREA_SHARE, MARGIN, clean_instance
from psa_pose.label_import.command import ImportOptions, run_import
from psa_pose.label_import.images import measure
from psa_pose.label_import.records import Instance, Ledger, ordered_names
from psa_pose.skeleton import COCO
from tests.commands import run_here
from tests.label_import.label_forms import FORMS, around, by_image, category, cvat, labelled, people_of, write, yolo

REPOSITORY = Path(__file__).parents[2]


def bring(path: Path, out: Path, **options: object) -> tuple[dict, Ledger, str]:
    """The file that is written, the ledger and what was printed."""
    said: list[str] = []
    ledger = run_import(path, ImportOptions(out, **options), said.append)
    return json.loads((out / "keypoints.json").read_text()), ledger, "\n".join(said)


def persons(content: dict) -> list[tuple[str, list[tuple[str, float, float, int]]]]:
    """The pixels' owner and the labelled keypoints of each annotation, in an order that does not depend on the form."""
    names = {i["id"]: i["file_name"] for i in content["images"]}
    found = [(names[a["image_id"]], labelled(a)) for a in content["annotations"]]
    return sorted((Path(name).name, points) for name, points in found)


def same_points(found: dict, wanted: dict, places: float = 0.01) -> None:
    first, second = persons(found), persons(wanted)
    assert len(first) == len(second)
    for (_, ours), (_, theirs) in zip(first, second, strict=True):
        assert [p[0] for p in ours] == [p[0] for p in theirs]
        assert np.allclose([p[1:3] for p in ours], [p[1:3] for p in theirs], atol=places)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_passes_the_check(form, people, tmp_path):
    out = tmp_path / "out"
    content, ledger, said = bring(FORMS[form](people, tmp_path / "labels"), out)
    cfg = load_config(out / "config.yaml")
    told: list[str] = []
    assert run_check(cfg, told.append) == 0, "\n".join(told)
    assert set(build_skeleton(cfg).flip) == set(COCO.flip)
    assert [a["id"] for a in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    assert {a["category_id"] for a in content["annotations"]} == {1}
    assert said.count("\n  psa-pose ") == 3
    # Two spaces between columns that all begin or end in line.
    table = said.partition("\nnote")[0].splitlines()
    assert len({len(line) for line in table}) == 1
    assert "written  " in said
    assert ledger.done


@pytest.mark.parametrize(
    "form", [form for form in FORMS if form not in ("label_studio_coco", "deeplabcut", "roboflow")]
)
def test_every_form_keeps_the_points(form, people, tmp_path):
    wanted = people_of(people)
    content, ledger, _ = bring(FORMS[form](people, tmp_path / "labels"), tmp_path / "out")
    assert not [what for what in ledger.done if what.startswith("points")]
    if form == "sleap":
        names = sorted(i["file_name"] for i in content["images"])
        for image, name in zip(sorted(wanted["images"], key=lambda i: i["file_name"]), names, strict=True):
            image["file_name"] = name
    same_points(content, wanted)
    if form in ("cvat", "coco_annotator", "labelme", "yolo"):
        visibility = [[p[3] for p in points] for _, points in persons(content)]
        assert visibility == [[p[3] for p in points] for _, points in persons(wanted)]


@pytest.mark.parametrize("form", ["label_studio", "labelme", "yolo", "roboflow"])
def test_boxes_that_are_there_are_kept(form, people, tmp_path):
    content, *_ = bring(FORMS[form](people, tmp_path / "labels"), tmp_path / "out")
    wanted = np.array(sorted(tuple(a["bbox"]) for a in people_of(people)["annotations"]))
    found = np.unique(np.round([a["bbox"] for a in content["annotations"]], 1), axis=0)
    assert np.allclose(found, np.unique(np.round(wanted, 1), axis=0), atol=0.11)
    for annotation in content["annotations"]:
        assert annotation["area"] == pytest.approx(AREA_SHARE * annotation["bbox"][2] * annotation["bbox"][3], abs=0.1)


@pytest.mark.parametrize("form", ["cvat", "sleap", "coco_annotator"])
def test_tight_and_missing_boxes_get_a_margin(form, people, tmp_path):
    content, *_ = bring(FORMS[form](people, tmp_path / "labels"), tmp_path / "out")
    sizes = {i["id"]: (i["width"], i["height"]) for i in content["images"]}
    for annotation in content["annotations"]:
        x, y, w, h = around(annotation)
        margin, (width, height) = MARGIN * max(w, h), sizes[annotation["image_id"]]
        low = [max(x - margin, 0), max(y - margin, 0)]
        high = [min(x + w + margin, width), min(y + h + margin, height)]
        assert np.allclose(annotation["bbox"], [*low, high[0] - low[0], high[1] - low[1]], atol=0.01)


def test_coco_to_yolo_and_back(people, tmp_path):
    first, *_ = bring(cvat(people, tmp_path / "cvat"), tmp_path / "first")
    second, *_ = bring(yolo(people, tmp_path / "yolo"), tmp_path / "second")
    same_points(first, second)
    # What was written is itself a COCO file: read again, nothing changes but what names the files.
    again, ledger, _ = bring(tmp_path / "second/keypoints.json", tmp_path / "third", images=tmp_path / "yolo")
    assert (ledger.done, ledger.unused) == ({}, {})
    assert again == second


def test_real_coco_is_kept_but_for_its_numbers(coco_mini, tmp_path):
    for split in ("train", "val"):
        path = coco_mini / f"annotations/person_keypoints_{split}2017.json"
        content, ledger, _ = bring(path, tmp_path / split)
        wanted = json.loads(path.read_text())
        assert (ledger.done, ledger.unused) == ({}, {})
        assert [i["file_name"] for i in content["images"]] == [i["file_name"] for i in wanted["images"]]
        theirs = [row for _, rows in by_image(wanted) for row in rows]
        for ours, row in zip(content["annotations"], theirs, strict=True):
            assert (ours["keypoints"], ours["iscrowd"]) == (row["keypoints"], row["iscrowd"])
            assert ours["area"] == pytest.approx(row["area"], rel=0.01)
            assert np.allclose(ours["bbox"], row["bbox"], atol=0.001)


def test_the_stated_constants_are_cocos(coco_mini):
    shares, margins = [], []
    for split in ("train", "val"):
        for a in json.loads((coco_mini / f"annotations/person_keypoints_{split}2017.json").read_text())["annotations"]:
            if a["iscrowd"] or not a["num_keypoints"]:
                continue
            x, y, w, h = a["bbox"]
            shares.append(a["area"] / (w * h))
            if a["num_keypoints"] >= 9:
                left, top, width, height = around(a)
                gaps = [left - x, top - y, x + w - left - width, y + h - top - height]
                margins.append(np.mean(gaps) / max(width, height))
    assert (len(shares), len(margins)) == (154, 87)
    assert np.mean(shares) == pytest.approx(AREA_SHARE, abs=0.005)
    assert np.mean(margins) == pytest.approx(MARGIN, abs=0.005)


# Splits


def files_of(out: Path) -> dict[str, set[str]]:
    found = {}
    for path in out.glob("keypoints_*.json"):
        content = json.loads(path.read_text())
        found[path.stem.partition("_")[2]] = {i["file_name"] for i in content["images"]}
        assert {a["image_id"] for a in content["annotations"]} <= {i["id"] for i in content["images"]}
    return found


def test_augmented_copies_stay_together(people, tmp_path):
    path = FORMS["roboflow"](people, tmp_path / "labels")
    for seed in range(4):
        bring(path, tmp_path / f"out{seed}", split="0.4", seed=seed)
        split = files_of(tmp_path / f"out{seed}")
        originals = {word: {Path(name).name.partition(".rf.")[0] for name in names} for word, names in split.items()}
        assert set(originals) == {"train", "test"}
        assert not originals["train"] & originals["test"]
        assert len(split["train"] | split["test"]) == 16
        assert len(split["test"]) == 6
    bring(path, tmp_path / "again", split="0.4", seed=3)
    assert files_of(tmp_path / "again") == files_of(tmp_path / "out3")
    assert files_of(tmp_path / "out0") != files_of(tmp_path / "out1")


def test_videos_stay_together(people, tmp_path):
    bring(FORMS["sleap"](people, tmp_path / "labels"), tmp_path / "out", split="0.3")
    bring(FORMS["deeplabcut"](people, tmp_path / "dlc"), tmp_path / "dlc_out", split="0.3")
    for split in (files_of(tmp_path / "out"), files_of(tmp_path / "dlc_out")):
        videos = {word: {re.split("_frame|/", name)[0] for name in names} for word, names in split.items()}
        assert videos["train"] | videos["test"] in ({"session0", "session1"}, {"a", "b"})
        assert not videos["train"] & videos["test"]


def test_the_labels_own_split(people, tmp_path):
    bring(FORMS["roboflow"](people, tmp_path / "labels"), tmp_path / "out", split="source")
    split = files_of(tmp_path / "out")
    assert {word: len(names) for word, names in split.items()} == {"train": 10, "val": 4, "test": 2}
    assert all(name.startswith("valid/") for name in split["val"])
    cfg = load_config(tmp_path / "out/config.yaml")
    assert (cfg.DATASET.TRAIN_ANNOTATIONS, cfg.DATASET.TEST_ANNOTATIONS) == (
        "keypoints_train.json",
        "keypoints_val.json",
    )


def test_one_group_is_left_to_train_on(people, tmp_path):
    bring(FORMS["sleap"](people, tmp_path / "labels"), tmp_path / "out", split="0.9")
    assert {word: len(names) for word, names in files_of(tmp_path / "out").items()} == {"train": 4, "test": 4}


def test_other_groups(people, tmp_path):
    path = FORMS["roboflow"](people, tmp_path / "labels")
    bring(path, tmp_path / "regex", split="0.5", group_by=r"(\d)_jpg")
    digits = [{re.search(r"(\d)_jpg", name)[1] for name in names} for names in files_of(tmp_path / "regex").values()]
    assert not digits[0] & digits[1]
    bring(path, tmp_path / "folder", split="0.3", group_by="folder")
    folders = [{name.partition("/")[0] for name in names} for names in files_of(tmp_path / "folder").values()]
    assert not folders[0] & folders[1]
    bring(path, tmp_path / "image", split="0.5", group_by="image")
    assert sorted(map(len, files_of(tmp_path / "image").values())) == [8, 8]


# Single rules


def instance(points, box=None, area=None):
    return Instance(np.array(points, float), None if box is None else np.array(box, float), area)


@pytest.mark.parametrize(
    ("points", "labelled_as"),
    [
        ([[5, 6, 2]], [[5, 6, 2]]),
        ([[5, 6, 1]], [[5, 6, 1]]),
        ([[5, 6, 0]], [[0, 0, 0]]),
        ([[0, 0, 2]], [[0, 0, 0]]),
        ([[np.nan, 6, 2]], [[0, 0, 0]]),
        ([[5, 6, np.nan]], [[0, 0, 0]]),
        ([[5, 6, 0.7]], [[5, 6, 2]]),
        ([[101.5, 6, 2]], [[0, 0, 0]]),
        ([[100.5, 50.5, 2]], [[100.5, 50.5, 2]]),
        ([[5, -3, 2]], [[0, 0, 0]]),
        ([[0.25, -0.5, 2]], [[0.25, -0.5, 2]]),
    ],
)
def test_points(points, labelled_as):
    cleaned = clean_instance(instance(points, [2, 2, 50, 40]), (100, 50), Ledger())
    assert cleaned.points.tolist() == labelled_as


@pytest.mark.parametrize(
    ("box", "area", "wanted_box", "wanted_area"),
    [
        ([10, 5, 40, 30], 500, [10, 5, 40, 30], 500),
        ([10, 5, 40, 30], None, [10, 5, 40, 30], AREA_SHARE * 1200),
        ([10, 5, 40, 30], 1200, [10, 5, 40, 30], AREA_SHARE * 1200),
        ([10, 5, 40, 30], 5000, [10, 5, 40, 30], AREA_SHARE * 1200),
        ([10, 5, 40, 30], -1, [10, 5, 40, 30], AREA_SHARE * 1200),
        ([-10, 5, 40, 30], 500, [0, 5, 30, 30], 500),
        ([20, 10, 20, 10], 200, [18, 8, 24, 14], AREA_SHARE * 336),
        ([20, 10, 20, 10], 90, [18, 8, 24, 14], 90),
        (None, None, [18, 8, 24, 14], AREA_SHARE * 336),
        ([5, 5, 0, 0], 0, [18, 8, 24, 14], AREA_SHARE * 336),
    ],
)
def test_boxes_and_areas(box, area, wanted_box, wanted_area):
    points = [[20, 10, 2], [40, 20, 2], [0, 0, 0]]
    cleaned = clean_instance(instance(points, box, area), (100, 50), Ledger())
    assert np.allclose(cleaned.box, wanted_box)
    assert cleaned.area == pytest.approx(wanted_area)


def test_an_instance_without_box_and_points_is_left_out():
    ledger = Ledger()
    assert clean_instance(instance([[20, 10, 2], [0, 0, 0]]), (100, 50), ledger) is None
    assert list(ledger.unused) == ["instances with neither a box nor two points apart"]


def two_pictures(root: Path) -> list[dict]:
    root.mkdir(parents=True, exist_ok=True)
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(root / name), np.full((80, 120, 3), 99, np.uint8))
    return [{"id": n, "file_name": name, "width": 120, "height": 80} for n, name in enumerate(("a.jpg", "b.jpg"), 1)]


NAMES = ["nose", "left_hand", "right_hand", "tail"]
POINTS = [30, 20, 2, 60, 30, 2, 20, 35, 1, 50, 60, 2]


def small(root: Path, **changes: object) -> dict:
    """Two pictures with two bodies each."""
    images = two_pictures(root)
    rows = [
        {"id": n, "image_id": 1 + n % 2, "category_id": 1, "iscrowd": 0, "keypoints": list(POINTS),
         "bbox": [10, 10, 60, 60], "area": 1500.0, **changes}
        for n in range(1, 5)
    ]  # fmt: skip
    return {"images": images, "annotations": rows, "categories": [category(keypoints=NAMES, skeleton=[[1, 2]])]}


def points_as(how: str) -> list:
    triples = [POINTS[i : i + 3] for i in range(0, 12, 3)]
    return {
        "pairs": [n for t in triples for n in t[:2]],
        "nested": triples,
        "nested pairs": [t[:2] for t in triples],
        "text": [str(n) for n in POINTS],
        "true and false": [n for x, y, v in triples for n in (x, y, v > 0)],
        "null": [*POINTS[:9], None, None, None],
        "nested null": [*triples[:3], None],
        "nan": [*POINTS[:9], float("nan"), float("nan"), 0],
    }[how]


@pytest.mark.parametrize(
    "how", ["pairs", "nested", "nested pairs", "text", "true and false", "null", "nested null", "nan"]
)
def test_points_however_they_are_written(how, tmp_path):
    content, *_ = bring(
        write(tmp_path / "in/a.json", small(tmp_path / "in", keypoints=points_as(how))), tmp_path / "out"
    )
    found = np.array(content["annotations"][0]["keypoints"]).reshape(4, 3)
    wanted = np.array(POINTS).reshape(4, 3)
    wanted[3] = 0 if how in ("null", "nested null", "nan") else wanted[3]
    assert np.array_equal(found[:, :2], wanted[:, :2])
    assert np.array_equal(found[:, 2] > 0, wanted[:, 2] > 0)


def test_fractions_corners_and_missing_keys(tmp_path):
    fractions = [n / (120, 80, 1)[i % 3] for i, n in enumerate(POINTS)]
    rows = small(tmp_path / "in", keypoints=fractions, bbox=[10 / 120, 10 / 80, 0.5, 0.75], area=0.4)
    content, ledger, _ = bring(write(tmp_path / "in/a.json", rows), tmp_path / "one")
    assert np.allclose(content["annotations"][0]["keypoints"], POINTS, atol=0.01)
    assert np.allclose(content["annotations"][0]["bbox"], [10, 10, 60, 60], atol=0.01)
    assert ledger.done["instances whose numbers were fractions of the image"] == 4

    far = [n + (50, 15, 0)[i % 3] for i, n in enumerate(POINTS)]
    rows = small(tmp_path / "in", keypoints=far, bbox=[65, 25, 115, 78])
    content, ledger, _ = bring(write(tmp_path / "in/a.json", rows), tmp_path / "two")
    assert content["annotations"][0]["bbox"] == [65, 25, 50, 53]
    assert ledger.done["boxes that were corners x1 y1 x2 y2, not sizes"] == 4

    # As large, but with the points beside it: no corners, only cut at the border.
    rows = small(tmp_path / "in", keypoints=POINTS, bbox=[65, 25, 115, 78])
    content, ledger, _ = bring(write(tmp_path / "in/a.json", rows), tmp_path / "cut")
    assert content["annotations"][0]["bbox"] == [65, 25, 55, 55]
    assert ledger.done["boxes cut at the border of their image"] == 4

    rows = small(tmp_path / "in")
    for row in rows["annotations"]:
        del row["bbox"], row["area"], row["iscrowd"], row["id"]
    content, *_ = bring(write(tmp_path / "in/a.json", rows, "utf-8-sig"), tmp_path / "three")
    assert content["annotations"][0]["bbox"] == [16, 16, 48, 48]


def test_a_mask_gives_the_area(tmp_path):
    polygon = [[20, 20, 50, 20, 50, 50, 20, 50]]
    content, *_ = bring(
        write(tmp_path / "in/a.json", small(tmp_path / "in", segmentation=polygon, area=0)), tmp_path / "out"
    )
    assert content["annotations"][0]["area"] == pytest.approx(900, rel=0.05)
    code = {"size": [80, 120], "counts": [100, 700, 80 * 120 - 800]}
    content, *_ = bring(
        write(tmp_path / "in/a.json", small(tmp_path / "in", segmentation=code, area=3600)), tmp_path / "two"
    )
    assert content["annotations"][0]["area"] == 700
    for odd in (
        [[1, 2]],
        {"size": [1], "counts": 3},
        [["a"] * 6],
        {"size": [80, 120], "counts": [5]},
        "x",
        [[1e300] * 8],
    ):
        content, *_ = bring(
            write(tmp_path / "in/a.json", small(tmp_path / "in", segmentation=odd, area=None)), tmp_path / "odd"
        )
        assert content["annotations"][0]["area"] == AREA_SHARE * 3600


def test_phone_photographs_are_measured_upright(tmp_path):
    small(tmp_path)
    plain = (tmp_path / "a.jpg").read_bytes()
    for order in ("<", ">"):
        end = "little" if order == "<" else "big"
        tiff = (b"II*\0" if order == "<" else b"MM\0*") + (8).to_bytes(4, end) + (1).to_bytes(2, end)
        tiff += (
            (0x0112).to_bytes(2, end) + (3).to_bytes(2, end) + (1).to_bytes(4, end) + (6).to_bytes(2, end) + bytes(6)
        )
        exif = b"Exif\0\0" + tiff
        (tmp_path / "t.jpg").write_bytes(
            plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
        )
        picture = measure(tmp_path / "t.jpg")
        assert (picture.upright, picture.stored) == ((80, 120), (120, 80))
        assert cv2.imread(str(tmp_path / "t.jpg")).shape[:2] == (120, 80)


def test_either_size_of_a_phone_photograph_may_be_stated(tmp_path):
    """The labels are in that size: the reader turns the picture, or does not, by it."""
    content = small(tmp_path / "in")
    plain = (tmp_path / "in/a.jpg").read_bytes()
    tiff = b"II*\0" + bytes([8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0])
    (tmp_path / "in/a.jpg").write_bytes(plain[:2] + b"\xff\xe1\0\x22Exif\0\0" + tiff + plain[2:])
    for size in ((120, 80), (80, 120)):
        content["images"][0] |= {"width": size[0], "height": size[1]}
        found, ledger, _ = bring(write(tmp_path / "in/a.json", content), tmp_path / f"out{size[0]}")
        assert (found["images"][0]["width"], found["images"][0]["height"]) == size
        assert ledger.unused == {}


def test_limbs_counted_from_zero(tmp_path):
    content = small(tmp_path / "in")
    content["categories"][0]["skeleton"] = [[0, 1], [2, 3], [3, 4]]
    found, ledger, _ = bring(write(tmp_path / "in/a.json", content), tmp_path / "out")
    assert found["categories"][0]["skeleton"] == [[1, 2], [3, 4]]
    assert ledger.unused == {"limbs between keypoints that are not there": ["limb [3, 4]"]}


def test_keypoints_in_order():
    assert ordered_names(COCO.names[::-1], ()) == list(COCO.names)
    assert ordered_names(["b", "a", "b"], ()) == ["b", "a"]
    assert ordered_names(["b", "a"], ("a", "b")) == ["a", "b"]


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "jpg"])
def test_sizes_of_pictures(suffix, tmp_path):
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), np.zeros((31, 47, 3), np.uint8))
    assert measure(tmp_path / f"a.{suffix}").upright == (47, 31)


# What cannot be used


def test_what_is_left_out_is_told(tmp_path):
    rows = small(tmp_path / "in")
    rows["images"][1]["width"] = 80
    rows["images"] += [{"id": 7, "file_name": "gone.jpg", "width": 5, "height": 5}]
    rows["annotations"] += [
        {"id": 50, "image_id": 99, "category_id": 1, "keypoints": POINTS},
        {"id": 51, "image_id": 1, "category_id": 1, "keypoints": POINTS[:7]},
        {"id": 52, "image_id": 1, "category_id": 4, "bbox": [1, 1, 5, 5]},
    ]
    content, ledger, said = bring(write(tmp_path / "in/a.json", rows), tmp_path / "out")
    assert {k: len(v) for k, v in ledger.unused.items()} == {
        "annotations on images that are not listed": 1,
        "annotations whose points are not 4 of 2 or 3 numbers": 1,
        "annotations of other categories": 1,
        "pictures of another size than the labels state": 1,
        f"no such picture in {tmp_path / 'in'}": 1,
    }
    assert "b.jpg is 120x80, stated 80x80" in said
    assert len(content["annotations"]) == 2


def test_label_studio_joins_several_bodies(people, tmp_path):
    content, ledger, said = bring(FORMS["label_studio_coco"](people, tmp_path / "labels"), tmp_path / "out")
    alone = [rows for _, rows in by_image(people_of(people)) if len(rows) == 1]
    assert len(content["annotations"]) == len(alone)
    assert "export as JSON" in said
    found = sorted(tuple(a["bbox"]) for a in content["annotations"])
    assert np.allclose(found, sorted(tuple(rows[0]["bbox"]) for rows in alone), atol=0.01)
    assert ledger.done["boxes joined to the points of their image"] == len(alone)


def test_names_that_tell_no_mirror_stop_the_training_not_the_import(people, tmp_path):
    path = yolo(people, tmp_path / "labels")
    data = yaml.safe_load((path / "data.yaml").read_text())
    del data["flip_idx"]
    (path / "data.yaml").write_text(yaml.safe_dump(data))
    content, _, said = bring(path, tmp_path / "out")
    assert content["categories"][0]["keypoints"][:2] == ["keypoint_0", "keypoint_1"]
    assert "the names do not tell which keypoints change places in a mirror: write flip into" in said
    with pytest.raises(DataError, match="flip"):
        load_config(tmp_path / "out/config.yaml")
    bring(path, tmp_path / "named", names=COCO.names)
    assert build_skeleton(load_config(tmp_path / "named/config.yaml")).names == COCO.names
    bring(path, tmp_path / "stated", flip="keypoint_1:keypoint_2")
    assert build_skeleton(load_config(tmp_path / "stated/config.yaml")).flip_pairs == ((1, 2),)
    bring(path, tmp_path / "none", flip="none")
    assert build_skeleton(load_config(tmp_path / "none/config.yaml")).flip == ()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.h5", "", "give the CollectedData .csv"),
        ("a.slp", "", "export the labels from SLEAP in COCO's form"),
        ("a.xml", "", "export from CVAT as COCO Keypoints 1.0"),
        ("a.zip", "", "unpack it"),
        ("a.pkl", "", "never read"),
        ("a.json", "{", "is not valid JSON"),
        ("a.json", "{}", "is of no known form; known are COCO"),
        ("a.json", "[]", "is of no known form"),
        ("a.json", '[{"image": "a.jpg", "kp": []}]', "not as JSON-MIN"),
        ("a.json", '{"images": [], "annotations": [], "categories": []}', "--names a,b,c"),
        ("a.csv", "frame,x\n1,2\n", "does not begin with DeepLabCut's scorer"),
        ("a.csv", "scorer,me,me\nbodyparts,nose,nose\ncoords,x,y\n0,1,2\n", "it is a tracking result, not labels"),
        ("a.yaml", "train: images\nnames: [a]\n", "only pose data sets have keypoints"),
        ("a.yaml", "train: images\nkpt_shape: [2, 3]\n", "none of its folders"),
        ("a.yaml", "train: [", "is not valid YAML"),
        ("a.txt", "", "is of no known form"),
    ],
)
def test_what_is_not_read_says_why(name, text, words, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_text(text)
    with pytest.raises(DataError, match=re.escape(words)) as error:
        run_import(tmp_path / "in" / name, ImportOptions(tmp_path / "out"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"split": "much"}, ConfigError, "is no share between 0 and 1"),
        ({"split": "1.5"}, ConfigError, "is no share between 0 and 1"),
        ({"split": "source"}, DataError, "do not say of each picture"),
        ({"split": "0.001"}, DataError, "one side would be empty"),
        ({"split": "0.5", "group_by": "["}, ConfigError, "regular expression"),
        ({"split": "0.5", "flip": "nose:tail,a"}, ConfigError, "is not 'none' or left:right"),
        ({"images": Path("nowhere")}, ConfigError, "--images nowhere is no folder"),
        ({"names": ("a", "b")}, DataError, "--names gives 2 names"),
        ({"category": "cat"}, DataError, "choose one of person"),
        ({"flip": "nose:ear"}, ConfigError, "is not 'none' or left:right"),
    ],
)
def test_options_that_make_no_sense(options, error, words, tmp_path):
    path = write(tmp_path / "in/a.json", small(tmp_path / "in"))
    with pytest.raises(error, match=re.escape(words)):
        run_import(path, ImportOptions(tmp_path / "out", **options), lambda _: None)
    assert not (tmp_path / "out").exists()


def test_labels_are_never_replaced(tmp_path):
    path = write(tmp_path / "in/keypoints.json", small(tmp_path / "in"))
    with pytest.raises(ConfigError, match="where the labels lie"):
        run_import(path, ImportOptions(tmp_path / "in"))


def test_two_categories_with_keypoints(tmp_path):
    rows = small(tmp_path / "in")
    rows["categories"] += [category(id=2, name="dog", keypoints=NAMES)]
    rows["annotations"][0]["category_id"] = 2
    path = write(tmp_path / "in/a.json", rows)
    with pytest.raises(
        DataError, match=r"2 categories have keypoints \(person, dog\); choose one with --category NAME"
    ):
        run_import(path, ImportOptions(tmp_path / "out"))
    content, *_ = bring(path, tmp_path / "out", category="dog")
    assert (len(content["annotations"]), content["categories"][0]["name"]) == (1, "dog")


def test_pictures_of_one_name_in_two_folders(tmp_path):
    rows = small(tmp_path / "in/x")
    two_pictures(tmp_path / "in/y")
    path = write(tmp_path / "in/labels/a.json", rows)
    with pytest.raises(DataError, match="several pictures have that name"):
        run_import(path, ImportOptions(tmp_path / "out", images=tmp_path / "in"))
    content, *_ = bring(path, tmp_path / "out", images=tmp_path / "in/y")
    assert len(content["images"]) == 2
    for image in rows["images"]:
        image["file_name"] = f"C:\\data\\x\\{image['file_name']}"
    content, *_ = bring(write(path, rows), tmp_path / "two", images=tmp_path / "in")
    assert len(content["images"]) == 2
    assert load_config(tmp_path / "two/config.yaml").DATASET.TRAIN_IMAGES == "../in/x"


def test_points_that_no_group_joins(tmp_path):
    """Two boxes that overlap: a point in one of them is its own, one in both or in none is left out."""
    two_pictures(tmp_path / "in")

    def shape(label, points, kind="point", group=None):
        return {"label": label, "points": points, "shape_type": kind, "group_id": group, "flags": {}}

    boxes = [shape("person", [[5, 5], [50, 60]], "rectangle"), shape("person", [[45, 5], [100, 60]], "rectangle")]
    points = [[10, 10], [30, 40], [47, 30], [110, 70], [60, 10], [90, 50]]
    names = ["nose", "left_hand", "right_hand", "tail", "nose", "left_hand"]
    shapes = [*boxes, *(shape(n, [p]) for n, p in zip(names, points, strict=True))]
    content = {"shapes": shapes, "imagePath": "a.jpg", "imageWidth": 120, "imageHeight": 80}
    write(tmp_path / "in/a.json", content)
    # The picture without boxes: all its points are of one instance, but for the second of a name and lines.
    shapes = [
        shape("nose", [[10, 10]]),
        shape("tail", [[60, 60]]),
        shape("tail", [[9, 9]]),
        shape("x", [[1, 1]] * 2, "line"),
    ]
    write(tmp_path / "in/b.json", {**content, "shapes": shapes, "imagePath": "b.jpg"})
    found, ledger, _ = bring(tmp_path / "in", tmp_path / "out", flip="none")
    rows = [np.array(a["keypoints"]).reshape(-1, 3)[:, :2].tolist() for a in found["annotations"]]
    assert found["categories"][0]["keypoints"] == ["nose", "left_hand", "right_hand", "tail"]
    assert rows == [
        [[10, 10], [30, 40], [0, 0], [0, 0]],
        [[60, 10], [90, 50], [0, 0], [0, 0]],
        [[10, 10], [0, 0], [0, 0], [60, 60]],
    ]
    assert {reason: len(where) for reason, where in ledger.unused.items()} == {
        "points that no group and no box gives to one instance": 2,
        "shapes that are no point, rectangle or polygon": 1,
        "second points of one name in an instance": 1,
    }


def test_label_studios_regions(tmp_path):
    """A turned rectangle, a polygon, an annotation that was cancelled and one that a newer one replaces."""
    two_pictures(tmp_path / "in")
    shared = {"original_width": 120, "original_height": 80}

    def annotation(region, name, when, **more):
        points = [
            {
                **shared,
                "type": "keypointlabels",
                "parentID": "r",
                "value": {"x": x, "y": 50, "keypointlabels": [name + n]},
            }
            for n, x in (("1", 25), ("2", 75))
        ]
        return {"created_at": when, "result": [{**shared, "id": "r", **region}, *points], **more}

    turned = {"x": 50, "y": 25, "width": 25, "height": 50, "rotation": 90, "rectanglelabels": ["dog"]}
    turned = {"type": "rectanglelabels", "value": turned}
    corners = [[10, 10], [90, 10], [90, 90]]
    polygon = {"type": "polygonlabels", "value": {"points": corners, "polygonlabels": ["dog"]}}
    tasks = [
        {"data": {"image": "s3://bucket/x/a.jpg"}, "annotations": [annotation(turned, "p", "2")]},
        {
            "data": {"text": "none", "image": "/data/local-files/?d=x/b.jpg"},
            "annotations": [
                annotation(polygon, "p", "3"),
                annotation(polygon, "q", "1"),
                annotation(polygon, "r", "9", was_cancelled=True),
            ],
        },
    ]
    found, ledger, _ = bring(write(tmp_path / "in/p.json", tasks), tmp_path / "out", flip="none")
    assert found["categories"][0]["name"] == "dog"
    assert found["categories"][0]["keypoints"] == ["p1", "p2"]
    # Turned by 90 degrees about (60, 20): 30 wide and 40 high becomes 40 wide, to the left, and 30 high.
    assert found["annotations"][0]["bbox"] == [20, 20, 40, 30]
    assert found["annotations"][1]["bbox"] == [12, 8, 96, 64]
    assert found["annotations"][1]["area"] == 96 * 64 / 2
    assert found["annotations"][0]["keypoints"] == [30, 40, 2, 90, 40, 2]
    assert list(ledger.unused) == ["older annotations of a task that has a newer one"]


def test_deeplabcuts_limbs_and_visibility(people, tmp_path):
    path = FORMS["deeplabcut_animals"](people, tmp_path / "labels")
    content, ledger, _ = bring(path, tmp_path / "out")
    assert content["categories"][0]["skeleton"] == [[1, 2]]
    assert len(ledger.unused["bodyparts of no animal (individual 'single')"]) == 2
    two_pictures(tmp_path / "in")
    rows = ["scorer,me,me,me,me,me,me", "bodyparts,a,a,a,b,b,b", "coords,x,y,visible,x,y,visible"]
    rows += ["a.jpg,10,20,1,60,70,2", "b.jpg,,,0,30,40,2"]
    (tmp_path / "in/labels.csv").write_text("\n".join(rows))
    content, ledger, _ = bring(tmp_path / "in/labels.csv", tmp_path / "two", flip="none")
    assert [a["keypoints"] for a in content["annotations"]] == [[10, 20, 1, 60, 70, 2]]
    assert list(ledger.unused) == ["instances with neither a box nor two points apart"]


def test_yolos_classes_names_and_lists(people, tmp_path):
    path = yolo(people, tmp_path / "labels")
    data = yaml.safe_load((path / "data.yaml").read_text())
    pictures = sorted((path / "images").rglob("*.jpg"))
    (path / "all.txt").write_text("\n".join(f"./{p.relative_to(path)}" for p in pictures))
    names = [f"left_{i}" if i % 2 else f"right_{i - 1}" for i in range(1, 17)] + ["nose"]
    data |= {"train": "all.txt", "val": None, "names": ["cat", "dog"], "kpt_names": {0: names}, "flip_idx": None}
    (path / "data.yaml").write_text(yaml.safe_dump(data))
    label = sorted((path / "labels").rglob("*.txt"))[0]
    first, *rest = label.read_text().splitlines()
    lines = ["1" + first[1:], "0 0.5 0.5", "0 300 200 50 50" + " 0" * 51, "", *rest]
    label.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"2 classes are labelled \(cat, dog\)"):
        run_import(path, ImportOptions(tmp_path / "out"))
    content, ledger, _ = bring(path, tmp_path / "out", category="cat")
    assert content["categories"][0]["keypoints"] == names
    assert len(content["annotations"]) == len(people_of(people)["annotations"]) - 1
    assert {reason: len(where) for reason, where in ledger.unused.items()} == {
        "lines that do not hold 56 numbers": 1,
        "lines whose box is no fraction of the picture": 1,
        "instances of other classes": 1,
    }
    data["flip_idx"] = [1, 2, 0, *range(3, 17)]
    (path / "data.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(DataError, match="flip_idx must hold 0 to 16, each exchanged with one other or itself"):
        run_import(path, ImportOptions(tmp_path / "out"))


def test_a_second_import_gives_the_same_files(people, tmp_path):
    path = FORMS["roboflow"](people, tmp_path / "labels")
    bring(path, path / "out", split="0.4")
    written = {p.name: p.read_bytes() for p in (path / "out").iterdir()}
    assert set(written) == {f"keypoints{w}.json" for w in ("", "_train", "_test")} | {"skeleton.yaml", "config.yaml"}
    _, ledger, _ = bring(path, path / "out", split="0.4")
    assert ledger.unused == {}
    assert {p.name: p.read_bytes() for p in (path / "out").iterdir()} == written


ODD = st.none() | st.booleans() | st.integers(-5, 500) | st.floats() | st.text(max_size=3) | st.just(10**400)
ODD = st.recursive(
    ODD, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.sampled_from(["x", "id"]), v), max_leaves=5
)
CASES = int(os.environ.get("FUZZ_CASES", 25))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def places(content: object, path: tuple = ()) -> list[tuple]:
    """Where the values of a JSON file stand."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content if isinstance(content, list) else [])
    return [place for key, value in pairs for place in [(*path, key), *places(value, (*path, key))]]


def an_error_or_a_valid_file(path: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    if sentence(lambda: run_import(path, ImportOptions(out), lambda _: None)):
        assert not out.exists()
        return
    # Names that tell no mirror are refused here, after the import.
    refused = sentence(lambda: load_config(out / "config.yaml"))
    if refused:
        assert "flip" in refused
        return
    skeleton = build_skeleton(load_config(out / "config.yaml"))
    _, problems = ground_truth_persons(read_annotations(out / "keypoints.json", skeleton), skeleton)
    assert problems == []


@pytest.mark.parametrize("form", ["coco", "label_studio", "labelme", "cvat"])
@given(data=st.data())
@FUZZ
def test_one_value_broken_is_an_error_or_a_valid_file(form, data, people, tmp_path):
    """Whatever stands in the place of one value: a sentence, or a file that our strict reader reads."""
    if not (tmp_path / "in").exists():
        write(tmp_path / "in/a.json", small(tmp_path / "in")) if form == "coco" else FORMS[form](
            people, tmp_path / "in"
        )
    path = sorted((tmp_path / "in").rglob("*.json"))[0]
    whole = path.read_bytes()
    content = json.loads(whole.decode("utf-8-sig"))
    *inner, last = data.draw(st.sampled_from(places(content)))
    holder = content
    for key in inner:
        holder = holder[key]
    holder[last] = data.draw(ODD)
    try:
        write(path, content)
        an_error_or_a_valid_file(tmp_path / "in" if form == "labelme" else path, tmp_path / "out")
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("form", ["yolo", "deeplabcut_animals"])
@given(data=st.data())
@FUZZ
def test_one_word_broken_is_an_error_or_a_valid_file(form, data, people, tmp_path):
    """The same for the forms that are no JSON: one cell, number or key replaced, or a line dropped."""
    if not (tmp_path / "in").exists():
        FORMS[form](people, tmp_path / "in")
    path = data.draw(
        st.sampled_from(sorted(p for p in (tmp_path / "in").rglob("*") if p.suffix in (".csv", ".txt", ".yaml")))
    )
    whole = path.read_text()
    parts = re.split(r"([,\s]+)", whole)
    parts[data.draw(st.integers(0, len(parts) - 1))] = data.draw(
        st.sampled_from(["", "nan", "-1", "x", "9e9", "1e400", "[", "0"])
    )
    try:
        path.write_text("".join(parts))
        an_error_or_a_valid_file(tmp_path / "in", tmp_path / "out")
    finally:
        path.write_text(whole)


def sentence(action: Callable[[], object]) -> str:
    """What an action that a user can mend is ended with; "" where it is not."""
    try:
        action()
    except PsaPoseError as error:
        words = str(error)
        return words if "\n" not in words else pytest.fail(words)
    return ""


# Training


def one_epoch(form: str, people: Path, tmp_path: Path) -> None:
    """The commands, as the import's last lines name them."""
    labels, out = FORMS[form](people, tmp_path / "labels"), tmp_path / "out"
    words = ["--split", "0.3", "--group-by", "image"] if form != "label_studio_coco" else []
    answer = run_here(REPOSITORY / "tools/import_dataset.py", labels, "--out", out, *words)
    assert (answer.returncode, answer.stderr) == (0, "")
    config = ["--cfg", out / "config.yaml"]
    assert answer.stdout.splitlines()[-3:] == [
        f"  psa-pose {w} --cfg {config[1]}" for w in ("check-dataset", "browse", "train")
    ]
    small_run = [
        *("OUTPUT_DIR", tmp_path / "run", "INPUT.SIZE", "[64,64]", "INPUT.HEATMAP_SIZE", "[16,16]"),
        *("MODEL.NAME", "simple_baseline", "MODEL.DEPTH", 18, "MODEL.WIDTH", 8, "MODEL.HEAD_CHANNELS", 8),
        *("TRAIN.EPOCHS", 1, "TRAIN.BATCH_SIZE", 2, "LOADER.WORKERS", 0, "DEVICE", "cpu", "CODEC.SIGMA", 2.0),
    ]
    for tool in ("check_dataset", "train"):
        answer = run_here(REPOSITORY / f"tools/{tool}.py", *config, *small_run)
        assert answer.returncode == 0, answer.stdout + answer.stderr
    assert (tmp_path / "run/best.pt").is_file()


def test_one_epoch_from_labelme(people, tmp_path):
    one_epoch("labelme", people, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_one_epoch_from_every_form(form, people, tmp_path):
    one_epoch(form, people, tmp_path)


def test_what_infer_writes_comes_back_as_drafts(people, tmp_path):
    name = sorted(path.name for path in (people / "val2017").iterdir())[0]
    keypoints = np.array([[20.0 + 3 * k, 15.0 + 5 * k, 0.1 + 0.05 * k] for k in range(17)])
    writer = CocoWriter(COCO)
    writer.add(7, name, (192, 160), [Person(np.array([18.0, 12.0, 60.0, 90.0]), keypoints, 0.6)])
    writer.save(tmp_path / "keypoints.json")
    content, _, _ = bring(tmp_path / "keypoints.json", tmp_path / "out", images=people / "val2017")
    (person,) = content["annotations"]
    assert content["categories"][0]["keypoints"] == list(COCO.names)
    assert np.allclose(np.reshape(person["keypoints"], (17, 3))[:, :2], keypoints[:, :2])
    assert np.allclose(person["bbox"], [18, 12, 60, 90])
    # Label tools read the third number as a visibility.
    assert person["keypoints"][2::3] == [2] * 17
