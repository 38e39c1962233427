"""tools/infer.py and what it is made of."""

import json
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from psa_pose.errors import CheckpointError, DataError
from psa_pose.inference.boxes import boxes_of_file, whole_picture
from psa_pose.inference.detector import PersonDetector
from psa_pose.inference.estimator import PoseEstimator
from psa_pose.inference.run import InferOptions, infer_camera, infer_pictures, run_infer
from psa_pose.inference.sources import find_files
from psa_pose.skeleton import COCO
from psa_pose.video import open_camera, open_video, read_frames
from tests.runs import run_test

TOOL = Path(__file__).parents[2] / "tools/infer.py"
# Of conftest.py's video.
FRAMES, BROKEN = 12, 5


def run(*words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, TOOL, *words]
    return subprocess.run([str(w) for w in command], capture_output=True, text=True, timeout=300)


@pytest.fixture
def infer(monkeypatch, capsys):
    """A function: words of the command line -> exit status and standard error, run here: starting takes seconds."""

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, words)])
        try:
            runpy.run_path(str(TOOL), run_name="__main__")
            status = 0
        except SystemExit as error:
            status = int(error.code or 0)
        return status, capsys.readouterr().err

    return call


def test_the_command_draws_lists_and_reports_what_it_cannot_read(people, checkpoint, infer, tmp_path):
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
    assert infer("--checkpoint", checkpoint, "--whole-picture", "--out", out, f"{folder}/*[0-9].*")[0] == 0


@pytest.mark.parametrize("broken", [False, True])
def test_as_many_frames_come_out_as_go_in(request, estimator, tmp_path, broken):
    video = request.getfixturevalue("spoiled" if broken else "video")
    problems = run_infer(estimator, [video], whole_picture, tmp_path / "out")
    assert open_video(tmp_path / "out/short_pose.mp4").decodable == FRAMES
    found = json.loads((tmp_path / "out/short_keypoints.json").read_text())
    assert [image["id"] for image in found["images"]] == list(range(FRAMES))
    with_people = [a["image_id"] for a in found["annotations"]]
    assert with_people == [n for n in range(FRAMES) if not (broken and n == BROKEN)]
    assert len(problems) == broken
    assert all(f"1 of {FRAMES} frames" in p and f"frame {BROKEN} first" in p for p in problems)


def test_frames_after_a_broken_one_keep_their_place(spoiled):
    for number, frame in enumerate(read_frames(open_video(spoiled))):
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
        with pytest.raises(DataError, match=r"(detection|annotation) file"):
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


@pytest.mark.parametrize("codec", ["standard", "udp_gaussian"])
def test_doubles_are_dropped_as_in_the_evaluation(saved, people, tmp_path, codec):
    cfg, path = saved(
        *("CODEC.NAME", codec, "TEST.BOXES", "detector", "TEST.OKS_NMS", 0.3, "TEST.FLIP", False),
        *("TEST.KEYPOINT_SCORE", 0.0, "INPUT.PADDING", 1.4),
    )
    run_test(cfg, path)
    results = json.loads((Path(cfg.OUTPUT_DIR) / "test/keypoints_val2017_detector_results.json").read_text())
    boxes = boxes_of_file(people / cfg.DATASET.TEST_DETECTIONS)
    pictures = sorted((people / "val2017").iterdir())
    estimator = PoseEstimator.from_checkpoint(path, "cpu", flip=False)
    kept = {}
    for doubles in (True, False):
        stems = {picture: tmp_path / f"{doubles}" / picture.stem for picture in pictures}
        assert infer_pictures(estimator, pictures, boxes, stems, InferOptions(doubles=doubles)) == []
        kept[doubles] = json.loads((tmp_path / f"{doubles}/keypoints.json").read_text())["annotations"]
    scores = sorted((entry["image_id"], entry["score"]) for entry in kept[True])
    expected = sorted((entry["image_id"], entry["score"]) for entry in results)
    assert len(scores) == len(expected) < len(kept[False])
    assert np.allclose(scores, expected, rtol=1e-3)


def test_an_annotation_file_gives_boxes_to_pictures_and_to_frames(tmp_path):
    path = tmp_path / "annotations.json"
    images = [{"id": 5, "file_name": "folder/a.jpg"}, {"id": 6, "file_name": "clip.mp4#3"}]
    rows = [
        {"image_id": 5, "bbox": [1, 2, 3, 4], "iscrowd": 0, "category_id": 1},
        {"image_id": 5, "bbox": [9, 9, 9, 9], "iscrowd": 1, "category_id": 1},
        {"image_id": 5, "bbox": [9, 9, 0, 9], "iscrowd": 0},
        {"image_id": 6, "bbox": [5, 6, 7, 8], "score": 0.4},
    ]
    path.write_text(json.dumps({"images": images, "annotations": rows}))
    boxes = boxes_of_file(path, 0.3, frames=True)
    nothing = np.zeros((1, 1, 3))
    assert [part.tolist() for part in boxes(Path("x/a.jpg"), nothing)] == [[[1, 2, 3, 4]], [1.0]]
    assert [part.tolist() for part in boxes(Path("y/clip.mp4#3"), nothing)] == [[[5, 6, 7, 8]], [0.4]]
    assert len(boxes(Path("y/clip.mp4#4"), nothing)[0]) == 0
    assert len(boxes_of_file(path, 0.5)(Path("clip.mp4#3"), nothing)[0]) == 0
    for wrong in ([{"id": 5}], rows), (images, [{"image_id": 7, "bbox": [1, 2, 3, 4]}]), (images, [3]), (images, None):
        path.write_text(json.dumps({"images": wrong[0], "annotations": wrong[1]}))
        with pytest.raises(DataError, match="annotation file"):
            boxes_of_file(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="not to a video's frames"):
        boxes_of_file(path, frames=True)


