"""Deliberate mistakes of one line each, and whether the tests notice: `python tests/mutation/run.py`.

The mistakes are listed in `table.yaml`. The tree is copied to a temporary folder; there each mistake is made in turn,
the tests that are named beside it are run, and the file is put back. A mistake is caught where one of its tests fails.
The exit status is 1 where one survives that the table does not call equivalent, and 2 where the table no longer fits.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import Phase, settings

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("table.yaml")
# Seconds after which tests that do not end count as failed: a mistake may make a loop endless.
LIMIT = 600
ENDLESS = 1000
HEAVY = ("cv2", "hypothesis", "orjson", "pycocotools.cocoeval", "scipy.io", "scipy.sparse", "tensorboard", "torch")
HEAVY += ("torch._dynamo", "torch.distributed", "torch.export", "torch.utils.tensorboard", "torchvision", "yacs.config")


@dataclass(frozen=True)
class Mutation:
    """A mistake: `old`, which stands once in `file`, becomes `new`; `tests` are the node ids of those that notice.

    equivalent: why no test can notice it; "" for all that must be caught.
    """

    id: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    equivalent: str = ""

    @property
    def room(self) -> str:
        """The folder of psa_pose, or the name of a module that lies in none."""
        return Path(self.file).parts[1].removesuffix(".py")


def read_table(path: Path = TABLE) -> list[Mutation]:
    """Every mistake of the table."""
    return [Mutation(**{**row, "tests": tuple(row["tests"])}) for row in yaml.safe_load(path.read_text())]


def problem(mutation: Mutation, root: Path) -> str:
    """Why a mistake cannot be made in a tree any more; "" where it can."""
    path = root / mutation.file
    times = path.read_text().count(mutation.old) if path.is_file() else 0
    return "" if times == 1 else f"{mutation.id}: {mutation.old!r} stands {times} times in {mutation.file}, not once"


def copy_tree(target: Path) -> None:
    """The files of the working tree that git knows or would know."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, target / name)


def preload() -> None:
    """Import what takes seconds: every mistake is tried in a fork of this process, which never imports our own code."""
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    for name in HEAVY:
        importlib.import_module(name)


class WithoutShrinking:
    """A plugin: the first example that fails is enough."""

    def pytest_sessionstart(self) -> None:
        settings.register_profile("first", settings.default, phases=(Phase.explicit, Phase.generate))
        settings.load_profile("first")


def start_tests(tree: Path, tests: Sequence[str], log: Path) -> int:
    """The process in which pytest runs, what it says going to the file `log`; its exit status is pytest's."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(tree)
    # Neither this checkout nor this folder: the tree's own packages.
    others = [path for path in sys.path if Path(path) not in (REPOSITORY, Path(__file__).parent)]
    sys.path[:] = [str(tree), *others]
    os.environ["PYTHONPATH"] = str(tree)
    status = 70
    try:
        status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=line", *tests], [WithoutShrinking()]))
    finally:
        os._exit(status)


def end_of(pid: int, since: float) -> int | None:
    """The exit status of a process; None while it runs, ENDLESS where it had to be ended."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        return os.waitstatus_to_exitcode(status)
    if time.monotonic() - since < LIMIT:
        return None
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return ENDLESS


def changed_files() -> set[str]:
    """Files that differ from the last commit on main, committed or not."""
    found = set()
    for command in (["git", "diff", "--name-only", "main"], ["git", "ls-files", "-o", "--exclude-standard"]):
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        found |= set(done.stdout.splitlines())
    return found


def chosen(mutations: list[Mutation], ids: Sequence[str], rooms: Sequence[str], changed: bool) -> list[Mutation]:
    """Those of the ids and rooms that were asked for; changed: whose file, or whose tests', was changed since main."""
    known = {m.id for m in mutations} | {m.room for m in mutations}
    unknown = set(ids) | set(rooms)
    unknown -= known
    if unknown:
        raise SystemExit(f"no mistake and no room is called {min(unknown)!r}")
    mutations = [m for m in mutations if (not ids or m.id in ids) and (not rooms or m.room in rooms)]
    if not changed:
        return mutations
    files = changed_files()
    return [m for m in mutations if m.file in files or files & {test.split("::")[0] for test in m.tests}]


