"""PoseEstimator: equal to the evaluation, right or clear about every input, safe for threads, of constant size."""

import gc
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import psa_pose
from psa_pose.checkpoints import save_checkpoint
from psa_pose.errors import CheckpointError, ConfigError, DataError
from psa_pose.inference import stream
from psa_pose.media.pictures import read_image
from tests.data.photographs import photograph, pixels
from tests.runs import run_test


@pytest.fixture
def estimator(saved):
    return psa_pose.PoseEstimator.from_checkpoint(saved()[1], device="cpu")


@pytest.fixture
def picture(people) -> Path:
    return min((people / "val2017").glob("*"))


def everything(found):
    return [np.concatenate([p.box, p.keypoints.ravel(), [p.score]]) for p in found]


@pytest.mark.parametrize(
    ("order", "codec", "flip"), [("rgb", "standard", True), ("bgr", "dark", False), ("rgb", "udp_gaussian", True)]
)
def test_people_are_those_of_the_evaluation(saved, people, order, codec, flip):
    cfg, path = saved(
        *("INPUT.CHANNEL_ORDER", order, "CODEC.NAME", codec, "TEST.FLIP", flip, "TEST.BOXES", "detector"),
        *("TEST.OKS_NMS", 1.0, "TEST.KEYPOINT_SCORE", 0.0),
    )
    run_test(cfg, path)
    results = json.loads((Path(cfg.OUTPUT_DIR) / "test/keypoints_val2017_detector_results.json").read_text())
    truth = json.loads((people / "annotations/person_keypoints_val2017.json").read_text())
    detections = json.loads((people / "person_detection_results/val2017_person_detections.json").read_text())
    # To the last decimal only without folding: an untrained map may answer a rounding with another subpixel step.
    estimator = psa_pose.PoseEstimator.from_checkpoint(path, device="cpu", flip=flip, fold=False)
    expected, found, images, boxes, box_scores = [], [], [], [], []
    for image in truth["images"]:
        rows = [d for d in detections if d["image_id"] == image["id"] and d["category_id"] == 1]
        images.append(people / "val2017" / image["file_name"])
        boxes.append([d["bbox"] for d in rows])
        box_scores.append([d["score"] for d in rows])
        entries = [[*r["keypoints"], r["score"]] for r in results if r["image_id"] == image["id"]]
        assert len(entries) == len(rows)
        expected += sorted(entries, key=lambda row: row[-1])
    for answers in estimator.batch(images, boxes, box_scores, batch_size=32):
        found += sorted(([*p.keypoints.ravel(), p.score] for p in answers), key=lambda row: row[-1])
    assert len(found) > 8
    # The file's coordinates have two decimals, its scores three, the persons' all.
    assert np.allclose(found, expected, rtol=1e-4, atol=0.0051)
    assert np.ptp(np.array(found)[:, 0]) > 10


def test_batches_over_images_give_each_image_its_people(estimator, people):
    images = sorted((people / "val2017").glob("*"))[:3]
    boxes = [[[0, 0, 60, 90], [30, 10, 50, 70]], [], [[5, 5, 90, 99], [0, 0, 40, 40], [50, 50, 60, 60]]]
    together = estimator.batch(images, boxes, batch_size=2)
    assert [len(found) for found in together] == [2, 0, 3]
    for image, rows, found in zip(images, boxes, together, strict=True):
        assert [person.box.tolist() for person in found] == rows
        for person, alone in zip(found, estimator(image, rows), strict=True):
            # Another batch rounds otherwise; an untrained map may answer a rounding with another subpixel step.
            assert np.median(np.abs(person.keypoints - alone.keypoints)) < 1e-3
            assert np.allclose(person.score, alone.score, rtol=1e-3)


