"""tools/browse.py: what it shows is what the network is fed."""

import base64
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from psa_pose.codecs import build_codec
from psa_pose.config.skeleton import build_skeleton
from psa_pose.data.build import build_train_set
from psa_pose.dataset_tools.browse import _drawn, run_browse
from psa_pose.errors import ConfigError, DataError
from psa_pose.skeleton import COCO
from psa_pose.visualization.samples import BOX, StoredSample, sample_sheet, show_sample
from psa_pose.visualization.sheets import CropView
from tests.data.photographs import photograph

TOOL = Path(__file__).parents[2] / "tools/browse.py"
QUICKSTART = Path(__file__).parents[2] / "configs/synthetic/quickstart.yaml"
SOME = ("AUGMENT.SCALE", 0.3, "AUGMENT.ROTATION", 40, "AUGMENT.HALF_BODY_PROB", 0.5)


def test_the_command_writes_a_page_that_needs_nothing_else(people, tmp_path):
    out = tmp_path / "new/page.html"
    command = [sys.executable, TOOL, "--cfg", QUICKSTART, "--count", 5, "--out", out, "DATASET.ROOT", people]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(f"are in {out}")
    page = out.read_text()
    assert page.count("<figure>") == 5
    assert not re.search(r"https?:|<script|<link", page)
    assert "width=device-width" in page
    pictures = [base64.b64decode(data) for data in re.findall(r"base64,([^']+)'", page)]
    shapes = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape for data in pictures]
    # Stored, crop, targets: of one height, as long as the stored picture is not too wide for it.
    assert len(shapes) == 15
    assert {shape for number, shape in enumerate(shapes) if number % 3} == {(256, 192, 3)}
    assert len(set(re.findall(r"annotation \d+", page))) == 5
    assert len(re.findall(r"window \d\.\d\d times the plain one", page)) == 5


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_same_seed_gives_the_same_sheet(tiny_config, tmp_path, split):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run_browse(tiny_config(*SOME, "SEED", seed), split, 3, tmp_path / f"{name}.png")
    a, b, c = (cv2.imread(str(tmp_path / f"{name}.png")) for name in "abc")
    assert np.array_equal(a, b)
    assert a.shape != c.shape or not np.array_equal(a, c)


def test_photographs_of_a_turned_camera_are_shown_upright(tiny_config, people, tmp_path):
    """The same pictures, stored on their side with EXIF's note of it: the same sheet."""
    sheets, root = [], tmp_path / "turned"
    shutil.copytree(people, root)
    for orientation in (1, 6):
        for path in (people / "train2017").iterdir():
            pixels = cv2.imread(str(path))
            stored = cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE) if orientation == 6 else pixels
            # Without loss; the decoder goes by the content.
            (root / "train2017" / path.name).write_bytes(photograph(stored, orientation, ".png"))
        run_browse(tiny_config("DATASET.ROOT", root), "train", 2, tmp_path / f"{orientation}.png")
        sheets.append(cv2.imread(str(tmp_path / f"{orientation}.png")))
    assert np.array_equal(*sheets)


def test_a_training_sees_first_what_is_shown_and_the_words_say_what_was_drawn(tiny_config, tmp_path):
    cfg = tiny_config(*SOME)
    out = tmp_path / "page.html"
    run_browse(cfg, "train", 100, out)
    skeleton, grid = build_skeleton(cfg), build_codec(cfg).grid
    dataset = build_train_set(cfg, skeleton, grid, print)
    page = out.read_text()
    said = set()
    for row in range(len(dataset)):
        words = _drawn(dataset, (0, row))
        assert f"annotation {dataset.persons.annotation_ids[row]}<br>" in page
        assert words in page
        matrix = dataset.sample((0, row)).matrix
        assert (np.linalg.det(matrix[:, :2]) < 0) == ("not mirrored" not in words)
        angle = np.rad2deg(np.arctan2(-matrix[1, 0], matrix[1, 1]))
        turned = re.search(r"turned by ([+-]\d+)", words)
        assert abs(angle - (int(turned[1]) if turned else 0)) < 0.51
        plain = dataset.regions[row]
        span = dataset.input_size[0] - (grid == "unbiased")
        share = span / np.sqrt(abs(np.linalg.det(matrix[:, :2]))) / plain[0]
        assert f"window {share:.2f} times" in words
        said |= {"half" in words, bool(turned), "not mirrored" in words}
    assert page.count("<figure>") == len(dataset)
    assert said == {True, False}


def test_detector_boxes_are_shown_without_keypoints(tiny_config, tmp_path):
    run_browse(tiny_config("TEST.BOXES", "detector"), "test", 2, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("detection, score 0.") + page.count("detection, score 1.") == 2
    assert "0 of 17 keypoints labelled" in page
    assert "not augmented" in page


def test_box_and_joints_lie_where_they_are_on_the_stored_picture():
    image = np.zeros((100, 160, 3), np.uint8)
    crop = CropView(
        np.zeros((256, 192, 3), np.uint8), np.zeros((17, 2)), np.zeros(17), np.zeros((17, 64, 48), np.float32)
    )
    box, window = np.array([40.0, 20, 60, 50]), np.full((4, 2), -50.0)
    stored = StoredSample(image, box, np.zeros((17, 2)), np.zeros(17), window)
    shown = show_sample(stored, crop, COCO, ["a line"])
    picture = shown.pictures[0]
    scale = picture.shape[1] / 160
    ys, xs = np.nonzero((picture >= np.array(BOX) - 60).all(2))
    found = np.array([xs.min(), ys.min(), xs.max(), ys.max()]) / scale
    assert found == pytest.approx([40, 20, 100, 70], abs=1.5)
    assert sample_sheet([shown] * 3, ["title"], 2).shape[1] > 2 * picture.shape[1]


def test_what_cannot_be_shown_is_told(tiny_config, people, tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.png, \.jpg or \.html"):
        run_browse(tiny_config(), "train", 3, tmp_path / "x.gif")
    with pytest.raises(ConfigError, match="--count is 0"):
        run_browse(tiny_config(), "train", 0, tmp_path / "x.png")
    with pytest.raises(ConfigError, match="split 'val'"):
        run_browse(tiny_config(), "val", 1, tmp_path / "x.png")
    with pytest.raises(DataError, match="does not exist"):
        run_browse(tiny_config("DATASET.TRAIN_IMAGES", "nowhere"), "train", 1, tmp_path / "x.png")


def test_a_torn_image_is_told_or_left_out(tiny_config, people, tmp_path):
    root, out = tmp_path / "copy", tmp_path / "page.html"
    shutil.copytree(people, root)
    torn = min((root / "train2017").iterdir())
    torn.write_bytes(torn.read_bytes()[:500])
    with pytest.raises(DataError, match=torn.name):
        run_browse(tiny_config("DATASET.ROOT", root), "train", 100, out)
    said = []
    run_browse(tiny_config("DATASET.ROOT", root, "DATASET.ON_ERROR", "skip"), "train", 100, out, said.append)
    assert any(torn.name in line for line in said)
    page = out.read_text()
    assert torn.name not in page
    assert page.count("<figure>") > 5
