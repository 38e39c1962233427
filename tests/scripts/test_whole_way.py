"""The README's way from nothing to a submission, with synthetic people under COCO's names, command by command."""

import json
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.readme_commands import COCO
from tests.readme_workspace import PUBLISHED_BOXES, environment
from tests.scripts.mirror import NEEDED, make_mirror

REPOSITORY = Path(__file__).parents[2]
CFG = "--cfg configs/coco/hrnet/hrnet_w32_256x192.yaml"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What a fresh clone holds, and COCO's archives beside it."""
    root = tmp_path_factory.mktemp("whole") / "clone"
    root.mkdir()
    for name in ("configs", "tools", "scripts"):
        (root / name).symlink_to(REPOSITORY / name)
    return root


def start(clone, command):
    words = [sys.executable if word == "python" else word for word in shlex.split(command)]
    done = subprocess.run(words, cwd=clone, env=environment(clone), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(bool(NEEDED), reason=f"{NEEDED} not installed")
def test_from_the_archives_to_a_submission(people, clone):
    make_mirror(people, clone / "mirror")
    download = "bash scripts/download_coco.sh --archives mirror/archives.txt"
    said = start(clone, download)
    assert said.splitlines()[-1] == "no errors"
    assert "data/coco/train2017/*.jpg: 14 files" in said
    start(clone, f"{download} --only test")

    # By hand, as the download said: boxes of a detector.
    boxes = clone / "data/coco" / PUBLISHED_BOXES
    boxes.parent.mkdir()
    shutil.copy(people / "person_detection_results/val2017_person_detections.json", boxes)
    check = start(clone, f"python tools/check_dataset.py {CFG}")
    assert "person boxes on" in check
    assert check.splitlines()[-1] == "no errors"
    assert "8 images" in start(clone, f"python tools/detect.py {CFG} --eval-only {boxes}")

    train = f"python tools/train.py {CFG} {COCO} TRAIN.LOG_EVERY 1 MODEL.ATTENTION.NAME psa_p"
    start(clone, train)
    run = clone / "output/hrnet_w32_256x192"
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert sum("loss" in step or "train" in step for step in steps) >= 2
    for name in ("last.pt", "best.pt", "final.safetensors", "config.yaml", "log.txt"):
        assert (run / name).is_file()

    network = f"--checkpoint output/hrnet_w32_256x192/best.pt {COCO} MODEL.ATTENTION.NAME psa_p"
    said = start(clone, f"python tools/test.py {CFG} {network} --baselines")
    assert "ground truth  val2017" in said
    assert "detector      val2017" in said
    assert "74.4" in said
    for protocol in ("ground_truth", "detector"):
        assert "<html" in (run / f"test/keypoints_val2017_{protocol}_report.html").read_text()
        assert json.loads((run / f"test/keypoints_val2017_{protocol}_results.json").read_text())

    # The test server's images, with boxes on them.
    shutil.copy(boxes, clone / "data/coco/detections.json")
    said = start(
        clone,
        f"python tools/test.py {CFG} {network} --submission my-algorithm DATASET.TEST_IMAGES test2017 "
        "DATASET.TEST_ANNOTATIONS annotations/image_info_test-dev2017.json DATASET.TEST_DETECTIONS detections.json",
    )
    assert "closed" in said
    (archive,) = (run / "submission").glob("*.zip")
    with zipfile.ZipFile(archive) as content:
        (name,) = content.namelist()
        entries = json.loads(content.read(name))
    assert "test-dev2017_my-algorithm" in name
    assert {len(entry["keypoints"]) for entry in entries} == {51}