def test_what_was_written_for_a_video_gives_its_boxes_back(video, checkpoint, infer, tmp_path):
    assert infer("--checkpoint", checkpoint, "--whole-picture", "--out", tmp_path / "a", video) == (0, "")
    listed = tmp_path / "a/short_keypoints.json"
    content = json.loads(listed.read_text())
    assert "track_id" not in content["annotations"][0]
    for annotation in content["annotations"]:
        # Untrained scores are of any size.
        annotation |= {"bbox": [annotation["image_id"], 0, 50, 60], "score": 0.9}
    listed.write_text(json.dumps(content))
    words = ("--smooth", "--boxes", listed, "--frames", 7, "--out", tmp_path / "b", video)
    assert infer("--checkpoint", checkpoint, *words) == (0, "")
    again = json.loads((tmp_path / "b/short_keypoints.json").read_text())
    assert [a["bbox"] for a in again["annotations"]] == [[number, 0, 50, 60] for number in range(7)]
    assert all(a["track_id"] > 0 for a in again["annotations"])
    assert open_video(tmp_path / "b/short_pose.mp4").decodable == 7


def test_a_camera_is_recorded_and_one_that_is_not_there_is_told(video, checkpoint, infer, tmp_path):
    base = ("--checkpoint", checkpoint, "--whole-picture")
    assert infer(*base, "--camera", video, "--frames", 8, "--out", tmp_path / "o") == (0, "")
    assert open_video(tmp_path / "o/camera_short_pose.mp4").decodable == 8
    numbers = [image["id"] for image in json.loads((tmp_path / "o/camera_short_keypoints.json").read_text())["images"]]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 7
    for words, sentence in {
        ("--camera", "97"): "error: camera 97 cannot be opened; check that it is there",
        ("--camera", "0", str(video)): "and not both",
        (): "and not both",
        (str(video), "--frames", "0"): "--frames is 0",
        (str(video), "--overlay", "heatmaps"): "--overlay is for pictures",
    }.items():
        status, said = infer(*base, *words)
        assert (status, sentence in said) == (2, True), said


def test_ctrl_c_ends_a_camera_and_keeps_what_there_is(video, estimator, tmp_path):
    def boxes(path: Path, _: np.ndarray):
        if path.name.endswith("#6"):
            signal.raise_signal(signal.SIGINT)
        return None, None

    assert infer_camera(estimator, open_camera(str(video)), "camera x", boxes, tmp_path / "x", InferOptions()) == []
    listed = json.loads((tmp_path / "x_keypoints.json").read_text())["images"]
    assert open_video(tmp_path / "x_pose.mp4").decodable == listed[-1]["id"] + 1 if listed else True


def test_overlays_are_written_for_every_person(people, checkpoint, infer, saved, tmp_path):
    picture = min((people / "val2017").iterdir())
    boxes = people / "annotations/person_keypoints_val2017.json"
    words = ("--boxes", boxes, "--out", tmp_path / "o", "--overlay", "heatmaps", "gates")
    assert infer("--checkpoint", checkpoint, *words, picture) == (0, "")
    count = len(json.loads((tmp_path / "o/keypoints.json").read_text())["annotations"])
    assert count > 0
    for what in ("heatmaps", "gates"):
        written = sorted(path.name for path in (tmp_path / "o").glob(f"*_{what}.jpg"))
        assert written == sorted(f"{picture.stem}_{number}_{what}.jpg" for number in range(1, count + 1))
    status, said = infer("--checkpoint", saved("MODEL.ATTENTION.NAME", "none")[1], *words, picture)
    assert (status, "has no PSA block" in said) == (2, True)


def test_doubles_of_the_callers_boxes_are_kept_unless_asked(people, saved, infer, tmp_path):
    picture = min((people / "val2017").iterdir())
    _, path = saved("TEST.KEYPOINT_SCORE", 0.0)
    box, own = [5, 5, 90, 120], tmp_path / "own.json"
    rows = [{"image_id": int(picture.stem), "category_id": 1, "bbox": box, "score": s} for s in (0.9, 0.8)]
    own.write_text(json.dumps(rows))
    for words, count in (([], 2), (["--nms"], 1), (["--no-nms"], 2)):
        assert infer("--checkpoint", path, "--out", tmp_path / "o", "--boxes", own, *words, picture)[0] == 0
        assert len(json.loads((tmp_path / "o/keypoints.json").read_text())["annotations"]) == count
