"""Colours, channel orders, scores and options between a picture or frame and its people, against plain arithmetic."""

import json
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psa_pose.checkpoints import load_checkpoint
from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.codecs import make_codec
from psa_pose.geometry import box_to_region, pairwise_iou
from psa_pose.inference import people as people_module
from psa_pose.inference import run as run_module
from psa_pose.inference.boxes import boxes_of_file, whole_picture
from psa_pose.inference.detector import PersonDetector
from psa_pose.inference.estimator import Person, PoseEstimator
from psa_pose.inference.people import CocoWriter, draw_people, suppress_duplicates
from psa_pose.inference.run import InferOptions, _refine, run_infer
from psa_pose.inference.tracker import OneEuro, Tracker
from psa_pose.media.pictures import as_pixels
from psa_pose.media.video import Camera, Prefetcher, open_video, read_camera, read_frames
from psa_pose.metrics.oks import oks_nms, pairwise_oks
from psa_pose.predict import CropNetwork, Normalization
from psa_pose.skeleton import COCO
from psa_pose.visualization.draw import jpeg_bytes, write_picture

# Red, green and blue far enough apart for any video's compression.
COLOUR = (210, 120, 30)


def person(keypoints, score, box=(0, 0, 10, 20)):
    return Person(np.array(box, float), np.array(keypoints, float), score)


class Capture:
    """A camera in OpenCV's words: what it is told to give, None for a frame that fails."""

    def __init__(self, frames):
        self.frames, self.released = iter(frames), False

    def read(self):
        frame = next(self.frames, None)
        return frame is not None, frame

    def release(self):
        self.released = True


def coloured(width=64, height=48):
    """BGR, as OpenCV gives and takes it."""
    return np.full((height, width, 3), COLOUR[::-1], np.uint8)


def test_frames_of_a_camera_are_rgb_and_those_it_fails_to_give_keep_their_places():
    capture = Capture([coloured(), None, None, coloured()])
    frames = list(read_camera(Camera(capture, 25.0, (64, 48))))
    assert [frame is None for frame in frames] == [False, True, True, False]
    assert all(frame[5, 5].tolist() == list(COLOUR) for frame in frames if frame is not None)
    assert capture.released


def test_a_video_is_read_and_written_in_its_colours_and_size(tmp_path, estimator):
    path = tmp_path / "in.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        writer.write(coloured())
    writer.release()
    video = open_video(path)
    assert (video.size, video.count) == ((64, 48), 3)
    for frame in read_frames(video):
        assert frame.shape == (48, 64, 3)
        assert np.abs(frame.mean((0, 1)) - COLOUR).max() < 8
    assert run_infer(estimator, [path], lambda *_: (np.zeros((0, 4)), np.zeros(0)), tmp_path / "out") == []
    out = open_video(tmp_path / "out/in_pose.mp4")
    assert (out.size, out.count) == ((64, 48), 3)
    for frame in read_frames(out):
        assert np.abs(frame.mean((0, 1)) - COLOUR).max() < 12


