"""Leeds Sports Pose: both forms of its file read, trained on, scored and looked at."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from psa_pose.config import load_config
from psa_pose.data.build import build_test_sets
from psa_pose.data.formats.coco import ground_truth_persons
from psa_pose.data.formats.lsp import read_lsp
from psa_pose.dataset_tools.browse import run_browse
from psa_pose.dataset_tools.check_dataset import checked_files, run_check
from psa_pose.errors import ConfigError, DataError
from psa_pose.evaluation.compare import run_compare
from psa_pose.evaluation.test import run_results
from psa_pose.inference.estimator import PoseEstimator
from psa_pose.skeleton import LSP
from psa_pose.tasks import build_task
from tests.conftest import REPOSITORY
from tests.data.made_lsp import make_lsp, write_joints
from tests.runs import run_test, run_train

SMALL = "lsp/lsp_simple_baseline_r18_128x96"


def picture(path, width=100, height=80):
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))


@pytest.fixture
def three(tmp_path):
    """Joints (3, 14, 2), labelled (3, 14): 10 to 36 across and 20 to 46 down, some without a label."""
    joints = np.stack([np.arange(10, 38, 2.0), np.arange(20, 48, 2.0)], 1)[None].repeat(3, 0)
    labelled = np.ones((3, 14), bool)
    labelled[1, [0, 13]] = False
    return joints + np.arange(3)[:, None, None] / 4, labelled


@pytest.mark.parametrize("extended", [True, False])
def test_both_forms(three, tmp_path, extended):
    joints, labelled = three
    write_joints(tmp_path / "joints.mat", joints, labelled, extended)
    name = "im00002.jpg" if extended else "im0002.jpg"
    picture(tmp_path / "images" / name)
    read = read_lsp(tmp_path / "joints.mat", tmp_path / "images", 2, 3)
    first, second = read.content["annotations"]
    image = read.content["images"][0]
    assert (image["file_name"], image["width"], image["height"]) == (name, 100, 80)
    assert (first["id"], first["image_id"], second["id"]) == (2, 2, 3)
    points = np.array(first["keypoints"]).reshape(14, 3)
    hidden = ~labelled[1]
    if extended:
        # Not labelled: no target, whatever x and y say.
        assert (points[hidden] == 0).all()
        assert (points[~hidden, 2] == 2).all()
        assert first["num_keypoints"] == 12
        around = [12.25 - 2.2, 22.25 - 2.2, 22 + 4.4, 22 + 4.4]
    else:
        assert points[:, 2].tolist() == np.where(hidden, 1, 2).tolist()
        assert first["num_keypoints"] == 14
        around = [10.25 - 2.6, 20.25 - 2.6, 26 + 5.2, 26 + 5.2]
    assert (points[~hidden, :2] == joints[1][~hidden]).all()
    assert first["bbox"] == pytest.approx(around)
    assert first["area"] == pytest.approx(0.53 * around[2] * around[3])
    persons, problems = ground_truth_persons(read, LSP)
    assert (len(persons), problems) == (2, [])
    assert persons.visible.sum() == labelled[1:].sum() if extended else 28


def test_one_person_is_read_though_matlab_drops_the_last_axis(three, tmp_path):
    write_joints(tmp_path / "joints.mat", three[0][:1], three[1][:1])
    assert len(read_lsp(tmp_path / "joints.mat", tmp_path).content["annotations"]) == 1


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros((14, 2, 3)), r"needs joints of \(14, 3, n\)"),
        (np.zeros((3, 14)).astype(object), r"needs joints of \(14, 3, n\)"),
        (np.full((14, 3, 2), 2.0), "third row of joints must be 0 or 1"),
        (np.where(np.arange(3)[:, None] < 2, np.nan, 1.0)[None].repeat(14, 0), "x and y"),
    ],
)
def test_another_file_is_refused(tmp_path, values, says):
    savemat(tmp_path / "joints.mat", {"joints": values})
    with pytest.raises(DataError, match=says):
        read_lsp(tmp_path / "joints.mat", tmp_path)


def test_a_range_beyond_the_file_and_a_missing_file_are_named(three, tmp_path):
    write_joints(tmp_path / "joints.mat", *three)
    with pytest.raises(DataError, match=r"lists 3 images, not 4: images 2 to 4 are wanted"):
        read_lsp(tmp_path / "joints.mat", tmp_path, 2, 4)
    with pytest.raises(DataError, match="cannot be read"):
        read_lsp(tmp_path / "gone.mat", tmp_path)
    for words, says in (
        (["DATASET.TRAIN_RANGE", "[3, 2]"], r"DATASET\.TRAIN_RANGE is \[3, 2\]; give the first and the last"),
        (["DATASET.TEST_RANGE", "[0, 2]"], "from 1"),
        (["DATASET.SKELETON", "coco"], "write 'lsp' for both"),
        (["DATASET.TEST_DETECTIONS", "a.json"], "'lsp' has no detector's boxes"),
    ):
        with pytest.raises(ConfigError, match=says):
            load_config(SMALL, words)


@pytest.fixture
def config(people, tmp_path):
    """A function: overrides -> config of a very small run on synthetic people in LSP's form; six are tested."""
    count = make_lsp(people, tmp_path / "lsp")

    def make(*words):
        small = [
            *("DATASET.ROOT", tmp_path / "lsp", "OUTPUT_DIR", tmp_path / "run", "DEVICE", "cpu"),
            *("DATASET.TRAIN_RANGE", [1, count - 6], "DATASET.TEST_RANGE", [count - 5, count]),
            *("INPUT.SIZE", [64, 64], "MODEL.WIDTH", 8, "MODEL.HEAD_CHANNELS", 16, "CODEC.SIGMA", 0),
            *("TRAIN.EPOCHS", 1, "TRAIN.BATCH_SIZE", 8, "LOADER.WORKERS", 0),
        ]
        return load_config(SMALL, [str(word) for word in [*small, *words]])

    return make