def table_by_room(mutations: list[Mutation], survived: set[str]) -> str:
    """Aligned text: mistakes, caught and survived of each room."""
    total, lost = Counter(m.room for m in mutations), Counter(m.room for m in mutations if m.id in survived)
    rows = [(room, total[room], total[room] - lost[room], lost[room]) for room in sorted(total)]
    rows.append(("all", total.total(), total.total() - lost.total(), lost.total()))
    lines = [f"{'room':<16}{'mistakes':>10}{'caught':>10}{'survived':>10}"]
    return "\n".join(lines + [f"{name:<16}{a:>10}{b:>10}{c:>10}" for name, a, b, c in rows])


def run(mutations: list[Mutation], jobs: int, baseline: bool) -> set[str]:
    """Make and test every mistake; the answer: ids of those that no test noticed."""
    survived: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="mutation_") as folder:
        trees = [Path(folder) / f"{number}/repository" for number in range(jobs)]
        for tree in trees:
            copy_tree(tree)
        if baseline:
            check_baseline(trees[0], sorted({test for m in mutations for test in m.tests}))
        waiting, running = mutations[::-1], list[tuple[Mutation, Path, str, int, float]]()
        while waiting or running:
            while waiting and trees:
                mutation, tree = waiting.pop(), trees.pop()
                path = tree / mutation.file
                text = path.read_text()
                path.write_text(text.replace(mutation.old, mutation.new))
                pid = start_tests(tree, mutation.tests, tree.parent / "log")
                running.append((mutation, tree, text, pid, time.monotonic()))
            for one in list(running):
                mutation, tree, text, pid, since = one
                status = end_of(pid, since)
                if status is None:
                    continue
                (tree / mutation.file).write_text(text)
                running.remove(one)
                trees.append(tree)
                if status not in (0, 1, 2, ENDLESS):
                    raise SystemExit(f"{mutation.id}: its tests could not be run:\n{(tree.parent / 'log').read_text()}")
                if not status:
                    survived.add(mutation.id)
                print(line_of(mutation, status, time.monotonic() - since), flush=True)
            time.sleep(0.05)
    return survived


def check_baseline(tree: Path, tests: Sequence[str]) -> None:
    """Raise SystemExit where tests fail without a mistake."""
    log, since = tree.parent / "log", time.monotonic()
    pid = start_tests(tree, tests, log)
    while (status := end_of(pid, since)) is None:
        time.sleep(0.1)
    if status:
        raise SystemExit(f"tests fail without a mistake:\n{log.read_text()}")
    print(f"{len(tests)} tests pass as the code is, {time.monotonic() - since:.0f} s", flush=True)


def line_of(mutation: Mutation, status: int, seconds: float) -> str:
    """One line about a mistake that was tried."""
    reason = f" (equivalent: {mutation.equivalent})" if mutation.equivalent and not status else ""
    return f"{'caught  ' if status else 'SURVIVED'} {mutation.id}, {seconds:.1f} s{reason}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ids", nargs="+", default=[], help="of the table; all by default")
    parser.add_argument("--rooms", nargs="+", default=[], help="folders and modules of psa_pose; all by default")
    parser.add_argument("--changed", action="store_true", help="mistakes in files that were changed since main, only")
    parser.add_argument("--jobs", type=int, default=2, help="mistakes that are tested at once (2)")
    parser.add_argument("--no-baseline", action="store_true", help="do not run the tests on the code as it is first")
    words = parser.parse_args()
    table = read_table()
    problems = [text for mutation in table if (text := problem(mutation, REPOSITORY))]
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 2
    preload()
    started, mutations = time.monotonic(), chosen(table, words.ids, words.rooms, words.changed)
    survived = run(mutations, words.jobs, not words.no_baseline)
    print(f"\n{table_by_room(mutations, survived)}\n\n{time.monotonic() - started:.0f} seconds")
    return int(any(m.id in survived and not m.equivalent for m in mutations))


if __name__ == "__main__":
    sys.exit(main())