def test_pictures_are_written_in_their_colours(tmp_path):
    image = np.full((20, 30, 3), COLOUR, np.uint8)
    write_picture(tmp_path / "a.png", image)
    assert cv2.imread(str(tmp_path / "a.png"))[3, 3].tolist() == list(COLOUR[::-1])
    data = cv2.imdecode(np.frombuffer(jpeg_bytes(image), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(data[3, 3] - np.array(COLOUR[::-1], int)).max() < 8


def test_pixels_of_every_kind_become_the_same_rgb():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    alpha = np.concatenate([rgb, np.full((5, 6, 1), 7, np.uint8)], 2)
    assert np.array_equal(as_pixels(alpha), rgb)
    grey = rgb[..., 0]
    for same in (grey, grey[..., None]):
        assert np.array_equal(as_pixels(same), np.stack([grey] * 3, 2))


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_a_network_sees_normalised_channels_in_its_own_order_and_a_mirrored_crop(swap, flip):
    seen = []

    class Model(torch.nn.Module):
        def forward(self, images):
            seen.append(images.clone())
            return images[:, :2, ::4, ::4]

    codec = make_codec("udp_gaussian", (32, 48), (8, 12))
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    network = CropNetwork(Model(), codec, Normalization.of(mean, std, torch.device("cpu")), [(0, 1)], flip, swap)
    crops = torch.randint(256, (2, 48, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    maps = network(crops)
    expected = np.empty((2, 3, 48, 32), np.float32)
    for c in range(3):
        source = crops[..., 2 - c if swap else c].numpy()
        expected[:, c] = (source / 255 - mean[c]) / std[c]
    np.testing.assert_allclose(seen[0], expected, atol=1e-5)
    assert len(seen) == 1 + flip
    plain = expected[:, :2, ::4, ::4]
    if flip:
        np.testing.assert_allclose(seen[1], expected[..., ::-1], atol=1e-5)
        mirrored = expected[..., ::-1][:, :2, ::4, ::4][:, ::-1, :, ::-1]
        plain = (plain + mirrored) / 2
    np.testing.assert_allclose(maps, plain, atol=1e-5)


class Answers:
    """A backend that answers what it was told, and remembers what it was asked."""

    def __init__(self, spec, scores):
        self.spec, self.device, self.scores = spec, torch.device("cpu"), scores

    def __call__(self, crops, heatmaps):
        n = len(crops)
        middle = np.array(self.spec.input_size, np.float32) / 2
        return np.tile(middle, (n, 17, 1)).astype(np.float32), np.tile(self.scores, (n, 1)).astype(np.float32), None


@pytest.fixture
def spec(saved):
    _, path = saved(
        "TEST.KEYPOINT_SCORE", 0.35, "TEST.OKS_NMS", 0.6, "INPUT.PADDING", 1.5, "INPUT.CHANNEL_ORDER", "bgr"
    )
    return ModelSpec.of_checkpoint(load_checkpoint(path), path)


def test_a_checkpoint_says_how_its_network_was_shown_and_scored(spec):
    assert (spec.keypoint_score, spec.oks_nms, spec.padding, spec.channel_order) == (0.35, 0.6, 1.5, "bgr")
    assert (spec.input_size, spec.heatmap_size, spec.grid) == ((64, 64), (16, 16), "unbiased")
    center, region = spec.regions(np.array([[10.0, 20.0, 30.0, 40.0]]))
    assert (center.tolist(), region.tolist()) == ([[25.0, 40.0]], [[60.0, 60.0]])
    # On the unbiased grid a crop of 64 spans 63.
    _, matrix = spec.crop(np.zeros((90, 90, 3), np.uint8), np.array([10.0, 20.0, 30.0, 40.0]))
    assert matrix[0, 0] == pytest.approx(63 / 60)


def test_a_persons_score_is_its_boxs_times_the_mean_of_the_sure_keypoints(spec):
    scores = np.full(17, 0.3)
    scores[:2] = 0.9, 0.5
    scores[2] = np.float32(0.35)
    estimator = PoseEstimator(Answers(spec, scores))
    boxes = [[5, 5, 20, 30], [30, 10, 25, 25]]
    found = estimator(np.zeros((60, 60, 3), np.uint8), boxes, [0.5, 0.25])
    sure = [float(np.float32(s)) for s in scores if float(np.float32(s)) > 0.35]
    for one, box, share in zip(found, boxes, (0.5, 0.25), strict=True):
        assert one.score == pytest.approx(share * np.mean(sure))
        # The crop's middle (32, 32) lies half a pixel beyond its centre (63 / 2).
        region = box_to_region(box, 1.0, 1.5)[1]
        expected = np.array(box[:2]) + np.array(box[2:]) / 2 + 0.5 * region / 63
        np.testing.assert_allclose(one.keypoints[:, :2], np.tile(expected, (17, 1)), atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.6, 0.9]))
def test_doubles_are_those_of_the_evaluation_on_padded_boxes(seed, threshold):
    rng = np.random.default_rng(seed)
    body = rng.uniform(0, 50, (17, 2))
    some = [
        person(np.c_[body + rng.normal(size=(17, 2)) * rng.choice([1, 4, 9]), np.ones(17)], float(rng.random()),
               [*rng.uniform(0, 9, 2), *rng.uniform(20, 60, 2)])
        for _ in range(5)
    ]  # fmt: skip

    class Spec:
        skeleton, oks_nms = COCO, threshold

        @staticmethod
        def regions(boxes):
            return box_to_region(boxes, 0.75, 1.5)

    areas = [np.prod(box_to_region(one.box, 0.75, 1.5)[1]) for one in some]
    joints, scores = np.stack([one.keypoints[:, :2] for one in some]), np.array([one.score for one in some])
    kept = oks_nms(joints, scores, np.array(areas), np.array(COCO.sigmas), threshold)
    assert [id(one) for one in suppress_duplicates(some, Spec)] == [id(some[row]) for row in sorted(kept)]


def test_people_are_drawn_from_the_weakest_to_the_best_with_the_joints_above_the_threshold(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        people_module, "draw_skeleton", lambda image, joints, shown, _: (drawn.append((joints[0, 0], shown)), image)[1]
    )
    some = [person(np.c_[np.full((17, 2), n), np.linspace(0, 1, 17)], score) for n, score in enumerate((0.5, 0.9, 0.1))]
    image = np.zeros((40, 40, 3), np.uint8)
    draw_people(image, some, COCO, threshold=0.5)
    assert [int(x) for x, _ in drawn] == [2, 0, 1]
    assert all(shown.tolist() == (np.linspace(0, 1, 17) > 0.5).tolist() for _, shown in drawn)
    assert not image.any()


def test_a_listed_person_is_what_cocos_files_say(tmp_path):
    listed = CocoWriter(COCO)
    listed.add(
        7, "a.jpg", (30, 20), [person(np.c_[np.full((17, 2), 1.234), np.full(17, 0.98765)], 0.4321, (1, 2, 3, 4))]
    )
    listed.add(9, "b.jpg", (31, 21), [person(np.zeros((17, 3)), 0.1)])
    listed.save(tmp_path / "k.json")
    content = json.loads((tmp_path / "k.json").read_text())
    assert [(i["id"], i["width"], i["height"]) for i in content["images"]] == [(7, 30, 20), (9, 31, 21)]
    first, second = content["annotations"]
    assert (first["id"], first["image_id"], second["id"], second["image_id"]) == (1, 7, 2, 9)
    assert (first["bbox"], first["area"], first["score"]) == ([1, 2, 3, 4], 12, 0.4321)
    assert first["keypoints"][:3] == [1.23, 1.23, 0.988]
    (category,) = content["categories"]
    names = category["keypoints"]
    # COCO's limbs count from 1.
    assert {(names[a - 1], names[b - 1]) for a, b in category["skeleton"]} == set(COCO.limbs)


def test_boxes_of_a_file_are_persons_from_the_least_score_on(tmp_path):
    rows = [
        {"image_id": 12, "category_id": c, "bbox": [n, 2, 3, 4], "score": s}
        for n, (c, s) in enumerate([(1, 0.5), (1, 0.49), (2, 0.9), (1, 0.9)])
    ]
    (tmp_path / "d.json").write_text(json.dumps(rows))
    boxes, scores = boxes_of_file(tmp_path / "d.json", 0.5)(tmp_path / "000012.jpg", np.zeros((9, 9, 3), np.uint8))
    assert (boxes[:, 0].tolist(), scores.tolist()) == ([0, 3], [0.5, 0.9])
    assert whole_picture(tmp_path, np.zeros((9, 9, 3))) == (None, None)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.2, 0.5]))