def test_every_kind_of_image_is_the_same_picture(estimator, picture):
    pixels = read_image(picture)
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 7, np.uint8)])
    expected = everything(estimator(pixels))
    padded = np.pad(pixels, ((0, 0), (3, 0), (0, 0)))[:, 3:]
    for same in (picture, str(picture), alpha, Image.fromarray(pixels), padded, pixels[:, ::-1][:, ::-1]):
        assert np.array_equal(everything(estimator(same)), expected)
    grey = np.ascontiguousarray(pixels[..., 0])
    expected = everything(estimator(np.dstack([grey] * 3)))
    for same in (grey, grey[..., None], Image.fromarray(grey)):
        assert np.array_equal(everything(estimator(same)), expected)
    assert not np.array_equal(everything(estimator(pixels[..., ::-1])), everything(estimator(pixels)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_a_photograph_of_a_turned_camera_is_answered_upright(estimator, tmp_path, orientation, kind):
    path = tmp_path / f"phone{kind}"
    path.write_bytes(photograph(pixels(90, 60), orientation, kind))
    # Pillow is how a viewer shows it.
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    assert upright.shape == ((90, 60, 3) if orientation >= 5 else (60, 90, 3))
    boxes = [[5, 5, 40, 50], [20, 10, 30, 45]]
    expected = everything(estimator(upright, boxes))
    for given in (path, Image.open(path), ImageOps.exif_transpose(Image.open(path))):
        assert np.array_equal(everything(estimator(given, boxes)), expected)
    (seen,) = stream(estimator, [path], lambda number, frame: (np.array(boxes), None))
    assert np.array_equal(seen.frame, upright)
    assert np.array_equal(everything(seen.people), expected)
    stored = np.asarray(Image.open(path).convert("RGB"))
    assert np.array_equal(everything(estimator(stored, boxes)), expected) == (orientation == 1)


def test_without_boxes_the_picture_is_one_person_and_heatmaps_come_on_request(estimator, picture):
    (person,) = estimator(picture, heatmaps=True)
    height, width = read_image(picture).shape[:2]
    assert person.box.tolist() == [0, 0, width, height]
    assert person.keypoints.shape == (17, 3)
    assert person.heatmaps.shape == (17, 16, 16)
    assert estimator(picture)[0].heatmaps is None
    assert estimator(picture, boxes=[]) == []
    assert estimator.batch([]) == []
    half = estimator(picture, [[0, 0, 50, 60]], box_scores=[0.5])[0]
    assert half.score == pytest.approx(estimator(picture, [[0, 0, 50, 60]])[0].score / 2)


def test_small_and_huge_images_and_boxes_over_the_border(estimator):
    for shape in ((1, 1), (1, 300, 3), (3000, 2, 4)):
        (person,) = estimator(np.full(shape, 99, np.uint8))
        assert np.isfinite(person.keypoints).all()
    (person,) = estimator(np.zeros((50, 60, 3), np.uint8), [[-30, -20, 200, 100.5]])
    assert np.isfinite(person.keypoints).all()
    with pytest.raises(DataError, match="too large"):
        estimator(np.zeros((1, 40_000), np.uint8))


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([[0, 0, float("nan"), 5]], "no area"),
        ([[0, 0, float("inf"), 5]], "no area"),
        ([[0, 0, 5, 0]], "no area"),
        ([[0, 0, -5, 5]], "no area"),
        ([[70, 0, 5, 5]], "not on the image of 60 x 50"),
        ([[-9, 0, 5, 5]], "not on the image"),
        ([[0, 0, 1e200, 5]], "not on the image"),
        ([0, 0, 5, 5], "shape"),
        ([[0, 0, 5]], "shape"),
        ([["a", 0, 5, 5]], "shape"),
    ],
)
def test_a_wrong_box_is_refused_by_name(estimator, boxes, words):
    with pytest.raises(DataError, match=words):
        estimator(np.zeros((50, 60, 3), np.uint8), boxes)


@pytest.mark.parametrize(
    "image", [np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5, 2), np.uint8), np.zeros((5, 5, 3)), None, "missing.jpg"]
)
def test_what_is_no_picture_is_refused(estimator, image):
    with pytest.raises(DataError, match=r"picture|cannot be"):
        estimator(image)


def test_other_arguments_are_checked(estimator, saved, picture, tmp_path):
    with pytest.raises(DataError, match="one finite number per box"):
        estimator(picture, [[0, 0, 9, 9]], box_scores=[1, 2])
    with pytest.raises(DataError, match="one list of each per image"):
        estimator.batch([picture], [])
    with pytest.raises(ConfigError, match="float16"):
        psa_pose.PoseEstimator.from_checkpoint(saved()[1], "cpu", dtype=torch.float16)
    with pytest.raises(ConfigError, match="cannot be used"):
        psa_pose.PoseEstimator.from_checkpoint(saved()[1], "nonsense")
    save_checkpoint(tmp_path / "bare.pt", {"model": {}})
    with pytest.raises(CheckpointError, match="no usable"):
        psa_pose.PoseEstimator.from_checkpoint(tmp_path / "bare.pt")


def test_gates_of_the_whole_network(saved, picture):
    path = saved("MODEL.ATTENTION.NAME", "psa_p")[1]
    estimator = psa_pose.PoseEstimator.from_checkpoint(path, "cpu")
    gates = estimator.gates(picture, [[0, 0, 50, 60], [20, 20, 60, 60]])
    assert gates
    for channel, spatial in gates.values():
        assert channel.shape[0] == spatial.shape[0] == 2
    assert not any(module._forward_pre_hooks for module in estimator._network._model.modules())
    assert estimator.gates(picture, []) == {}


