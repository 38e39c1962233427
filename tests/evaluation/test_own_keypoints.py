"""A data set of five keypoints under other names, from YAML alone: trained, tested, compared, checked."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from psa_pose.checkpoints import load_checkpoint
from psa_pose.config import dump_config, load_config
from psa_pose.errors import CheckpointError, ConfigError, DataError
from psa_pose.evaluation.submission import run_submission
from psa_pose.evaluation.test import run_results
from psa_pose.skeleton import COCO
from psa_pose.tasks import build_task
from tests.runs import run_test

REPOSITORY = Path(__file__).parents[2]
# Our names of five of COCO's joints, not in COCO's order.
PUPPET = {
    "right_hand": "right_wrist",
    "head": "nose",
    "left_hand": "left_wrist",
    "left_foot": "left_ankle",
    "right_foot": "right_ankle",
}
SKELETON = {"names": list(PUPPET), "limbs": [["head", "left_hand"], ["head", "right_hand"]], "sigmas": 0.1}


def of_puppets(content):
    """A COCO annotation file's content with the puppet's joints only."""
    rows = [COCO.names.index(name) for name in PUPPET.values()]
    for annotation in content["annotations"]:
        points = [annotation["keypoints"][3 * row : 3 * row + 3] for row in rows]
        annotation["keypoints"] = [number for point in points for number in point]
        annotation["num_keypoints"] = sum(v > 0 for _, _, v in points)
    content["categories"] = [{"id": 1, "name": "puppet", "keypoints": list(PUPPET), "skeleton": [[2, 3], [2, 1]]}]
    return content


@pytest.fixture
def config_file(people, tmp_path, tiny_config) -> Path:
    """The YAML file of a very small run on puppets."""
    root = tmp_path / "puppets"
    shutil.copytree(people, root)
    for path in (root / "annotations").iterdir():
        path.write_text(json.dumps(of_puppets(json.loads(path.read_text()))))
    (root / "puppet.yaml").write_text(yaml.safe_dump(SKELETON))
    values = yaml.safe_load(dump_config(tiny_config()))
    values["DATASET"] |= {"ROOT": str(root), "SKELETON": "puppet.yaml"}
    values["MODEL"]["NUM_JOINTS"] = 0
    path = tmp_path / "puppet.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def call(monkeypatch, capsys, tool, *arguments) -> tuple[int, str]:
    """Exit status and output of a command."""
    monkeypatch.setattr(sys, "argv", [tool, *map(str, arguments)])
    status = 0
    try:
        runpy.run_path(str(REPOSITORY / f"tools/{tool}.py"), run_name="__main__")
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_own_keypoints_from_yaml_alone(config_file, monkeypatch, capsys):
    status, said = call(monkeypatch, capsys, "check_dataset", "--cfg", config_file)
    assert (status, "skeleton puppet: 5 keypoints, 2 mirror pairs" in said) == (0, True)

    status, said = call(monkeypatch, capsys, "train", "--cfg", config_file)
    folder = Path(load_config(config_file).OUTPUT_DIR)
    log = (folder / "log.txt").read_text()
    assert status == 0, said
    assert "5 keypoints, 2 mirror pairs, no upper body: no half-body crops, OKS sigmas 0.1" in log
    content = load_checkpoint(folder / "best.pt")
    assert content["skeleton"]["names"] == list(PUPPET)
    assert content["skeleton"]["sigmas"] == [0.1] * 5
    assert content["model"]["final_layer.weight"].shape[0] == 5
    assert (folder / "pictures/train_crops.png").exists()

    status, said = call(
        monkeypatch, capsys, "test", "--cfg", folder / "config.yaml", "--checkpoint", folder / "best.pt"
    )
    assert status == 0, said
    assert re.search(r"ground truth  val2017  yes +\d+ +- +\d+\.\d", said)
    assert re.search(r"detector +val2017  yes +\d+ +\d+\.\d", said)
    results = folder / "test/keypoints_val2017_ground_truth_results.json"
    assert {len(entry["keypoints"]) for entry in json.loads(results.read_text())} == {15}
    page = results.with_name("keypoints_val2017_ground_truth_report.html").read_text()
    assert all(name in page for name in PUPPET)
    assert "left_ankle" not in page

    other = results.with_name("keypoints_val2017_detector_results.json")
    status, said = call(monkeypatch, capsys, "compare", results, other, "--resamples", 10)
    assert status == 0, said
    assert all(name in said for name in PUPPET)
    sigmas = yaml.safe_dump(SKELETON | {"sigmas": 0.2})
    (config_file.parent / "puppets/wide.yaml").write_text(sigmas)
    wide = ["--cfg", config_file, "DATASET.SKELETON", "wide.yaml"]
    status, wider = call(monkeypatch, capsys, "compare", results, other, "--resamples", 10, *wide)
    assert status == 0, wider
    assert said != wider

    with pytest.raises(CheckpointError, match="trained on other keypoints"):
        run_test(load_config(folder / "config.yaml", ["DATASET.SKELETON", "coco", "MODEL.NUM_JOINTS", "0"]),
                 folder / "best.pt")  # fmt: skip
    beside = results.with_name("keypoints_val2017_detector_evaluation.json")
    stated = json.loads(beside.read_text())
    beside.write_text(json.dumps(stated | {"skeleton": stated["skeleton"] | {"sigmas": [0.2] * 5}}))
    assert call(monkeypatch, capsys, "compare", results, other)[0] == 2


def test_the_oracle_and_a_result_file_follow_the_skeleton(config_file, capsys):
    cfg = load_config(config_file)
    evaluation = run_test(cfg, None, "keypoints")[0]
    assert evaluation.stats["AP"] == pytest.approx(1)
    path = Path(cfg.OUTPUT_DIR) / "test/keypoints_val2017_ground_truth_results.json"
    # One joint in five, eight pixels off: its OKS, and with it the AP, depends on the sigmas that the config states.
    results = json.loads(path.read_text())
    for entry in results:
        entry["keypoints"][3] += 8
    path.write_text(json.dumps(results))
    aps = []
    for sigma in (0.02, 0.1, 2.0):
        (Path(cfg.DATASET.ROOT) / "puppet.yaml").write_text(yaml.safe_dump(SKELETON | {"sigmas": sigma}))
        aps.append(run_results(load_config(config_file), path).stats["AP"])
    assert 0 < aps[0] < aps[1] < aps[2] <= 1
    with pytest.raises(ConfigError, match=r"--baselines.*leave it out"):
        run_results(cfg, path, baselines=True)
    with pytest.raises(ConfigError, match=r"--submission.*leave it out"):
        run_submission(build_task(cfg), path, "psa")
    with pytest.raises(DataError, match=r"names keypoints right_hand.*DATASET.SKELETON is coco, without .right_hand."):
        run_test(load_config(config_file, ["DATASET.SKELETON", "coco"]), None, "keypoints")


def test_the_annotations_are_enough(config_file):
    cfg = load_config(config_file, ["DATASET.SKELETON", "annotations"])
    assert cfg.MODEL.NUM_JOINTS == 5
    assert run_test(cfg, None, "keypoints")[0].stats["AP"] == pytest.approx(1)
