"""What is wrong with one's own data is told by a command in one sentence: the file, the reason, the remedy."""

import shutil

import cv2
import numpy as np
import pytest

from psa_pose.config import dump_config
from psa_pose.segmentation.data.label_files import read_indices, write_label
from tests.commands import run_here
from tests.segmentation.layouts import make_voc, write_list
from tests.segmentation.test_segmenter import save
from tests.segmentation.test_task import REPOSITORY


def value_seven(path):
    labels = read_indices(path).copy()
    labels[0, 0] = 7
    write_label(path, labels)


# What is done to a label file, and what is said of it.
LABELS = {
    "missing": (lambda path: path.unlink(), "000002.png is missing"),
    "another size": (lambda path: write_label(path, np.zeros((4, 4), np.uint8)), "is 4x4 pixels, its image 96x80"),
    "a value of no class": (value_seven, "has the values 7, which are neither one of the 5 known ones nor 255"),
    "colours": (lambda path: cv2.imwrite(str(path), np.zeros((80, 96, 3), np.uint8)), "is a colour picture (RGB)"),
}


@pytest.fixture
def tested(scenes, scene_config, tmp_path):
    """A function: words -> the answer of tools/test.py on a copy of the drawn scenes, whose labels are in tmp_path."""
    shutil.copytree(scenes / "images/val", tmp_path / "images")
    shutil.copytree(scenes / "labels/val", tmp_path / "labels")
    cfg = scene_config(
        *("DATASET.FORMAT", "folder", "DATASET.ROOT", tmp_path, "DATASET.TEST_IMAGES", "images"),
        *("DATASET.TEST_LABELS", "labels"),
    )

    def run(*words):
        (tmp_path / "c.yaml").write_text(dump_config(cfg))
        source = () if "--checkpoint" in words else ("--oracle", "labels")
        return run_here(REPOSITORY / "tools/test.py", "--cfg", tmp_path / "c.yaml", "--no-report", *source, *words)

    return run


def check_sentence(done, *words):
    assert done.returncode == 2, done.stdout
    assert len(done.stderr.splitlines()) == 1
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("kind", LABELS)
def test_a_wrong_label_ends_a_test_or_is_counted(kind, tested, tmp_path):
    change, says = LABELS[kind]
    change(tmp_path / "labels/000002.png")
    check_sentence(tested(), says, str(tmp_path / "labels/000002.png"), "DATASET.ON_ERROR skip")
    done = tested("DATASET.ON_ERROR", "skip")
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
    assert "skipped 1 unusable" in done.stdout


def test_an_empty_list_is_named(tested, tmp_path):
    folder = make_voc(tmp_path / "voc")
    write_list(folder / "ImageSets/Segmentation/val.txt", [])
    words = ["DATASET.FORMAT", "voc", "DATASET.ROOT", tmp_path / "voc", "DATASET.TEST_SPLIT", "val"]
    done = tested(*words, "DATASET.CLASSES", "voc", "MODEL.NUM_CLASSES", "21")
    check_sentence(done, "ImageSets/Segmentation/val.txt", "is empty")


def test_an_id_in_train_and_val_is_named(scene_config, tmp_path):
    folder = make_voc(tmp_path / "voc")
    write_list(folder / "ImageSets/Segmentation/train.txt", ["2007_000001", "2008_000003"])
    cfg = scene_config(
        *("DATASET.FORMAT", "voc", "DATASET.ROOT", tmp_path / "voc", "DATASET.CLASSES", "voc"),
        *("MODEL.NUM_CLASSES", 21, "DATASET.TRAIN_SPLIT", "train", "DATASET.TEST_SPLIT", "val"),
    )
    (tmp_path / "c.yaml").write_text(dump_config(cfg))
    done = run_here(REPOSITORY / "tools/train.py", "--cfg", tmp_path / "c.yaml")
    check_sentence(done, "train.txt lists 2008_000003", "val.txt tests on", "take them out")


def test_a_class_list_of_another_length_than_the_checkpoints_is_named(tested, scene_config, tmp_path):
    save(scene_config("MODEL.ATTENTION.NAME", "none"), tmp_path / "c.pt")
    (tmp_path / "four.yaml").write_text("classes: [a, b, c, d]\n")
    words = ["DATASET.CLASSES", tmp_path / "four.yaml", "MODEL.NUM_CLASSES", "4", "MODEL.ATTENTION.NAME", "none"]
    done = tested("--checkpoint", tmp_path / "c.pt", *words)
    said = "trained on other classes than the config's: of its 5 number 0 is 'background', of the config's 4 'a'"
    check_sentence(done, said, "write its DATASET.CLASSES")