def test_trained_tested_compared_and_looked_at(config, tmp_path, capsys):
    cfg = config()
    assert run_check(cfg) == 0
    assert "warning" not in (said := capsys.readouterr().out), said
    folder = run_train(cfg)
    assert "PCK@0.2" in (folder / "log.txt").read_text()
    first, last = cfg.DATASET.TEST_RANGE
    (evaluation,) = run_test(cfg, folder / "best.pt", report=True)
    assert evaluation.split == f"images_{first}-{last}"
    assert evaluation.score == evaluation.stats["PCK@0.2"]
    assert {"AP", "head", "PCK AUC", "PCKh@0.5", *LSP.names} < set(evaluation.stats)
    stem = folder / f"test/keypoints_images_{first}-{last}_ground_truth"
    page = stem.with_name(stem.name + "_report.html").read_text()
    assert "<h2>PCK, percent</h2>" in page
    results = stem.with_name(stem.name + "_results.json")
    assert run_results(cfg, results).stats == pytest.approx(evaluation.stats, abs=1e-4)
    run_test(config("OUTPUT_DIR", tmp_path / "oracle"), None, "keypoints")
    answer = run_compare(tmp_path / "oracle/test" / results.name, results, page=tmp_path / "c.html", cfg=cfg)
    assert answer.stats[0]["PCK@0.2"] == answer.stats[0]["PCKh@0.5"] == 1
    assert answer.differences["PCK@0.2"].value == evaluation.score - 1
    assert "PCK AUC" in (tmp_path / "c.html").read_text()
    assert run_browse(cfg, "test", 3, tmp_path / "b.png") == 3
    estimator = PoseEstimator.from_checkpoint(folder / "best.pt", device="cpu")
    (person,) = estimator(tmp_path / "lsp/images/im00001.jpg")
    assert person.keypoints.shape == (14, 3)


def test_the_truth_scores_all_and_an_unlabelled_joint_does_not_count(config, tmp_path):
    (evaluation,) = run_test(config(), None, "keypoints")
    assert evaluation.stats["PCK@0.2"] == evaluation.stats["PCKh@0.5"] == evaluation.stats["AP"] == 1
    assert evaluation.stats["PCK AUC"] > 0.99
    content = json.loads(next((tmp_path / "run/test").glob("*_annotations.json")).read_text())
    assert len(content["images"]) == len(content["annotations"]) == evaluation.images == 6


def test_a_missing_picture_is_named_or_left_out(config, tmp_path):
    number = config().DATASET.TEST_RANGE[0]
    (tmp_path / f"lsp/images/im{number:05d}.jpg").unlink()
    with pytest.raises(DataError, match=rf"im{number:05d}\.jpg is missing"):
        run_test(config(), None, "keypoints")
    (evaluation,) = run_test(config("DATASET.ON_ERROR", "skip"), None, "keypoints")
    assert evaluation.persons == 5
    assert run_check(config()) == 1


def test_a_range_of_a_coco_file(tiny_config):
    """Its persons are those of the images counted, boxes of others are left aside, and the result file can be read."""
    task = build_task(tiny_config("DATASET.TEST_RANGE", [2, 5], "DATASET.TRAIN_RANGE", [1, 3]))
    everyone = build_task(tiny_config())
    whole = [set(t.dataset.persons.image_ids[t.dataset.persons.image]) for t in everyone.test_sets(print)]
    for test_set, ids in zip(task.test_sets(print), whole, strict=True):
        listed = test_set.annotations.content["images"]
        assert test_set.split == "val2017_2-5"
        assert len(listed) == 4
        chosen = test_set.dataset.persons.image_ids[test_set.dataset.persons.image]
        assert set(chosen) == ids & {image["id"] for image in listed}
    assert 0 < len(task.train_set(print)) < len(everyone.train_set(print))
    evaluation = run_test(task.cfg, None, "keypoints")[0]
    assert (evaluation.images, evaluation.score) == (4, 1)
    results = next((Path(task.cfg.OUTPUT_DIR) / "test").glob("*_results.json"))
    # The file beside it holds the four images, so that it is scored again as it was.
    assert run_compare(results, results).stats[0]["AP"] == 1


@pytest.fixture(scope="session")
def lspet():
    root = REPOSITORY.parent / "shared/data/lspet"
    if not root.is_dir():
        pytest.skip(f"no photographs of LSP Extended in {root}")
    return root


def test_photographs_pass_the_check_and_the_oracle(lspet, tmp_path):
    few = ["DATASET.TRAIN_RANGE", "[1, 150]", "DATASET.TEST_RANGE", "[6001, 6050]", "OUTPUT_DIR", str(tmp_path)]
    cfg = load_config(SMALL, ["DATASET.ROOT", str(lspet), "DEVICE", "cpu", "LOADER.WORKERS", "0", *few])
    assert [findings for _, findings, _ in checked_files(cfg)] == [[], []]
    (evaluation,) = run_test(cfg, None, "keypoints")
    assert (evaluation.persons, evaluation.score, evaluation.stats["AP"]) == (50, 1, 1)


@pytest.mark.slow
def test_all_photographs_pass_the_check(lspet):
    cfg = load_config(SMALL, ["DATASET.ROOT", str(lspet)])
    assert [findings for _, findings, _ in checked_files(cfg)] == [[], []]
    (test_set,) = build_test_sets(cfg, LSP, "unbiased", print, "auto")
    assert len(test_set.dataset) == 1000
