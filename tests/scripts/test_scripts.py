"""The study, and boxes for measurements, as a user starts them."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from psa_pose.evaluation.compare import run_compare

ROOT = Path(__file__).parents[2]


def run(script, *arguments):
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_jittered_boxes_are_read_as_detections(people, tmp_path):
    annotations, out = people / "annotations/person_keypoints_val2017.json", tmp_path / "boxes.json"
    answer = run("scripts/jitter_boxes.py", "--annotations", annotations, "--out", out, "--per-image", 20)
    assert answer.returncode == 0, answer.stderr
    boxes = json.loads(out.read_text())
    images = {box["image_id"] for box in boxes}
    assert len(boxes) == 20 * len(images)
    assert images <= {image["id"] for image in json.loads(annotations.read_text())["images"]}
    assert all(min(box["bbox"][2:]) > 0 and 0 < box["score"] <= 1 for box in boxes)
    # Consecutive boxes are of one image, so that it is decoded once.
    assert [box["image_id"] for box in boxes] == sorted(box["image_id"] for box in boxes)


@pytest.mark.slow
def test_study_trains_tests_tabulates_and_goes_on(people, tmp_path):
    tiny = ["DATASET.ROOT", people, "MODEL.WIDTH", 16, "MODEL.HEAD_CHANNELS", 8, "TRAIN.EPOCHS", 1, "LOADER.WORKERS", 0]
    arguments = ["--rows", "none", "psa_p:fig2", "--seeds", 0, "--out", tmp_path / "study", *tiny]
    first = run("tools/study.py", *arguments)
    assert first.returncode == 0, first.stderr
    study = json.loads((tmp_path / "study/study.json").read_text())
    assert list(study["gates"]) == ["psa_p:fig2"]
    (gates,) = study["gates"]["psa_p:fig2"]["runs"]
    assert len(gates["history"]) == 1
    assert all(len(blocks) == 8 and min(blocks.values()) > 0 for blocks in gates["history"].values())
    assert gates.keys() == {"history", "score", "constant"}
    assert all(len(values) == 17 for values in study["gates"]["psa_p:fig2"]["at_joints"].values())
    assert {len(runs) for runs in study["runs"].values()} == {1}
    assert {row["block"] for row in study["rows"]} == {"none", "psa_p:fig2"}
    assert {row["protocol"] for row in study["rows"]} == {"ground_truth", "detector"}
    assert (tmp_path / "study/study.md").read_text().count("\n") == 4
    assert (tmp_path / "study/gates_psa_p_fig2.png").exists()
    assert "Spatial gates of psa_p:fig2" in (tmp_path / "study/study.html").read_text()
    # With one seed the difference is that of two result files.
    pair = [tmp_path / f"study/{n}_seed0/test/keypoints_val2017_detector_results.json" for n in ("none", "psa_p_fig2")]
    alone = run_compare(*pair, info=lambda _: None).differences["AP"]
    (row,) = (r for r in study["rows"] if r["block"] == "psa_p:fig2" and r["protocol"] == "detector")
    moved = row["differences"]["AP"]["images"]
    assert moved["value"] == pytest.approx(100 * alone.value)
    assert [moved["low"], moved["high"]] == pytest.approx([100 * alone.low, 100 * alone.high], abs=1e-4)
    assert moved["p_value"] == alone.p_value
    svg = ElementTree.parse(tmp_path / "study/study.svg")
    assert len(svg.findall(".//{*}circle")) == 4
    again = run("tools/study.py", *arguments)
    assert "persons/s" not in again.stdout
    assert again.stdout.splitlines()[-5:] == first.stdout.splitlines()[-5:]
    other = run("tools/study.py", *arguments, "TRAIN.BATCH_SIZE", 8)
    assert other.returncode == 2
    assert "another config" in other.stdout
    assert "error: 2 of 2 rows failed" in other.stderr
