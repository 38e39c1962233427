"""A crop and its joints against plain arithmetic: who is where, who is exchanged, whose image it is."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psa_pose.data.augment import View
from psa_pose.data.build import build_test_sets, build_train_set
from psa_pose.data.dataset import CropDataset
from psa_pose.data.formats.coco import Persons, clip_boxes
from psa_pose.data.loader import OrderedBatches, ShuffledBatches
from psa_pose.geometry import crop_matrix, invert, warp
from psa_pose.media.pictures import read_image
from psa_pose.skeleton import COCO, make_skeleton

THREE = make_skeleton({"name": "three", "names": ["left_eye", "nose", "right_eye"]}, "three")


def persons(joints, visible, boxes):
    """Each on an image of its own."""
    n = len(joints)
    return Persons(
        image_ids=np.arange(n),
        image_names=np.array([b"a"] * n),
        image_sizes=np.zeros((n, 2)),
        image=np.arange(n),
        annotation_ids=np.arange(n),
        boxes=np.array(boxes, float),
        scores=np.ones(n),
        joints=np.array(joints, np.float32),
        visible=np.array(visible, np.float32),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from(["classic", "unbiased"]), st.booleans(),
    st.sampled_from([(48, 64), (64, 48), (64, 64)]), st.floats(-90, 90),
)  # fmt: skip
def test_joints_go_where_the_view_says_and_sides_are_exchanged_with_their_labels(seed, grid, mirror, size, turn):
    rng = np.random.default_rng(seed)
    joints, visible = rng.uniform(0, 100, (2, 3, 2)), np.array([[1, 0, 0], [0, 1, 1]])
    box = [*rng.uniform(0, 50, 2), *rng.uniform(5, 60, 2)]
    padding = rng.uniform(1, 2)
    dataset = CropDataset(persons(joints, visible, [box] * 2), "", THREE, size, grid, padding, "rgb")
    view = View(dataset.centers[1], dataset.regions[1], turn, mirror)
    dataset._view = lambda epoch, row: View(dataset.centers[row], dataset.regions[row], turn, mirror and row == 1)
    poses = list(dataset.poses([(0, 0), (0, 1)]))
    # The region holds the box, has the crop's shape, and is no larger than it must be.
    width, height = dataset.regions[1] / padding
    assert width / height == pytest.approx(size[0] / size[1])
    assert min(width - box[2], height - box[3]) == pytest.approx(0, abs=1e-9)
    assert width >= box[2] - 1e-9
    assert height >= box[3] - 1e-9
    np.testing.assert_allclose(view.center, [box[0] + box[2] / 2, box[1] + box[3] / 2])
    for row, pose in enumerate(poses):
        spans = [n - (grid == "unbiased") for n in size]
        for k in range(3):
            flipped = mirror and row == 1
            source = [2, 1, 0][k] if flipped else k
            x, y = np.float32(joints[row, source]) - view.center
            angle = np.deg2rad(turn)
            x, y = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
            x = x * spans[0] / view.region[0] + spans[0] / 2
            y = y * spans[1] / view.region[1] + spans[1] / 2
            x = spans[0] - x if flipped else x
            np.testing.assert_allclose(pose.joints[k], [x, y], atol=2e-3)
            assert pose.visible[k] == visible[row, source]


def test_each_person_is_cut_from_its_own_image_in_any_order(tiny_config, people):
    dataset = build_test_sets(tiny_config(), COCO, "classic", lambda _: None, "ground_truth")[0].dataset
    alone = []
    for row in range(len(dataset)):
        dataset._last_image = None
        alone.append(dataset[(0, row)].crop)
    for row in np.random.default_rng(0).integers(0, len(dataset), 60):
        assert np.array_equal(dataset[(0, int(row))].crop, alone[row])
    name = dataset.persons.image_names[dataset.persons.image[0]].decode()
    assert np.array_equal(dataset._image(int(dataset.persons.image[0])), read_image(people / "val2017" / name))


def test_channel_order_folders_and_sizes_reach_the_data_sets(tiny_config, people):
    rgb, bgr = (
        build_train_set(tiny_config("INPUT.CHANNEL_ORDER", order, "AUGMENT.SCALE", 0.0), COCO, "classic", print)
        for order in ("rgb", "bgr")
    )
    assert np.array_equal(rgb[(0, 2)].crop[..., ::-1], bgr[(0, 2)].crop)
    wide = build_train_set(tiny_config("INPUT.SIZE", [96, 64], "INPUT.PADDING", 2.0), COCO, "unbiased", print)
    assert wide[(0, 0)].crop.shape == (64, 96, 3)
    assert wide.grid == "unbiased"
    np.testing.assert_allclose(wide.regions[:, 0] / wide.regions[:, 1], 1.5)
    boxes = wide.persons.boxes
    np.testing.assert_allclose(wide.regions[:, 0], 2 * np.maximum(boxes[:, 2], 1.5 * boxes[:, 3]))
    sets = build_test_sets(tiny_config(), COCO, "classic", lambda _: None, "auto")
    assert [s.dataset.image_folder for s in sets] == [people / "val2017"] * 2
    assert [s.dataset.augmentation for s in sets] == [None, None]
    assert rgb.image_folder == people / "train2017"


def test_the_least_score_of_a_box_reaches_the_detections(tiny_config):
    scores = build_test_sets(tiny_config(), COCO, "classic", print, "detector")[0].dataset.persons.scores
    middle = float(np.median(scores))
    assert scores.min() < middle < scores.max()
    (kept,) = build_test_sets(tiny_config("TEST.BOX_SCORE", middle), COCO, "classic", print, "detector")
    assert sorted(kept.dataset.persons.scores) == sorted(scores[scores >= middle])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-30, 130)] * 2, *[st.integers(0, 90)] * 2), min_size=1, max_size=8),
    st.tuples(st.integers(1, 100), st.integers(1, 100)),
)
def test_boxes_are_clipped_as_hrnets_loader_clips_one(boxes, size):
    got = clip_boxes(np.array(boxes, float), np.array([size] * len(boxes), float))
    for (x, y, w, h), box in zip(boxes, got, strict=True):
        x1, y1 = max(0, x), max(0, y)
        x2, y2 = min(size[0] - 1, x1 + max(0, w - 1)), min(size[1] - 1, y1 + max(0, h - 1))
        assert box.tolist() == [x1, y1, max(x2 - x1, 0), max(y2 - y1, 0)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 7), st.integers(1, 4), st.integers(0, 3), st.booleans(), st.integers(0, 5),
    st.one_of(st.none(), st.integers(0, 9)),
)  # fmt: skip
def test_processes_share_one_order_and_a_run_goes_on_within_it(number, batch, world, epoch, grouped, first, end):
    groups = np.random.default_rng(number).integers(0, 5, number) if grouped else None

    def steps(processes, first=0, end=None):
        shares = []
        for rank in range(processes):
            batches = ShuffledBatches(number, batch * world // processes, 3, rank, processes, groups)
            batches.epoch, batches.first, batches.end = epoch, first, end
            shares.append(list(batches))
        return [list(itertools.chain(*of_step)) for of_step in zip(*shares, strict=True)]

    whole = steps(world)
    rows = [row for step in whole for _, row in step]
    assert {e for step in whole for e, _ in step} == {epoch}
    assert len(whole) == -(-number // (batch * world))
    # Everybody once, then the first of them again until the shares are equal.
    assert sorted(rows[:number]) == list(range(number))
    assert len(rows) == -(-number // world) * world
    assert rows[number:] == np.resize(rows[:number], len(rows))[number:].tolist()
    assert [row for step in steps(1) for _, row in step] == rows[:number]
    assert steps(world, first, end) == whole[first:end]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 4), st.integers(0, 4))
def test_a_test_takes_everybody_once_whatever_the_processes_and_workers(number, batch, world, workers):
    shares = [OrderedBatches(number, batch, rank, world, workers) for rank in range(world)]
    taken = sorted(keys for share in shares for keys in share)
    assert taken == [[(0, r) for r in range(s, min(s + batch, number))] for s in range(0, number, batch)]
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-40, 40))
def test_a_warped_pixel_is_interpolated_between_its_four_neighbours_and_black_outside(seed, turn):
    rng = np.random.default_rng(seed)
    image = rng.integers(100, 256, (12, 15)).astype(np.uint8)
    matrix = crop_matrix(rng.uniform(0, 15, 2), rng.uniform(10, 30, 2), turn, (16, 20))
    crop, back = warp(image, matrix, (16, 20)), invert(matrix)
    padded = np.pad(image.astype(float), 1)
    for v, u in np.ndindex(20, 16):
        x, y = back @ (u, v, 1)
        if not (-1 < x < 15 and -1 < y < 12):
            assert crop[v, u] == 0
            continue
        i, j = int(np.floor(x)), int(np.floor(y))
        a, b = x - i, y - j
        four = padded[j + 1 : j + 3, i + 1 : i + 3]
        expected = np.array([1 - b, b]) @ four @ np.array([1 - a, a])
        # OpenCV places a sample to 1/32 of a pixel.
        assert abs(crop[v, u] - expected) < 2 + 2 * 255 / 32
