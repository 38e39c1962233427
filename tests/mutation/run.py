"""Deliberate mistakes of one line each, and whether the tests notice: `python tests/mutation/run.py`.

The mistakes are listed in `table.yaml`. The tree is copied to a temporary folder; there each mistake is made in turn,
the tests that are named beside it are run, and the file is put back. A mistake is caught where one of its tests fails.
The exit status is 1 where one survives that the table does not call equivalent, and 2 where the table no longer fits.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("table.yaml")
# Seconds after which tests that do not end count as failed: a mistake may make a loop endless.
LIMIT = 300


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


@contextmanager
def made(mutation: Mutation, tree: Path):
    """The mistake, in a tree, as long as the block lasts."""
    path = tree / mutation.file
    text = path.read_text()
    path.write_text(text.replace(mutation.old, mutation.new))
    try:
        yield
    finally:
        path.write_text(text)


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit status, -1 for tests that do not end, and what it said."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=line", *tests]
    process = subprocess.Popen(
        command, cwd=tree, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return -1, "did not end"
    return process.returncode, said


def check(mutation: Mutation, tree: Path) -> tuple[bool, str]:
    """Whether the tests notice a mistake, and what pytest said. Raises RuntimeError where they could not be run."""
    with made(mutation, tree):
        status, said = run_tests(tree, mutation.tests)
    if status not in (-1, 0, 1, 2):
        raise RuntimeError(f"{mutation.id}: {' '.join(mutation.tests)} could not be run:\n{said}")
    return status != 0, said


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
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            tree = Path(folder) / f"tree{number}" / "repository"
            copy_tree(tree)
            trees.put(tree)
        if baseline:
            tests = sorted({test for m in mutations for test in m.tests})
            status, said = run_tests(tree, tests)
            if status:
                raise SystemExit(f"tests fail without a mistake:\n{said}")
            print(f"{len(tests)} tests pass as the code is", flush=True)

        def one(mutation: Mutation) -> None:
            tree = trees.get()
            try:
                caught, _ = check(mutation, tree)
            finally:
                trees.put(tree)
            if not caught:
                survived.add(mutation.id)
            reason = f" (equivalent: {mutation.equivalent})" if mutation.equivalent else ""
            print(f"{'caught  ' if caught else 'SURVIVED'} {mutation.id}{'' if caught else reason}", flush=True)

        with ThreadPoolExecutor(jobs) as pool:
            for _ in pool.map(one, mutations):
                pass
    return survived


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
    started, mutations = time.monotonic(), chosen(table, words.ids, words.rooms, words.changed)
    survived = run(mutations, words.jobs, not words.no_baseline)
    print(f"\n{table_by_room(mutations, survived)}\n\n{time.monotonic() - started:.0f} seconds")
    return int(any(m.id in survived and not m.equivalent for m in mutations))


if __name__ == "__main__":
    sys.exit(main())