def test_each_person_goes_on_with_one_track_the_most_alike_first(seed, alike):
    rng = np.random.default_rng(seed)

    def some(number):
        answer = []
        for _ in range(number):
            low = rng.uniform(0, 40, 2)
            joints = low + rng.uniform(0, 30, (17, 2))
            answer.append(person(np.c_[joints, np.ones(17)], 0.5, [*low, 30, 30]))
        return answer

    tracker = Tracker(COCO.sigmas, 10.0, alike=alike)
    before, now = some(rng.integers(1, 5)), some(rng.integers(1, 5))
    first = tracker(0, before)
    assert [one.track for one in first] == list(range(1, len(before) + 1))
    joints = np.stack([one.keypoints[:, :2] for one in [*now, *before]])
    boxes = np.stack([one.box for one in [*now, *before]])
    n = len(now)
    both = (pairwise_oks(joints, boxes[:, 2:].prod(1), np.array(COCO.sigmas)) + pairwise_iou(boxes))[:n, n:] / 2
    expected, used = {}, set()
    for value, row, place in sorted(((both[r, p], r, p) for r, p in np.ndindex(both.shape)), reverse=True):
        if value >= alike and row not in expected and place not in used:
            expected[row] = place + 1
            used.add(place)
    fresh = iter(range(len(before) + 1, 99))
    assert [one.track for one in tracker(1, now)] == [expected.get(row) or next(fresh) for row in range(n)]


