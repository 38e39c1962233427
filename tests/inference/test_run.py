"""tools/infer.py and what it is made of."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from psa_pose.checkpoints import save_checkpoint
from psa_pose.detector import PersonDetector
from psa_pose.engine.content import checkpoint_content
from psa_pose.errors import CheckpointError, DataError
from psa_pose.estimator import PoseEstimator
from psa_pose.inference.boxes import boxes_of_file, whole_picture
from psa_pose.inference.run import run_infer
from psa_pose.inference.sources import find_files, open_video, read_frames
from psa_pose.models import build_model
from psa_pose.skeleton import COCO

TOOL = Path(__file__).parents[2] / "tools/infer.py"
FRAMES, BROKEN = 12, 5


@pytest.fixture
def checkpoint(tiny_config, tmp_path) -> Path:
    cfg = tiny_config()
    save_checkpoint(tmp_path / "c.pt", checkpoint_content(cfg, COCO, build_model(cfg), None, 1, -1.0))
    return tmp_path / "c.pt"


@pytest.fixture
def video(tmp_path) -> Path:
    """Frames whose brightness is their number times 20."""
    path = tmp_path / "short.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for number in range(FRAMES):
        writer.write(np.full((64, 96, 3), number * 20, np.uint8))
    writer.release()
    return path


def spoil(video: Path) -> None:
    """Overwrite one frame's JPEG with zeros."""
    data = bytearray(video.read_bytes())
    starts = [i for i in range(len(data)) if data[i : i + 3] == b"\xff\xd8\xff"]
    end = data.index(b"\xff\xd9", starts[BROKEN]) + 2
    data[starts[BROKEN] : end] = bytes(end - starts[BROKEN])
    video.write_bytes(data)


def run(*words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, TOOL, *words]
    return subprocess.run([str(w) for w in command], capture_output=True, text=True, timeout=300)


def test_the_command_draws_lists_and_reports_what_it_cannot_read(people, checkpoint, tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(people / "val2017", folder)
    count = len(list(folder.iterdir()))
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    boxes = people / "person_detection_results/val2017_person_detections.json"
    out = tmp_path / "out"
    done = run("--checkpoint", checkpoint, "--boxes", boxes, "--box-score", 0, "--out", out, folder)
    assert done.returncode == 1, done.stderr
    assert "torn.jpg" in done.stderr
    assert done.stdout.splitlines()[-1].endswith(f"results are in {out}")
    assert len(list(out.glob("*_pose.*"))) == count
    found = json.loads((out / "keypoints.json").read_text())
    wanted = [d for d in json.loads(boxes.read_text()) if d["category_id"] == 1]
    assert len(found["images"]) == count
    # torn.jpg is no number: all ids are then counted.
    assert sorted(a["bbox"] for a in found["annotations"]) == sorted(d["bbox"] for d in wanted)
    assert all(len(a["keypoints"]) == 51 for a in found["annotations"])
    assert found["categories"][0]["keypoints"] == list(COCO.names)
    again = run("--checkpoint", checkpoint, "--whole-picture", "--out", out, f"{folder}/*[0-9].*")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("broken", [False, True])
def test_as_many_frames_come_out_as_go_in(video, checkpoint, tmp_path, broken):
    if broken:
        spoil(video)
    estimator = PoseEstimator.from_checkpoint(checkpoint, "cpu")
    problems = run_infer(estimator, [video], whole_picture, tmp_path / "out")
    assert open_video(tmp_path / "out/short_pose.mp4").decodable == FRAMES
    found = json.loads((tmp_path / "out/short_keypoints.json").read_text())
    assert [image["id"] for image in found["images"]] == list(range(FRAMES))
    with_people = [a["image_id"] for a in found["annotations"]]
    assert with_people == [n for n in range(FRAMES) if not (broken and n == BROKEN)]
    assert len(problems) == broken
    assert all(f"1 of {FRAMES} frames" in p and f"frame {BROKEN} first" in p for p in problems)


def test_frames_after_a_broken_one_keep_their_place(video):
    spoil(video)
    for number, frame in enumerate(read_frames(open_video(video))):
        assert (frame is None) == (number == BROKEN)
        assert frame is None or abs(frame.mean() - number * 20) < 4


def test_files_are_found_once_and_a_wrong_word_is_refused(people, tmp_path):
    folder = people / "val2017"
    inside = sorted(folder.iterdir())
    assert find_files([str(folder), str(inside[0]), f"{folder}/*"]) == inside
    with pytest.raises(DataError, match="names no picture"):
        find_files([str(tmp_path / "nothing*")])


def test_a_wrong_detection_file_is_refused(tmp_path):
    path = tmp_path / "boxes.json"
    good = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    path.write_text(json.dumps([good, good | {"category_id": 2}, good | {"score": 0.1}]))
    boxes, scores = boxes_of_file(path, 0.3)(Path("a/0007.jpg"), np.zeros((1, 1, 3)))
    assert (boxes.tolist(), scores.tolist()) == ([[1, 2, 3, 4]], [0.5])
    assert len(boxes_of_file(path)(Path("8.jpg"), np.zeros((1, 1, 3)))[0]) == 0
    for wrong in ({}, [3], [good | {"bbox": [1, 2]}], [good | {"score": "x"}]):
        path.write_text(json.dumps(wrong))
        with pytest.raises(DataError, match="detection file"):
            boxes_of_file(path)


def test_detector_weights_are_strict_and_a_failed_download_names_the_alternatives(tmp_path, monkeypatch):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="missing"):
        PersonDetector.from_torchvision(torch.device("cpu"), tmp_path / "w.pt")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(CheckpointError, match=r"no network.*--detector-weights.*--boxes.*--whole-picture"):
        PersonDetector.from_torchvision(torch.device("cpu"))


def test_the_detector_gives_persons_as_boxes():
    class Found(torch.nn.Module):
        def forward(self, images):
            boxes = torch.tensor([[10.0, 20, 40, 80], [0, 0, 5, 5], [1, 1, 9, 9]])
            return [{"boxes": boxes, "labels": torch.tensor([1, 2, 1]), "scores": torch.tensor([0.9, 0.9, 0.2])}]

    boxes, scores = PersonDetector(Found(), torch.device("cpu"))(np.zeros((90, 90, 3), np.uint8))
    assert boxes.tolist() == [[10, 20, 30, 60]]
    assert scores.tolist() == pytest.approx([0.9])
