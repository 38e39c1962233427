"""tools/infer.py and what it is made of."""

import json
import runpy
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from psa_pose.errors import CheckpointError, DataError
from psa_pose.inference.boxes import boxes_of_file, whole_picture
from psa_pose.inference.detector import PersonDetector
from psa_pose.inference.estimator import PoseEstimator
from psa_pose.inference.run import InferOptions, infer_camera, infer_pictures, run_infer
from psa_pose.media.files import find_files
from psa_pose.media.video import open_camera, open_video, read_camera, read_frames
from psa_pose.skeleton import COCO
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


# Upper left corner of the picture as a viewer shows it, and whether its sides are exchanged, by degrees clockwise.
@pytest.mark.parametrize(("degrees", "corner", "exchanged"), [(0, "r", 0), (90, "b", 1), (180, "k", 0), (270, "g", 1)])
def test_a_video_of_a_turned_phone_is_shown_upright(estimator, tmp_path, degrees, corner, exchanged):
    path = tmp_path / "phone.mp4"
    write_turned_video(path, degrees)
    size = (64, 96) if exchanged else (96, 64)
    colour = {"r": (255, 0, 0), "g": (0, 255, 0), "b": (0, 0, 255), "k": (0, 0, 0)}[corner]
    video = open_video(path)
    assert video.size == size
    frames = [*read_frames(video), *read_camera(open_camera(str(path)))]
    # The first one of a camera shows whether it is there.
    assert len(frames) == 5 + 4
    for frame in frames:
        assert frame.shape == (*size[::-1], 3)
        assert np.abs(frame[8:16, 8:16].mean((0, 1)) - colour).max() < 20
    assert run_infer(estimator, [path], whole_picture, tmp_path / "out") == []
    assert open_video(tmp_path / "out/phone_pose.mp4").size == size
    listed = json.loads((tmp_path / "out/phone_keypoints.json").read_text())
    assert {(image["width"], image["height"]) for image in listed["images"]} == {size}
    assert {tuple(a["bbox"]) for a in listed["annotations"]} == {(0, 0, *size)}