def test_a_track_ends_after_its_patience_in_seconds_and_a_sure_joint_is_filtered_by_time():
    still = [person(np.c_[np.full((17, 2), 20.0), np.ones(17)], 0.5, (0, 0, 40, 40))]
    for gap, same in ((5, True), (6, False)):
        tracker = Tracker(COCO.sigmas, 10.0, patience=0.5)
        assert tracker(3, still)[0].track == 1
        assert (tracker(3 + gap, still)[0].track == 1) == same
    # The filter by its formulas: position 10 pixels on after 0.1 s, a person of size 40.
    constants = OneEuro(1.5, 4.0, 2.0)
    moved = [person(np.c_[np.full((17, 2), (30.0, 20.0)), np.ones(17)], 0.5, (0, 0, 40, 40))]
    unsure = [person(np.c_[np.full((17, 2), (30.0, 20.0)), np.full(17, 0.3)], 0.5, (0, 0, 40, 40))]

    def share(cutoff):
        return 1 / (1 + 1 / (2 * np.pi * cutoff) / 0.1)

    tracker = Tracker(COCO.sigmas, 10.0, 0.3, constants, alike=0.0)
    tracker(0, still)
    velocity = share(2.0) * 100.0
    expected = 20 + share(1.5 + 4.0 * velocity / 40) * 10
    assert tracker(1, moved)[0].keypoints[0, 0] == pytest.approx(expected)
    # Whoever is no surer than the threshold is left as found, and smoothed anew from where it is next sure.
    assert tracker(2, unsure)[0].keypoints[0, 0] == 30
    assert tracker(3, still)[0].keypoints[0, 0] == 20
    velocity = share(2.0) * 100.0
    assert tracker(4, moved)[0].keypoints[0, 0] == pytest.approx(20 + share(1.5 + 4.0 * velocity / 40) * 10)


def test_the_options_of_a_run_reach_what_refines_its_people(estimator, monkeypatch):
    made = []
    monkeypatch.setattr(run_module, "Tracker", lambda *words: (made.append(words), lambda index, people: people)[1])
    refine = _refine(estimator, InferOptions(threshold=0.45, smooth=True), 12.0)
    assert made == [(estimator.skeleton.sigmas, 12.0, 0.45)]
    twins = [person(np.c_[np.full((17, 2), 5.0), np.ones(17)], s) for s in (0.5, 0.6)]
    assert refine(0, twins) == twins
    assert _refine(estimator, InferOptions(doubles=True))(0, twins) == twins[1:]
    assert _refine(estimator, InferOptions(smooth=True), None)(0, twins) == twins
    assert len(made) == 1
    assert replace(InferOptions(), doubles=True).threshold == 0.2


class Found(torch.nn.Module):
    """A detector that finds what it was told to: corners, labels and scores."""

    def __init__(self, boxes, labels, scores):
        super().__init__()
        self.answer = {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels), "scores": torch.tensor(scores)}
        self.seen = None

    def forward(self, images):
        self.seen = images[0]
        return [self.answer]


def test_a_detectors_corners_become_boxes_of_its_sure_persons():
    corners = [
        [1.0, 2.0, 11.0, 32.0],
        [5.0, 5.0, 9.0, 8.0],
        [0.0, 0.0, 4.0, 4.0],
        [3.0, 3.0, 3.0, 9.0],
        [1.0, 1.0, 8.0, 9.0],
    ]
    model = Found(corners, [1, 1, 2, 1, 1], [0.9, 0.5, 0.9, 0.9, 0.25])
    image = np.zeros((40, 30, 3), np.uint8)
    image[3, 4] = (255, 51, 0)
    boxes, scores = PersonDetector(model, torch.device("cpu"), 0.5)(image)
    assert boxes.tolist() == [[1, 2, 10, 30], [5, 5, 4, 3]]
    assert scores.tolist() == pytest.approx([0.9, 0.5])
    # Channels first, RGB, 0 to 1.
    assert model.seen.shape == (3, 40, 30)
    assert model.seen[:, 3, 4].tolist() == pytest.approx([1, 0.2, 0])


@pytest.mark.parametrize("most", [1, 3])
def test_of_frames_that_nobody_takes_the_newest_wait(most):
    made = threading.Event()

    def frames():
        yield from range(10)
        made.set()

    ahead = Prefetcher(frames(), most, newest=True)
    assert made.wait(10)
    assert list(ahead) == list(range(10 - most, 10))
    ahead.join()
    assert list(Prefetcher((n for n in range(5)), most)) == list(range(5))