def test_eight_threads_at_once_answer_as_one(saved):
    estimator = psa_pose.PoseEstimator.from_checkpoint(saved("MODEL.ATTENTION.NAME", "psa_p")[1], "cpu")
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 255, (30 + 9 * i, 90 - i, 3), np.uint8) for i in range(24)]

    def answer(pixels):
        gates = estimator.gates(pixels)
        return [
            *everything(estimator(pixels, [[0, 0, 20, 25], [5, 5, 30, 20]])),
            *(g[1].ravel() for g in gates.values()),
        ]

    alone = [answer(pixels) for pixels in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(answer, pictures))
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other)
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def odd_calls() -> list[tuple[np.ndarray, object]]:
    """Pictures and boxes as a service meets them: all sizes and kinds, and boxes that have to be refused."""
    generator = np.random.default_rng(0)
    shapes = [(1, 1), (1, 1, 3), (2, 900), (40, 50, 4), (33, 77), (61, 45, 3), (3000, 2, 3), (1500, 2000, 3), (9, 9, 2)]
    boxes = [
        None,
        [],
        [[0, 0, 1, 1]],
        [[-5, -5, 30, 30], [0, 0, 9, 12]],
        [[1e7, 0, 5, 5]],
        [[0, 0, np.nan, 4]],
        [[0, 0]],
    ]
    pictures = [generator.integers(0, 256, shape, np.uint8) for shape in shapes]
    return [(pictures[i % len(pictures)], boxes[i % len(boxes)]) for i in range(63)]


def test_eight_threads_with_odd_pictures_and_wrong_boxes(estimator):
    def answer(call):
        try:
            return everything(estimator(*call, batch_size=3))
        except DataError as error:
            return str(error)

    calls = odd_calls()
    alone = [answer(call) for call in calls]
    kinds = {type(found) for found in alone}
    assert kinds == {list, str}
    assert not any(np.isnan(person).any() for found in alone if isinstance(found, list) for person in found)
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(alone, pool.map(answer, calls), strict=True):
            assert one == other if isinstance(one, str) else all(map(np.array_equal, one, other))


@pytest.mark.parametrize(
    "options", [{"fold": False}, {"channels_last": False}, {"fold": False, "channels_last": False}]
)
def test_every_way_to_compute_gives_the_same_maps(saved, picture, options):
    path = saved("MODEL.ATTENTION.NAME", "psa_p", "MODEL.CHANNELS_LAST", False)[1]
    (expected,) = psa_pose.PoseEstimator.from_checkpoint(path, "cpu")(picture, heatmaps=True)
    (found,) = psa_pose.PoseEstimator.from_checkpoint(path, "cpu", **options)(picture, heatmaps=True)
    largest = np.abs(expected.heatmaps).max()
    assert largest > 0
    assert np.abs(found.heatmaps - expected.heatmaps).max() < 1e-4 * largest
    assert not np.array_equal(found.heatmaps, expected.heatmaps)


def test_bfloat16_is_near(saved, picture):
    path = saved("MODEL.ATTENTION.NAME", "psa_s")[1]
    (expected,) = psa_pose.PoseEstimator.from_checkpoint(path, "cpu")(picture, heatmaps=True)
    estimator = psa_pose.PoseEstimator.from_checkpoint(path, "cpu", dtype=torch.bfloat16)
    (found,) = estimator(picture, heatmaps=True)
    assert 0 < np.abs(found.heatmaps - expected.heatmaps).max() < 0.1 * np.abs(expected.heatmaps).max()
    assert estimator.gates(picture)


@pytest.mark.slow
def test_compiled_networks_answer_the_same_for_eight_threads(saved, picture):
    path = saved("MODEL.ATTENTION.NAME", "psa_p")[1]
    (expected,) = psa_pose.PoseEstimator.from_checkpoint(path, "cpu")(picture, heatmaps=True)
    estimator = psa_pose.PoseEstimator.from_checkpoint(path, "cpu", compile=True)
    boxes = [[0, 0, 60, 90]] * 3
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(estimator, picture, boxes[:n] or None, None, True) for n in (0, 1, 2, 3) * 4]
        for n, answer in zip((0, 1, 2, 3) * 4, answers, strict=True):
            people = answer.result()
            assert len(people) == max(n, 1)
            if n == 0:
                difference = np.abs(people[0].heatmaps - expected.heatmaps).max()
                assert difference < 1e-4 * np.abs(expected.heatmaps).max()


def resident() -> int:
    """Bytes of memory that this process holds now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def check_memory(estimator, calls: int) -> None:
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 255, (40 + i, 60, 3), np.uint8) for i in range(20)]
    for call in range(calls):
        estimator(pictures[call % 20])
        with pytest.raises(DataError):
            estimator(pictures[call % 20], [[0, 0, np.nan, 1]])
        if call == calls // 4:
            gc.collect()
            before = resident()
    gc.collect()
    assert resident() - before < 16 * 2**20


def test_memory_stays_flat_over_some_hundred_calls(estimator):
    check_memory(estimator, 300)


@pytest.mark.slow
def test_memory_stays_flat_over_two_thousand_calls(estimator):
    check_memory(estimator, 2000)


def test_importing_the_package_imports_no_torch():
    check = (
        "import sys, psa_pose; assert 'torch' not in sys.modules; psa_pose.PoseEstimator; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=120)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        psa_pose.nothing_like_it  # noqa: B018
