import itertools
import json
import multiprocessing
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from psa_pose.data import dataset as dataset_module
from psa_pose.data.build import build_test_sets, build_train_set
from psa_pose.data.dataset import collate, make_batch
from psa_pose.data.loader import OrderedBatches, ShuffledBatches, _start_worker, make_loader
from psa_pose.errors import DataError
from psa_pose.media.pictures import read_image
from psa_pose.skeleton import COCO


def rows(batches) -> list[list[int]]:
    return [[row for _, row in batch] for batch in batches]


def flat(lists) -> list:
    return list(itertools.chain(*lists))


def train_set(cfg, grid="unbiased"):
    return build_train_set(cfg, COCO, grid, lambda _: None)


def test_training_order_takes_every_person_once_and_changes_with_epoch_and_seed():
    batches = ShuffledBatches(23, 5, seed=3)
    first = rows(batches)
    assert len(first) == len(batches) == 5
    assert sorted(flat(first)) == list(range(23))
    batches.epoch = 1
    assert rows(batches) != first
    assert rows(ShuffledBatches(23, 5, seed=4)) != first
    assert rows(ShuffledBatches(23, 5, seed=3)) == first


@pytest.mark.parametrize("persons", [1, 7, 16, 23])
def test_processes_together_take_the_batches_of_one(persons):
    one = rows(ShuffledBatches(persons, 6, seed=0))
    shares = [ShuffledBatches(persons, 3, 0, rank, 2) for rank in range(2)]
    two = [rows(share) for share in shares]
    assert len(two[0]) == len(two[1]) == len(shares[0])
    together = [sorted(a + b) for a, b in zip(*two, strict=True)]
    assert together[:-1] == [sorted(batch) for batch in one][:-1]
    assert set(flat(together)) == set(range(persons))


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_evaluation_takes_every_person_once_in_the_same_batches(world_size):
    shares = [rows(OrderedBatches(23, 4, rank, world_size)) for rank in range(world_size)]
    assert flat(shares) == rows(OrderedBatches(23, 4))
    assert flat(flat(shares)) == list(range(23))


