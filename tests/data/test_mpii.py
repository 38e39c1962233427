"""MPII's annotations read, trained on and scored, with synthetic people in its form."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from psa_pose.codecs import build_codec
from psa_pose.config import load_config
from psa_pose.data.build import build_test_sets, build_train_set
from psa_pose.data.formats.mpii import read_head_truth, read_mpii
from psa_pose.dataset_tools.check_dataset import run_check
from psa_pose.errors import ConfigError, DataError
from psa_pose.evaluation.test import run_results
from psa_pose.skeleton import COCO, MPII
from tests.runs import run_test, run_train

CONFIGS = Path(__file__).parents[2] / "configs/mpii"
# Where MPII's joints are on a synthetic person, as far as COCO names them.
FROM = {name: COCO.names.index("nose" if name == "head_top" else name) for name in MPII.names if name in COCO.names}
FROM["head_top"] = COCO.names.index("nose")
HEAD = [[40.0, 20.0], [70.0, 60.0]]  # a diagonal of 50 pixels


def entries(content):
    """The persons of a COCO file as MPII's list has them: pixels from 1, scale of 200 pixels."""
    names = {image["id"]: image["file_name"] for image in content["images"]}
    found = []
    for a in content["annotations"]:
        if a["iscrowd"] or not a["num_keypoints"]:
            continue
        points, (x, y, w, h) = np.array(a["keypoints"], float).reshape(-1, 3), a["bbox"]
        joints, flags = np.full((16, 2), -1.0), np.zeros(16, int)
        for name, row in FROM.items():
            k = MPII.names.index(name)
            joints[k], flags[k] = points[row, :2] + 1, points[row, 2] > 0
        found.append(
            {
                "image": names[a["image_id"]],
                "center": [x + w / 2 + 1, y + h / 2 + 1 - 15 * h / 200],
                "scale": h / 200,
                "joints": joints.tolist(),
                "joints_vis": flags.tolist(),
            }
        )
    return found


@pytest.fixture
def mpii(people, tmp_path) -> Path:
    root = tmp_path / "mpii"
    (root / "annot").mkdir(parents=True)
    shutil.copytree(people / "train2017", root / "images")
    shutil.copytree(people / "val2017", root / "images", dirs_exist_ok=True)
    for split, name in (("train2017", "train"), ("val2017", "valid")):
        content = json.loads((people / f"annotations/person_keypoints_{split}.json").read_text())
        (root / f"annot/{name}.json").write_text(json.dumps(entries(content)))
    write_heads(root)
    return root


def write_heads(root, **changes):
    listed = json.loads((root / "annot/valid.json").read_text())
    joints = np.array([entry["joints"] for entry in listed])
    content = {
        "pos_gt_src": joints.transpose(1, 2, 0),
        "jnt_missing": 1 - np.array([entry["joints_vis"] for entry in listed]).T,
        "headboxes_src": np.repeat(np.array(HEAD)[..., None], len(listed), 2),
    }
    savemat(root / "annot/gt_valid.mat", content | changes)


@pytest.fixture
def config(mpii, tmp_path):
    def make(*words):
        small = [
            *("DATASET.ROOT", mpii, "OUTPUT_DIR", tmp_path / "run", "MODEL.PRETRAINED", "", "DEVICE", "cpu"),
            *("INPUT.SIZE", [64, 64], "MODEL.DEPTH", 18, "MODEL.WIDTH", 8),
            *("MODEL.HEAD_CHANNELS", 16, "TRAIN.EPOCHS", 1, "TRAIN.SCHEDULE.MILESTONES", "[1]", "LOADER.WORKERS", 0),
        ]
        return load_config(CONFIGS / "simple_baseline_r50_256x256.yaml", [str(w) for w in [*small, *words]])

    return make


def test_one_person_by_hand(tmp_path):
    """HRNet's conventions: centre (101, 201) and scale 1.5 give a centre of (100, 222.5), a side of 300, padded 375."""
    joints = [[11.0, 21.0]] + [[-1.0, -1.0]] * 15
    entry = {"image": "a.jpg", "center": [101.0, 201.0], "scale": 1.5, "joints": joints, "joints_vis": [1] + [0] * 15}
    path = tmp_path / "valid.json"
    path.write_text(json.dumps([entry, {**entry, "center": [-1, -1]}, {**entry, "image": "b.jpg"}]))
    _, persons, problems = read_mpii(path, MPII)
    assert persons.boxes[0].tolist() == [100 - 150, 222.5 - 150, 300, 300]
    assert persons.joints[0, 0].tolist() == [10, 20]
    assert persons.visible[0].tolist() == [1] + [0] * 15
    assert persons.annotation_ids.tolist() == [1, 3]
    assert [persons.image_names[row] for row in persons.image] == [b"a.jpg", b"b.jpg"]
    assert len(problems) == 1
    assert "person 2 on a.jpg has no centre" in problems[0]


