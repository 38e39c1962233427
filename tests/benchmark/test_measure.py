"""How time and memory are measured: order, rounds that count, and the memory beyond the lowest point."""

import time

import pytest
import torch

from psa_pose.benchmark.measure import alternate, peak_memory, time_stages

CPU = torch.device("cpu")


def test_works_run_in_turn_forwards_and_backwards_and_two_rounds_do_not_count():
    done = []
    seconds = alternate({name: lambda name=name: done.append(name) for name in "abc"}, 3, CPU)
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3, "c": 3}
    rounds = ["".join(done[i : i + 3]) for i in range(0, len(done), 3)]
    assert len(rounds) == 5
    assert {*rounds[::2]} | {*rounds[1::2]} == {"abc", "cba"}
    assert len({*rounds[::2]}) == len({*rounds[1::2]}) == 1


def test_memory_is_what_is_held_beyond_the_lowest_point_before():
    held = [torch.empty(0)]

    def work():
        # Frees four megabytes, then takes one and four.
        held.clear()
        small = torch.zeros(2**18)
        held.append(torch.zeros(2**20) + small[:1])

    held.append(torch.zeros(2**20))
    # The new tensor, the sum and the small one at once.
    assert peak_memory(work, CPU) == pytest.approx(9 * 2**20, rel=0.02)


def test_a_stage_has_one_time_in_each_round_which_adds_up_and_the_first_round_does_not_count():
    answers = []

    def once(timed):
        answers.append(timed("slow", lambda: time.sleep(0.02) or "made"))
        timed("slow", lambda: time.sleep(0.02))
        timed("fast", lambda: None)

    found = time_stages(once, 2)
    assert answers == ["made"] * 3
    assert {stage: len(values) for stage, values in found.items()} == {"slow": 2, "fast": 2}
    assert min(found["slow"]) >= 40 > 20 > min(found["fast"])