def write_turned_video(path: Path, degrees: int) -> None:
    """Five frames: red and green above blue and black, with the note that they are to be shown turned clockwise."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:32, :48, 2], frame[:32, 48:, 1], frame[32:, :48, 0] = 255, 255, 255
    for _ in range(5):
        writer.write(frame)
    writer.release()
    data = bytearray(path.read_bytes())
    # The matrix of a track's header, version 0 (ISO/IEC 14496-12, 8.3.2), 16.16 and 2.30 fixed point.
    start = data.index(b"tkhd") + 4 + 40
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    turned = [cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30]
    data[start : start + 36] = struct.pack(">9i", *turned)
    path.write_bytes(data)


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
    boxes = boxes_of_file(path, 0.3)
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
        boxes_of_file(path, files=[Path("clip.mp4")])


def annotated(path: Path, *names: str) -> Path:
    """An annotation file in which image n of these has one box, n + 1 pixels wide."""
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    rows = [{"image_id": n, "bbox": [0, 0, n + 1, 9], "category_id": 1} for n in range(len(names))]
    path.write_text(json.dumps({"images": images, "annotations": rows}))
    return path


def widths(source, *pictures: Path) -> list[list[int]]:
    return [source(picture, np.zeros((1, 1, 3)))[0][:, 2].tolist() for picture in pictures]


def test_boxes_of_two_folders_with_the_same_names_are_told_apart(tmp_path, monkeypatch):
    a, b, moved = (tmp_path / "set" / folder / "1.jpg" for folder in ("a", "b", "moved"))
    for picture in (a, b, moved):
        picture.parent.mkdir(parents=True)
        picture.touch()
    path = tmp_path / "boxes.json"
    both = annotated(path, "a/1.jpg", "b\\1.jpg", "a/2.jpg")
    assert widths(boxes_of_file(both, files=[b, a]), a, b) == [[1], [2]]
    assert widths(boxes_of_file(both, files=[b]), b) == [[2]]
    assert widths(boxes_of_file(both), b, a, tmp_path / "2.jpg") == [[2], [1], [3]]
    monkeypatch.chdir(b.parent)
    assert widths(boxes_of_file(both, files=[Path("1.jpg"), a]), Path("1.jpg"), a) == [[2], [1]]
    # The names' own pictures lie beside this one, which has nobody.
    assert widths(boxes_of_file(both, files=[a, moved]), a, moved) == [[1], []]
    # The longest name counts.
    assert widths(boxes_of_file(annotated(path, "1.jpg", "set/a/1.jpg", "a/1.jpg"), files=[a, b]), a, b) == [[2], [1]]


def test_boxes_that_may_be_of_two_pictures_are_refused_by_both_names(tmp_path):
    a, b, c = (tmp_path / folder / "1.jpg" for folder in ("a", "b", "c"))
    path = annotated(tmp_path / "boxes.json", "1.jpg")
    assert widths(boxes_of_file(path, files=[a]), a) == [[1]]
    with pytest.raises(DataError, match=f"whose boxes are those of '1.jpg': that is {a} and {b}; write"):
        boxes_of_file(path, files=[a, b])
    annotated(path, "x/1.jpg", "y/1.jpg")
    with pytest.raises(DataError, match=f"those of {c}: it names 'x/1.jpg' and 'y/1.jpg'"):
        boxes_of_file(path, files=[c])
    # Folders that are not there: the base name alone.
    assert widths(boxes_of_file(annotated(path, "../C:/mine/1.jpg"), files=[c]), c) == [[1]]
    with pytest.raises(DataError, match=r"two images are named 'a\.jpg'"):
        boxes_of_file(annotated(path, "a.jpg", "a.jpg"))
    with pytest.raises(DataError, match=f"names none of the 1 files, such as {c} .it names 2.jpg"):
        boxes_of_file(annotated(path, "2.jpg"), files=[c])
    path.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 9], "score": 1}]))
    with pytest.raises(DataError, match=f"that is {a} and {tmp_path}/0001.png"):
        boxes_of_file(path, files=[a, tmp_path / "0001.png"])
    assert widths(boxes_of_file(path, files=[tmp_path / "0001.png", tmp_path / "2.jpg"]), a) == [[5]]


def test_boxes_of_other_categories_are_not_silently_nobody(tmp_path):
    path = tmp_path / "boxes.json"
    row = {"image_id": 1, "category_id": 2, "bbox": [0, 0, 5, 9], "score": 1}
    for content in ([row, row], {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [row, row]}):
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match="all 2 boxes are of category 2; 1 is read"):
            boxes_of_file(path)
    named = content | {"categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "person", "keypoints": ["nose"]}]}
    path.write_text(json.dumps(named))
    assert widths(boxes_of_file(path), Path("1.jpg")) == [[5, 5]]


def test_what_is_written_for_two_folders_gives_the_boxes_back(people, checkpoint, infer, tmp_path):
    source = min((people / "val2017").iterdir())
    pictures = [tmp_path / folder / source.name for folder in ("a", "b")]
    for picture in pictures:
        picture.parent.mkdir()
        shutil.copy(source, picture)
    boxes = annotated(tmp_path / "boxes.json", *(f"{p.parent.name}/{p.name}" for p in pictures))
    for out in ("first", "again"):
        words = ("--checkpoint", checkpoint, "--boxes", boxes, "--box-score", -9, "--out", tmp_path / out, *pictures)
        assert infer(*words) == (0, "")
        boxes = tmp_path / out / "keypoints.json"
        content = json.loads(boxes.read_text())
        assert [image["file_name"] for image in content["images"]] == [f"{f}/{source.name}" for f in "ab"]
        assert [row["bbox"][2] for row in content["annotations"]] == [1, 2]
    status, said = infer(*words[:3], annotated(tmp_path / "bare.json", source.name), *words[4:])
    assert (status, f"that is {pictures[0]} and {pictures[1]}" in said) == (2, True)


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
