"""How threads wait: the faster way is found and followed, the user's own choice is left alone, the switch works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from psa_pose import threads
from psa_pose.threads import LAPS, PAUSE, PREFIXES, ThreadWaiting

REPOSITORY = Path(__file__).parents[1]
CPU = torch.device("cpu")

# Spins, sleeps and spins again, and prints at the end of each whether idle threads used a core; then the weights' hash
# of a few steps that threads wait for in both ways, or, with an argument, in one.
REAL = """
import sys, torch
from psa_pose.threads import Gomp, ThreadWaiting, find_switch, works, _idle_seconds
switch = find_switch()
if torch.get_num_threads() < 2 or not isinstance(switch, Gomp):
    print("none")
    raise SystemExit
print(*(works(switch) for _ in range(2)))
switch.spin()
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 3))
images = torch.randn(8, 3, 48, 48)
for step in range(6):
    if sys.argv[1] == "both":
        (switch.sleep if step % 2 else switch.spin)()
    net.zero_grad()
    net(images).square().mean().backward()
    with torch.no_grad():
        for p in net.parameters():
            p -= p.grad
print(sum(p.detach().double().sum().item() for p in net.parameters()).hex())
"""


class Machine:
    """A clock and a switch: laps take as long as the way to wait says, in seconds."""

    def __init__(self, monkeypatch, asleep: float, spinning: float):
        self.now, self.spins, self.turns = 0.0, False, 0
        self.seconds, self.said = {False: asleep, True: spinning}, []
        for name in [name for name in os.environ if name.startswith(PREFIXES)]:
            monkeypatch.delenv(name)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        monkeypatch.setattr(threads, "find_switch", lambda: self)
        monkeypatch.setattr(threads, "works", lambda _: True)
        monkeypatch.setattr(threads.time, "perf_counter", lambda: self.now)

    def sleep(self):
        self.spins, self.turns = False, self.turns + 1

    def spin(self):
        self.spins, self.turns = True, self.turns + 1

    def run(self, waiting: ThreadWaiting, laps: int) -> float:
        """The time that so many laps took."""
        before = self.now
        for _ in range(laps):
            self.now += self.seconds[self.spins]
            waiting.lap()
        return self.now - before


def waiting_on(machine: Machine) -> ThreadWaiting:
    waiting = ThreadWaiting(CPU, machine.said.append)
    assert not machine.spins
    # The first lap's end is when the switch is tried.
    waiting.lap()
    return waiting


@pytest.mark.parametrize(("asleep", "spinning"), [(0.14, 0.09), (0.2, 3.0), (0.1, 0.098)])
def test_the_faster_way_is_kept_and_trials_cost_little(monkeypatch, asleep, spinning):
    machine = Machine(monkeypatch, asleep, spinning)
    waiting = waiting_on(machine)
    machine.run(waiting, 2 * LAPS)
    spins = spinning < 0.95 * asleep
    assert machine.spins == spins
    assert len(machine.said) == 1
    assert ("spinning while they wait" if spins else "asleep while they wait") in machine.said[0]
    assert ("OMP_NUM_THREADS=1 may be faster" in machine.said[0]) == (spinning > 2 * asleep)
    took = machine.run(waiting, 5000)
    assert took <= 1.03 * 5000 * min(asleep, spinning) + PAUSE * 0.05
    # Nothing changed, nothing is said.
    assert len(machine.said) == 1


def test_what_begins_or_ends_beside_it_is_followed(monkeypatch):
    machine = Machine(monkeypatch, 0.14, 0.09)
    waiting = waiting_on(machine)
    machine.run(waiting, 20)
    assert machine.spins
    machine.seconds = {False: 0.2, True: 3.0}
    machine.run(waiting, 6)
    assert not machine.spins, "steps that take twice as long are answered at once"
    machine.run(waiting, 1200)
    assert not machine.spins
    machine.seconds = {False: 0.14, True: 0.09}
    machine.run(waiting, 1500)
    assert machine.spins, "a quiet machine is noticed by the trials that go on"
    assert [("asleep" in line.split("(")[0]) for line in machine.said] == [False, True, False]


def test_a_slow_trial_ends_with_its_first_step(monkeypatch):
    machine = Machine(monkeypatch, 0.1, 0.15)
    waiting = waiting_on(machine)
    machine.run(waiting, LAPS)
    assert machine.spins, "on trial"
    machine.run(waiting, 1)
    assert not machine.spins


def test_a_trial_that_is_cut_off_decides_nothing(monkeypatch):
    machine = Machine(monkeypatch, 0.14, 0.3)
    waiting = waiting_on(machine)
    machine.run(waiting, LAPS)
    assert machine.spins, "on trial"
    waiting.start()
    assert not machine.spins
    machine.run(waiting, LAPS + 1)
    machine.now += 60
    waiting.start()
    machine.run(waiting, 1)
    assert machine.now > 60
    assert not machine.said or "asleep while" in machine.said[0]


def test_trials_are_apart_in_time_of_work(monkeypatch):
    machine = Machine(monkeypatch, 0.1, 0.2)
    waiting = waiting_on(machine)
    machine.run(waiting, 2 * LAPS)
    turns = machine.turns
    for _ in range(10):
        # An evaluation, longer than the time between two trials.
        machine.now += 2 * PAUSE
        waiting.start()
        machine.run(waiting, LAPS + 1)
    assert machine.turns == turns
    machine.run(waiting, round(PAUSE / 0.1))
    assert machine.turns > turns


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_the_users_variable_wins(monkeypatch, name):
    machine = Machine(monkeypatch, 0.14, 0.09)
    monkeypatch.setenv(name, "1")
    with ThreadWaiting(CPU, machine.said.append) as waiting:
        machine.run(waiting, 50)
    assert (machine.turns, machine.said) == (0, [])


def test_laps_of_a_thread_that_has_one_alone_are_not_judged(monkeypatch):
    machine = Machine(monkeypatch, 0.14, 0.09)
    waiting = waiting_on(machine)
    turns = machine.turns
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    machine.run(waiting, 50)
    assert machine.turns == turns


def test_one_thread_and_other_devices_are_left_alone(monkeypatch):
    machine = Machine(monkeypatch, 0.14, 0.09)
    ThreadWaiting(torch.device("cuda"), machine.said.append).lap()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    ThreadWaiting(CPU, machine.said.append).lap()
    assert machine.turns == 0


def test_a_switch_that_does_nothing_is_given_up(monkeypatch):
    machine = Machine(monkeypatch, 0.14, 0.09)
    monkeypatch.setattr(threads, "works", lambda _: False)
    with ThreadWaiting(CPU, machine.said.append) as waiting:
        machine.run(waiting, 50)
    assert len(machine.said) == 1
    assert machine.said[0].startswith("threads: asleep")
    assert not machine.spins


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
def test_the_real_switch_works_and_changes_no_bit():
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    environment["PYTHONPATH"] = str(REPOSITORY)
    answers = []
    for how in ("both", "spin"):
        done = subprocess.run(
            [sys.executable, "-c", REAL, how], capture_output=True, text=True, check=True, env=environment
        )
        answers.append(done.stdout.split())
    if answers[0] == ["none"]:
        pytest.skip("one thread, or another OpenMP runtime than GNU's")
    assert answers[0][-1] == answers[1][-1]
    # On a machine with no core to spare nothing can be seen to spin.
    assert "True" in answers[0] + answers[1]