def test_the_crop_is_the_published_one(config):
    cfg = config()
    train = build_train_set(cfg, MPII, build_codec(cfg).grid, print)
    (test_set,) = build_test_sets(cfg, MPII, build_codec(cfg).grid, print, "auto")
    assert train.augmentation is not None
    assert test_set.split == "valid"
    first = json.loads((Path(cfg.DATASET.ROOT) / "annot/valid.json").read_text())[0]
    assert np.allclose(test_set.dataset.regions[0], 1.25 * 200 * first["scale"])
    centre = np.array(first["center"]) + np.array([0, 15 * first["scale"]]) - 1
    assert np.allclose(test_set.dataset.centers[0], centre)


def test_trained_and_tested_with_pckh(config, capsys):
    cfg = config()
    folder = run_train(cfg)
    assert "PCKh@0.1" in (folder / "log.txt").read_text()
    (evaluation,) = run_test(cfg, folder / "best.pt", report=True)
    assert set(MPII.names) < set(evaluation.stats)
    assert 0 <= evaluation.score < 1
    results = json.loads((folder / "test/keypoints_valid_ground_truth_results.json").read_text())
    assert [entry["person"] for entry in results] == list(range(1, evaluation.persons + 1))
    assert run_check(cfg) == 0
    assert f"{evaluation.persons:,} persons with a head's size" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--results scores a COCO"):
        run_results(cfg, folder / "test/keypoints_valid_ground_truth_results.json")


def test_the_truth_itself_scores_all_and_its_distance_counts_in_heads(config, mpii):
    stats = run_test(config(), None, "keypoints")[0].stats
    assert stats["PCKh"] == stats["PCKh@0.1"] == 1
    assert stats["pelvis"] == -1
    listed = json.loads((mpii / "annot/valid.json").read_text())
    joints = np.array([entry["joints"] for entry in listed]).transpose(1, 2, 0)
    # A head's size is 0.6 of its box's diagonal of 50: half of it is 15 pixels, a tenth 3.
    for moved, wanted in ((2.99, (1, 1)), (3.01, (1, 0)), (14.99, (1, 0)), (15.01, (0, 0))):
        write_heads(mpii, pos_gt_src=joints + np.array([moved, 0])[:, None])
        stats = run_test(config(), None, "keypoints")[0].stats
        assert (stats["PCKh"], stats["PCKh@0.1"]) == wanted


def test_a_skipped_person_moves_no_other(config, mpii):
    listed = json.loads((mpii / "annot/valid.json").read_text())
    listed[1]["image"] = "gone.jpg"
    (mpii / "annot/valid.json").write_text(json.dumps(listed))
    with pytest.raises(DataError, match=r"gone\.jpg is missing"):
        run_test(config(), None, "keypoints")
    (evaluation,) = run_test(config("DATASET.ON_ERROR", "skip"), None, "keypoints")
    assert (evaluation.persons, evaluation.score) == (len(listed) - 1, 1)
    assert run_check(config()) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: e.pop("joints"), "has no joints, as in MPII's test list"),
        (lambda e: e.pop("scale"), "needs image, center, scale"),
        (lambda e: e.update(joints=e["joints"][:15]), "needs an image name, a center"),
        (lambda e: e.update(joints_vis=[1] * 15), "as many joints_vis"),
        (lambda e: e.update(center=[1, "x"]), "all finite numbers"),
        (lambda e: e.update(image=""), "needs an image name"),
    ],
)
def test_a_wrong_person_is_named(mpii, change, says):
    path = mpii / "annot/valid.json"
    listed = json.loads(path.read_text())
    change(listed[2])
    path.write_text(json.dumps(listed))
    with pytest.raises(DataError, match="person 3") as error:
        read_mpii(path, MPII)
    assert says in str(error.value)


def test_wrong_truth_and_wrong_configs_are_named(config, mpii):
    path = mpii / "annot/gt_valid.mat"
    write_heads(mpii, headboxes_src=np.zeros((2, 2, 3)))
    with pytest.raises(DataError, match=r"needs pos_gt_src \(16, 2, N\)"):
        read_head_truth(path, MPII)
    persons = len(json.loads((mpii / "annot/valid.json").read_text()))
    write_heads(mpii, headboxes_src=np.zeros((2, 2, persons)))
    with pytest.raises(DataError, match="head box without a size"):
        read_head_truth(path, MPII)
    path.write_bytes(b"MATLAB 5.0 MAT-file" + b"x" * 300)
    with pytest.raises(DataError, match=r"no usable \.mat file"):
        read_head_truth(path, MPII)
    with pytest.raises(DataError, match="cannot be read"):
        read_head_truth(mpii / "gone.mat", MPII)
    write_heads(mpii)
    (mpii / "annot/valid.json").write_text(json.dumps(json.loads((mpii / "annot/valid.json").read_text())[:-1]))
    with pytest.raises(DataError, match="belong to different splits"):
        run_test(config(), None, "keypoints")
    with pytest.raises(ConfigError, match="write 'mpii' for both"):
        config("DATASET.SKELETON", "coco")
    with pytest.raises(ConfigError, match=r"needs gt_valid\.mat"):
        config("DATASET.TEST_HEADS", "")
    with pytest.raises(ConfigError, match="no detector's boxes"):
        config("DATASET.TEST_DETECTIONS", "a.json")
    (mpii / "annot/valid.json").write_text("{}")
    with pytest.raises(DataError, match="not a list of persons"):
        run_test(config(), None, "keypoints")
