"""Files are written whole or not at all, logs go on where they were, and problems are counted."""

import os

import cv2
import numpy as np
import pytest

from psa_pose.errors import DataError
from psa_pose.files import atomic_write, cut_lines, remove_leftovers
from psa_pose.run_log import RunLog, report_problems
from tests.runs import json_lines


def test_the_old_file_is_there_until_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    path, done = tmp_path / "deep/file.json", []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("flushed"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replaced"), replace(*paths)))
    atomic_write(path, lambda file: file.write(b"old"))

    def write(file):
        file.write(b"new and longer")
        assert path.read_bytes() == b"old"

    atomic_write(path, write)
    assert path.read_bytes() == b"new and longer"
    assert done == ["flushed", "replaced"] * 2

    def fail(file):
        file.write(b"half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        atomic_write(path, fail)
    assert path.read_bytes() == b"new and longer"
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    left = [
        f".{name}.{number}"
        for name in ("last.pt", "a.safetensors", "b.jsonl", "c.json", "d.yaml")
        for number in (1, 99)
    ]
    other = [".hidden", "last.pt", ".last.pt.bak", "x.json.3", ".git"]
    for name in left + other:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(other)


def test_a_line_cut_short_is_dropped_though_it_reads_as_one(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": 3}\nnonsense\n{"a": 4}')
    cut_lines(path, lambda line: line["a"] != 2)
    assert path.read_text() == '{"a": 1}\n{"a": 3}\n'
    cut_lines(tmp_path / "none.jsonl", lambda line: True)
    assert not (tmp_path / "none.jsonl").exists()


def test_a_log_starts_anew_or_goes_on(tmp_path):
    for go_on_at, steps in ((None, [0]), (1, [0, 1]), (None, [5])):
        with RunLog(tmp_path, go_on_at) as log:
            log.metrics(steps[-1], train={"loss": 0.1})
            log.info(f"line {steps[-1]}")
        assert [line["step"] for line in json_lines(tmp_path / "metrics.jsonl")] == steps
        assert [line.split()[-1] for line in (tmp_path / "log.txt").read_text().splitlines()] == list(map(str, steps))


def test_a_picture_keeps_its_colours(tmp_path):
    image = np.zeros((6, 8, 3), np.uint8)
    image[...] = (250, 100, 5)
    with RunLog(tmp_path) as log:
        log.picture(0, "red", image)
    assert cv2.imread(str(tmp_path / "pictures/red.png"))[0, 0].tolist() == [5, 100, 250]


def test_problems_are_raised_or_said_with_their_number():
    said = []
    report_problems([], "raise", said.append)
    with pytest.raises(DataError, match=r"^one; mend"):
        report_problems(["one"], "raise", said.append)
    with pytest.raises(DataError, match=r"^one \(and 2 more\); mend"):
        report_problems(["one", "two", "three"], "raise", said.append)
    assert said == []
    report_problems(["one", "two"], "skip", said.append)
    assert said[:2] == ["skipped: one", "skipped: two"]
    assert said[2].startswith("skipped 2 ")
