"""Batches side by side: the same answers in the same order, few at a time, and torch's threads as they were."""

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psa_pose.data.build import build_test_sets
from psa_pose.evaluation import predict_set
from psa_pose.evaluation.predict_set import predict_persons
from psa_pose.parallel import MOST, batches_at_once, parallel_map
from psa_pose.skeleton import COCO
from psa_pose.tasks import build_task

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    # They are named so; a progress bar has a thread that stays.
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batch")]


@given(st.lists(st.integers(0, 3), max_size=8), st.integers(1, 4))
def test_answers_keep_the_order_of_their_items(milliseconds, at_once):
    def work(item):
        time.sleep(item[1] / 1000)
        return item[0]

    assert list(parallel_map(work, enumerate(milliseconds), at_once)) == list(range(len(milliseconds)))


@pytest.mark.parametrize("at_once", [2, 3])
def test_items_are_worked_on_together_and_few_are_taken_ahead(at_once):
    together, taken = threading.Barrier(at_once), []

    def items():
        for number in range(12):
            taken.append(number)
            yield number

    def work(number):
        # Nobody would come here alone.
        together.wait(20)
        return number

    for number in parallel_map(work, items(), at_once):
        assert len(taken) <= number + at_once + 1
    assert len(taken) == 12


@pytest.mark.parametrize("of", ["items", "work"])
def test_an_error_is_raised_after_the_answers_before_it(of):
    def items():
        yield from range(4)
        if of == "items":
            raise RuntimeError("items")
        yield from range(4, 9)

    def work(number):
        if of == "work" and number == 4:
            raise RuntimeError("work")
        return number

    answers = parallel_map(work, items(), 2)
    assert [next(answers) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(RuntimeError, match=of):
        next(answers)


def test_each_has_its_share_of_the_threads_and_the_caller_gets_them_back():
    torch.set_num_threads(6)
    answers = parallel_map(lambda _: torch.get_num_threads(), range(9), 3)
    assert next(answers) == 2
    assert torch.get_num_threads() == 1
    assert set(answers) == {2}
    assert torch.get_num_threads() == 6
    left_early = parallel_map(lambda _: torch.get_num_threads(), range(9), 3)
    next(left_early)
    left_early.close()
    assert torch.get_num_threads() == 6
    asked = []
    later = threading.Thread(target=lambda: asked.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert asked == [6], "a new thread is given what the process has"


def test_one_batch_per_thread_and_four_at_most_on_a_cpu_alone():
    found = []
    for threads in (1, 2, 3, 16):
        torch.set_num_threads(threads)
        found.append(batches_at_once(CPU))
    assert found == [1, 2, 3, MOST]
    assert batches_at_once(torch.device("cuda")) == 1


def test_a_test_set_is_answered_to_the_bit_as_one_batch_after_the_other(tiny_config, monkeypatch):
    cfg = tiny_config("TEST.BATCH_SIZE", 3)
    (test_set,) = build_test_sets(cfg, COCO, "unbiased", lambda _: None, "ground_truth")
    task = build_task(cfg)
    predictor = task.predictor(task.build_model())
    found = []
    for at_once in (1, 3):
        monkeypatch.setattr(predict_set, "batches_at_once", lambda _, at_once=at_once: at_once)
        found.append(predict_persons(cfg, test_set, predictor, COCO, lambda _: None))
    (one, crops), (three, crops_of_three) = found
    assert len(one.joints) > 3
    for name, value in one.__dict__.items():
        np.testing.assert_array_equal(getattr(three, name), value, name)
    assert len(crops) == len(crops_of_three) > 3
    for first, second in zip(crops, crops_of_three, strict=True):
        np.testing.assert_array_equal(second.image, first.image)
        np.testing.assert_array_equal(second.joints, first.joints)


def test_who_is_stopped_after_a_batch_waits_for_few_others(tiny_config, monkeypatch):
    cfg = tiny_config("TEST.BATCH_SIZE", 1)
    (test_set,) = build_test_sets(cfg, COCO, "unbiased", lambda _: None, "ground_truth")
    monkeypatch.setattr(predict_set, "batches_at_once", lambda _: 2)
    torch.set_num_threads(2)
    answered = []

    def predictor(batch):
        answered.append(len(batch.rows))
        return torch.zeros(1, 17, 2), torch.zeros(1, 17), torch.zeros(1, 17, 4, 4)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_persons(cfg, test_set, predictor, COCO, lambda _: None, stop)
    assert len(answered) <= 3 < len(test_set.dataset)
    assert torch.get_num_threads() == 2
