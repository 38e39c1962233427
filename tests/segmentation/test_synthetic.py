import json

import numpy as np
import pytest

from psa_pose.errors import DataError
from psa_pose.segmentation.classes import read_classes
from psa_pose.segmentation.data.label_files import index_table, read_label
from psa_pose.segmentation.data.pictures import folder_pictures, missing_files
from psa_pose.segmentation.data.synthetic import SYNTHETIC, draw_scene, generate, image_folder, label_folder


def files(root) -> dict:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_set_is_one_of_ones_own_and_does_not_depend_on_workers(tmp_path):
    for workers in (1, 2):
        generate(tmp_path / str(workers), {"train": 5, "val": 3}, 1, (96, 80), workers=workers, progress=False)
    root = tmp_path / "1"
    assert files(root) == files(tmp_path / "2")
    assert read_classes(root / "classes.yaml") == SYNTHETIC
    for split, count in (("train", 5), ("val", 3)):
        pictures = folder_pictures(image_folder(root, split), label_folder(root, split))
        assert len(pictures) == count
        assert missing_files(pictures)[0].all()
        assert read_label(pictures.labels[0], index_table(5), (96, 80)).shape == (80, 96)


def test_scenes_are_their_own_and_hold_every_class():
    scenes = [draw_scene(0, split, index, (128, 96)) for split in ("train", "val") for index in range(6)]
    assert len({image.tobytes() for image, _ in scenes}) == 12
    counts = sum(np.bincount(label.ravel(), minlength=256) for _, label in scenes)
    assert (counts[:5] > 0).all()
    assert counts[5:255].sum() == 0
    assert counts[255] < 0.15 * counts.sum()
    again, _ = draw_scene(0, "train", 3, (128, 96))
    np.testing.assert_array_equal(again, scenes[3][0])
    assert not (draw_scene(0, "train", 3, (128, 96), (0, 0))[1] == 4).any()


def test_the_same_set_is_not_drawn_twice_and_an_unfinished_one_is(tmp_path):
    root = tmp_path / "data"
    generate(root, {"train": 2}, 0, (64, 64), workers=1, progress=False)
    marker = root / "synthetic.json"
    stamp = marker.stat().st_mtime_ns
    generate(root, {"train": 2}, 0, (64, 64), workers=1, progress=False)
    assert marker.stat().st_mtime_ns == stamp
    before = files(root)
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"complete": False}))
    (image_folder(root, "train") / "000001.jpg").write_bytes(b"half")
    generate(root, {"train": 2}, 0, (64, 64), workers=1, progress=False)
    assert files(root) == before
    generate(root, {"test": 1}, 0, (64, 64), workers=1, progress=False)
    assert not image_folder(root, "train").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/mine.jpg").write_text("x")
    with pytest.raises(DataError, match="choose another folder"):
        generate(tmp_path, {"train": 1}, workers=1, progress=False)
    assert (tmp_path / "images/mine.jpg").exists()


@pytest.mark.parametrize(
    ("sizes", "options", "reason"),
    [
        ({}, {}, "no images"),
        ({"train": 0}, {}, "no images"),
        ({"../x": 1}, {}, "folder"),
        ({"train": 1}, {"image_size": (32, 64)}, "too small"),
        ({"train": 1}, {"people": (2, 1)}, "fewest"),
    ],
)
def test_wrong_parameters_are_named(tmp_path, sizes, options, reason):
    with pytest.raises(DataError, match=reason):
        generate(tmp_path, sizes, workers=1, progress=False, **options)