@pytest.mark.parametrize("world_size", [1, 2])
def test_persons_of_an_image_stay_together_when_asked(world_size):
    images = np.random.default_rng(0).integers(0, 9, 40)
    shares = [ShuffledBatches(40, 8 // world_size, 5, rank, world_size, images) for rank in range(world_size)]
    order = [row for step in zip(*map(rows, shares), strict=True) for row in flat(step)]
    assert sorted(order) == list(range(40))
    seen = images[order]
    assert (np.diff(seen) != 0).sum() == len(np.unique(images)) - 1
    for share in shares:
        share.epoch = 1
    again = [row for step in zip(*map(rows, shares), strict=True) for row in flat(step)]
    assert list(images[again]) != list(seen)
    within = [[r for r in o if images[r] == seen[0]] for o in (order, again)]
    assert sorted(within[0]) == sorted(within[1])
    late = ShuffledBatches(40, 8 // world_size, 5, 0, world_size, images)
    late.epoch, late.first = 1, 2
    assert rows(late) == rows(shares[0])[2:]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_an_image_is_decoded_once_for_its_boxes_whatever_the_number_of_workers(
    tiny_config, people, tmp_path, monkeypatch, workers
):
    """Each worker has its own copy of the data set and takes every `workers`-th batch."""
    write_boxes(people, tmp_path / "boxes.json", per_image=7)
    cfg = tiny_config("DATASET.TEST_DETECTIONS", str(tmp_path / "boxes.json"))
    decoded = []
    monkeypatch.setattr(
        dataset_module, "read_image", lambda path, *more: decoded.append(path) or read_image(path, *more)
    )
    taken = []
    for worker in range(workers):
        dataset = build_test_sets(cfg, COCO, "unbiased", lambda _: None, "detector")[0].dataset
        batches = OrderedBatches(len(dataset), 4, workers=workers)
        for batch in list(batches)[worker::workers]:
            taken += make_batch(dataset, batch).rows.tolist()
    assert sorted(taken) == list(range(len(dataset)))
    images = len(np.unique(dataset.persons.image))
    assert len(taken) == 7 * images
    assert images <= len(decoded) <= images + workers - 1


def write_boxes(people, out, per_image):
    content = json.loads((people / "annotations/person_keypoints_val2017.json").read_text())
    first = {a["image_id"]: a["bbox"] for a in content["annotations"]}
    one = {"category_id": 1, "score": 0.5}
    out.write_text(json.dumps([{"image_id": i, "bbox": b, **one} for i, b in first.items() for _ in range(per_image)]))


def test_results_come_in_the_order_of_the_persons_whatever_the_workers():
    dealt = rows(OrderedBatches(50, 4, workers=3))
    assert sorted(flat(dealt)) == list(range(50))
    # What each of three workers gets, batch by batch, are neighbours.
    for worker in range(3):
        mine = flat(dealt[worker::3])
        assert mine == list(range(mine[0], mine[-1] + 1))


def test_a_batch_is_its_samples(tiny_config):
    dataset = train_set(tiny_config())
    keys = [(2, 3), (0, 1), (1, 3)]
    batch, samples = make_batch(dataset, keys), [dataset[key] for key in keys]
    expected = collate(samples)
    assert all(torch.equal(a, b) for a, b in zip(batch[:5], expected[:5], strict=True))
    assert batch.problems == ("", "", "")
    assert batch.crops.is_contiguous()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of a process from /proc")
def test_worker_memory_is_flat_over_a_long_epoch(tiny_config):
    """100,000 records: what a worker holds after a fifth of them is what it holds at their end."""
    small = tiny_config("INPUT.SIZE", [32, 32])
    dataset = train_set(small)
    many = np.sort(np.random.default_rng(0).integers(0, len(dataset), 100_000))
    dataset.persons = dataset.persons.select(many)
    dataset.centers, dataset.regions = dataset.centers[many], dataset.regions[many]
    iterator = iter(make_loader(dataset, OrderedBatches(len(dataset), 100), 1, False, make_batch))
    held = []
    for number, _ in enumerate(iterator):
        if number % 100 == 99:
            pages = Path(f"/proc/{iterator._workers[0].pid}/statm").read_text().split()[1]
            held.append(int(pages) * 4096 / 2**20)
    assert len(held) == 10
    assert max(held) - held[1] < 10, f"MiB: {held}"


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux")
def test_a_worker_that_has_lost_its_process_ends():
    # In a killed process's worker `getppid` is another's by the time that it begins.
    fork, statuses = multiprocessing.get_context("fork"), []
    for owner in (os.getpid(), os.getppid()):
        worker = fork.Process(target=_start_worker, args=(owner, 0))
        worker.start()
        worker.join(20)
        statuses.append(worker.exitcode)
    assert statuses == [0, 1]


def test_samples_do_not_depend_on_the_number_of_workers(tiny_config):
    dataset = train_set(tiny_config())
    found = []
    for workers in (0, 2):
        batches = ShuffledBatches(len(dataset), 5, seed=0)
        batches.epoch = 3
        loader = make_loader(dataset, batches, workers, False, make_batch)
        if workers and sys.platform == "linux":
            # Whatever Python's default is: of 3.14 it is another.
            assert loader.multiprocessing_context.get_start_method() == "fork"
        found.append(list(loader))
    for a, b in zip(*found, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[:5], b[:5], strict=True))


def test_augmentation_is_seeded_by_seed_epoch_and_person(tiny_config):
    dataset = train_set(tiny_config())
    again = train_set(tiny_config())
    assert np.array_equal(dataset[(2, 5)].crop, again[(2, 5)].crop)
    assert not np.array_equal(dataset[(2, 5)].matrix, dataset[(3, 5)].matrix)
    other = train_set(tiny_config("SEED", 1))
    assert not np.array_equal(dataset[(2, 5)].matrix, other[(2, 5)].matrix)


@pytest.mark.parametrize("grid", ["classic", "unbiased"])
def test_a_mark_in_the_image_lands_on_its_joint(tiny_config, tmp_path, people, grid):
    """Image and joints go through the same matrix, also turned, scaled and mirrored."""
    dataset = train_set(tiny_config("INPUT.SIZE", [192, 256]), grid)
    pixel_y, pixel_x = np.mgrid[:160, :192]
    mirrored = 0
    for epoch in range(30):
        row = epoch % len(dataset)
        # A spot at the image's border would be cut, and its centre moved.
        inner = (np.abs(dataset.persons.joints[row] - (96, 80)) < (90, 74)).all(1)
        joint = int(np.flatnonzero(dataset.persons.visible[row] * inner)[0])
        x, y = dataset.persons.joints[row, joint]
        spot = 255 * np.exp(-((pixel_x - x) ** 2 + (pixel_y - y) ** 2) / (2 * 1.5**2))
        image = np.repeat(spot.round().astype(np.uint8)[..., None], 3, 2)
        dataset._last_image = (int(dataset.persons.image[row]), image)
        sample = dataset[(epoch, row)]
        turned = np.linalg.det(sample.matrix[:, :2]) < 0
        mirrored += turned
        at = sample.joints[COCO.flip_order[joint] if turned else joint]
        if (at > 20).all() and at[0] < 172 and at[1] < 236:
            weight = sample.crop[..., 0] / sample.crop[..., 0].sum()
            ys, xs = np.mgrid[:256, :192]
            seen = (weight * xs).sum(), (weight * ys).sum()
            assert np.hypot(*(seen - at)) < 0.15
    assert 5 < mirrored < 25


def test_missing_images_end_the_run_or_are_skipped_and_said(tiny_config, people, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(people, root)
    victim = next(iter(sorted((root / "train2017").iterdir())))
    victim.unlink()
    with pytest.raises(DataError, match=victim.name):
        train_set(tiny_config("DATASET.ROOT", root))
    said = []
    cfg = tiny_config("DATASET.ROOT", root, "DATASET.ON_ERROR", "skip")
    smaller = build_train_set(cfg, COCO, "unbiased", said.append)
    assert len(smaller) < len(train_set(tiny_config()))
    assert any(victim.name in line for line in said)


def test_a_truncated_image_is_a_black_sample_with_a_reason(tiny_config, people, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(people, root)
    dataset = train_set(tiny_config("DATASET.ROOT", root))
    victim = root / "train2017" / dataset.persons.image_names[dataset.persons.image[0]].decode()
    victim.write_bytes(victim.read_bytes()[:500])
    sample = dataset[(0, 0)]
    assert victim.name in sample.problem
    assert not sample.crop.any()
    assert not sample.visible.any()


def test_both_protocols_are_built_where_both_are_there(tiny_config):
    sets = build_test_sets(tiny_config(), COCO, "unbiased", lambda _: None, "auto")
    assert [s.protocol for s in sets] == ["ground_truth", "detector"]
    only = build_test_sets(tiny_config("DATASET.TEST_DETECTIONS", ""), COCO, "unbiased", lambda _: None, "auto")
    assert [s.protocol for s in only] == ["ground_truth"]
