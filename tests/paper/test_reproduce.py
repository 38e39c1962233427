"""The reproduction kit: commands that would be run, rows that are run, and the tables that come out."""

import json
import os
import re
import runpy
import shlex
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from psa_pose.config import load_config
from psa_pose.errors import ConfigError, DataError, Interrupted, PsaPoseError
from psa_pose.evaluation.result import PUBLISHED
from psa_pose.models import build_model
from psa_pose.paper.complexity import chosen_rows, read_rows
from psa_pose.paper.format import table_page
from psa_pose.paper.jobs import duration
from psa_pose.paper.plan import Plan, batch_keys, gpu_hours, row_job
from psa_pose.paper.published import read_published, reproduce_published
from psa_pose.paper.reproduce import Options, dry_run, print_markdown, reproduce_table
from psa_pose.paper.results import finished_result, looks_like, table_content, write_result
from tests.runs import run_test

ROOT = Path(__file__).parents[2]

TINY = """# A row that takes seconds.
DATASET:
  TEST_DETECTIONS: person_detection_results/val2017_person_detections.json
INPUT:
  SIZE: [64, 64]
MODEL:
  NAME: simple_baseline
  DEPTH: 18
  WIDTH: 8
  HEAD_CHANNELS: 8
TRAIN:
  BATCH_SIZE: 8
  EPOCHS: 12
  EVAL_EVERY: 12
LOADER:
  WORKERS: 0
"""
PRINTED = {"AP": 76.5, "AP50": 93.6, "AP75": 83.6, "APM": 73.2, "APL": 81.0, "AR": 79.0, "Flops": 20.9, "mPara": 36.1}


@pytest.fixture
def small_root(tmp_path):
    """A repository whose table 2 has a row that works, one whose images are missing, and a like-for-like one."""
    root = tmp_path / "repository"
    configs = root / "configs"
    (configs / "paper").mkdir(parents=True)
    for folder in ("tools", "scripts"):
        (root / folder).symlink_to(ROOT / folder)
    (configs / "tiny.yaml").write_text(TINY)
    (configs / "broken.yaml").write_text("_BASE_: tiny.yaml\nDATASET:\n  TRAIN_IMAGES: nowhere\nMODEL:\n  WIDTH: 64\n")
    rows = [{"name": "Good", "config": "tiny", "printed": PRINTED}, {"name": "Broken", "config": "broken"}]
    fair = [{"name": "Fair, PSA(p)", "config": "tiny", "overrides": ["MODEL.ATTENTION.NAME", "psa_p"]}]
    tables = {"2": {"title": "Small table", "rows": rows, "like_for_like": fair}}
    (configs / "paper/tables.yaml").write_text(yaml.safe_dump(tables))
    return root


@pytest.fixture
def said():
    """Everything that was written, and the function to write with."""
    pieces: list[str] = []
    return pieces, pieces.append


def test_every_command_of_a_dry_run_loads(said):
    plan = Plan(ROOT, Path("out"), Path("coco"), gpus=2, overrides=("TRAIN.EPOCHS", "3"))
    names = ["simplebaseline r50", "PSA(p)", "PSA(p), Fig. 2", "simplebaseline_r50_no_imagenet"]
    dry_run(plan, Options("6", names), said[1])
    lines = "".join(said[0]).splitlines()
    commands = [shlex.split(line) for line in lines if not line.startswith("#")]
    assert len(commands) == 8
    configs = []
    for command, tool in zip(commands, ["train", "test"] * 4, strict=True):
        assert command[:5] == [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        assert command[5:8] == ["-m", "psa_pose", tool]
        file = command[command.index("--cfg") + 1]
        keys = next(i for i, word in enumerate(command) if re.match(r"[A-Z]+\.", word))
        cfg = load_config(file, command[keys:])
        configs.append((Path(file).stem, Path(cfg.OUTPUT_DIR).name, cfg.MODEL.PRETRAINED, cfg.MODEL.ATTENTION.SPATIAL))
        assert (cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.ACCUMULATE, cfg.TRAIN.EPOCHS) == (64, 2, 3)
        assert cfg.DATASET.ROOT == "coco"
        assert Path(cfg.OUTPUT_DIR).parent == Path("out")
        assert ("--resume" in command) == (tool == "train")
        assert ("--checkpoint" in command) == (tool == "test")
    base = "simple_baseline_r50_384x288"
    assert configs[::2] == [
        (base, base, "imagenet", ""),
        (f"{base}_psa_p", f"{base}_psa_p", "", ""),
        (base, "simplebaseline_r50_no_imagenet", "", ""),
        (f"{base}_psa_p", "psa_p_fig_2", "", "fig2"),
    ]
    assert re.search(r"estimate: [\d,]+ GPU hours in all.*149,813 persons.*15 TFLOP/s", lines[-2])
    assert "is kept on 2" in lines[-1]


def test_the_estimate_is_the_stated_product():
    _, rows = read_rows("2", ROOT)
    job = row_job(Plan(ROOT, Path("out"), gpus=4), chosen_rows(rows, ["HRNet-W32"])[0])
    persons = 3 * 149_813 * 210 + 2 * (6_352 * 22 + 104_125)
    assert gpu_hours(job, 10.0) == pytest.approx(2 * 17_201_258_496 * persons / 1e13 / 3600)


@pytest.mark.parametrize(("gpus", "batch", "parts"), [(1, "128", "4"), (2, "64", "2"), (4, "32", "1"), (8, "16", "1")])
def test_the_effective_batch_is_the_published_one(gpus, batch, parts):
    cfg = load_config(ROOT / "configs/coco/hrnet/hrnet_w32_256x192.yaml")
    plan = Plan(ROOT, Path("out"), gpus=gpus)
    assert batch_keys(plan, cfg) == ["TRAIN.BATCH_SIZE", batch, "TRAIN.ACCUMULATE", parts]
    with pytest.raises(ConfigError, match="--gpus 3 cannot share the published batch of 128"):
        batch_keys(Plan(ROOT, Path("out"), gpus=3), cfg)
    assert batch_keys(Plan(ROOT, Path("out"), gpus=3, overrides=("TRAIN.BATCH_SIZE", "5")), cfg) == []


def test_rows_share_runs_and_an_unknown_one_is_told_all_names():
    _, rows = read_rows("4", ROOT)
    same = [row for row in rows if row.folder == "udp_w48_384x288"]
    assert len(same) == 2
    assert [row.like_for_like for row in rows] == sorted(row.like_for_like for row in rows)
    with pytest.raises(ConfigError, match=r"no row 'HRNet'; .*: 8-stage Hourglass 256x192; CPN R50 256x192; "):
        chosen_rows(rows, ["HRNet-W32 256x192", "HRNet"])


def test_a_folder_holds_one_run():
    """Rows share a folder exactly where they are the same config with the same keys changed."""
    rows = [row for number in ("2", "4", "6") for row in read_rows(number, ROOT)[1]]
    runs = {(row.config, row.overrides) for row in rows}
    assert len({(row.folder, row.config, row.overrides) for row in rows}) == len(runs) == len({r.folder for r in rows})
    assert all(row.folder == Path(row.config).name for row in rows if not row.overrides)
    assert sum(row.like_for_like for row in rows) == sum(bool(row.overrides) for row in rows) == 25
    assert len({row.folder for row in rows if row.overrides}) == 24


def run_script(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *map(str, arguments)])
    runpy.run_path(str(ROOT / "tools/reproduce.py"), run_name="__main__")


def test_the_command_takes_keys_behind_the_rows(monkeypatch, capsys, tmp_path):
    arguments = ["--table", "6", "--dry-run", "--out", tmp_path, "--rows", "SE", "CBAM", "TRAIN.EPOCHS", "1"]
    run_script(monkeypatch, *arguments)
    out = capsys.readouterr().out
    assert out.count("TRAIN.EPOCHS 1") == 4
    assert "row 2 of 2: CBAM" in out
    with pytest.raises(SystemExit) as ended:
        run_script(monkeypatch, "--table", "6", "--dry-run", "--rows", "PSA")
    assert ended.value.code == 2
    assert "the table has no row 'PSA'" in capsys.readouterr().err


def test_a_table_without_runs_says_so_and_nothing_is_written(said, tmp_path):
    request = Options("2", ["SimpleBaseline R50", "HRNet-W32 + PSA, Fig. 2"])
    print_markdown(Plan(ROOT, tmp_path / "out"), request, said[1])
    text = "".join(said[0])
    assert (
        "| SimpleBaseline R50 (1) | not run | not run | 72.2 | detector | - | 34.000 | 34.0 | 20.230 | 20.0\\* |"
        in text
    )
    assert "| HRNet-W32 + PSA, Fig. 2 \\~ | not run | not run | - | - | - | 31.364 | - | 17.061 | - |" in text
    assert not (tmp_path / "out").exists()


def test_rows_are_run_kept_and_a_failing_one_stops_no_other(small_root, tmp_path, said):
    plan, out = Plan(small_root, tmp_path / "out"), tmp_path / "out"
    with pytest.raises(PsaPoseError, match=r"1 of 2 rows failed; the others are in .*table_2\.md"):
        reproduce_table(plan, Options("2", ["Broken", "Good"], smoke=True), said[1])
    text = "".join(said[0])
    first = r"row 1 of 2: Good, .*: train test in (\d+) s \(\d+ s elapsed, about (\d+) (\w+) left\)\n"
    seconds, ahead, unit = re.search(first, text).groups()
    jobs = [row_job(plan, row) for row in read_rows("2", small_root)[1][:2]]
    factor = jobs[1].cost / jobs[0].cost
    assert factor > 5
    assert int(ahead) * {"s": 1, "min": 60}[unit] == pytest.approx(factor * int(seconds), rel=0.3)
    assert re.search(r"row 2 of 2: Broken, .*: train FAILED \(.* elapsed\)\n", text)
    assert re.search(r"failed: Broken: train ended with status 2: image folder .*nowhere does not exist", text)
    table = json.loads((out / "table_2.json").read_text())
    good, broken = table["rows"]
    assert (good["status"], broken["status"].partition(":")[0]) == ("complete", "failed")
    assert set(good["ours"]) == {"ground_truth", "detector"}
    assert good["ours_minus_printed"] == {}
    assert "| Broken (1) | failed | failed | - |" in (out / "table_2.md").read_text()
    html = (out / "table_2.html").read_text()
    assert "TRIAL" in html
    assert not re.search(r"(src|href)=|url\(|<script|@import", html)
    assert not list(out.glob("*/*.pt"))

    before = (out / "tiny/result.json").stat().st_mtime_ns
    said[0].clear()
    reproduce_table(plan, Options("2", ["Good"], smoke=True), said[1])
    text = "".join(said[0])
    assert "row 1 of 1: Good" in text
    assert "complete, kept" in text
    assert text.splitlines()[-1].startswith(f"the table is in {out / 'table_2'}.md, .json and .html; next: ")
    assert (out / "tiny/result.json").stat().st_mtime_ns == before

    # A run of before a key was there had the value that it has by default.
    for name in ("reproduce.json", "result.json"):
        content = json.loads((out / "tiny" / name).read_text())
        lines = content["config"].splitlines(keepends=True)
        assert any(line.startswith("  BLUR_PROB:") for line in lines)
        content["config"] = "".join(line for line in lines if not line.startswith("  BLUR_PROB:"))
        # Nor was the memory format left to the device.
        assert "CHANNELS_LAST: auto" in content["config"]
        content["config"] = content["config"].replace("CHANNELS_LAST: auto", "CHANNELS_LAST: false")
        (out / "tiny" / name).write_text(json.dumps(content))
    said[0].clear()
    reproduce_table(plan, Options("2", ["Good"], smoke=True), said[1])
    assert "complete, kept" in "".join(said[0])

    for key, kept, value in (
        ("TRAIN.OPTIMIZER.LR", "0.001", "0.5"),
        ("SEED", "0", "7"),
        ("AUGMENT.BLUR_PROB", "0.0", "0.1"),
    ):
        other = Plan(small_root, out, overrides=(key, value))
        with pytest.raises(PsaPoseError, match="1 of 1 rows failed"):
            reproduce_table(other, Options("2", ["Good"], smoke=True), said[1])
        assert f"holds a run of another config ({key}: {kept} -> {value})" in "".join(said[0])


@pytest.mark.slow
def test_a_stopped_row_goes_on_where_it_was(small_root, people, tmp_path, said):
    plan = Plan(small_root, tmp_path / "out", people, overrides=("TRAIN.BATCH_SIZE", "8"), page=False)
    folder = tmp_path / "out/tiny"

    def stop_after_an_epoch():
        until = time.monotonic() + 60
        while not (folder / "last.pt").exists() and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=stop_after_an_epoch)
    watcher.start()
    with pytest.raises(Interrupted) as ended:
        reproduce_table(plan, Options("2", ["Good"]), said[1])
    watcher.join()
    assert ended.value.status == 128 + signal.SIGTERM
    assert "| Good | unfinished | unfinished |" in (tmp_path / "out/table_2.md").read_text()
    assert not (folder / "final.safetensors").exists()
    reproduce_table(plan, Options("2", ["Good"]), said[1])
    log = (folder / "train.txt").read_text()
    assert re.search(r"going on after \d+ epochs", log)
    assert "epoch 12/12" in log
    (row, *_) = json.loads((tmp_path / "out/table_2.json").read_text())["rows"]
    assert row["changed"] == []
    assert row["ours_minus_printed"].keys() == {"ground_truth", "detector"}
    # A finished training is only tested again where only the test is another one.
    row = read_rows("2", small_root)[1][0]
    assert finished_result(row_job(plan, row)) is not None
    other = row_job(replace(plan, overrides=(*plan.overrides, "TEST.FLIP", "false")), row)
    assert finished_result(other) is None
    assert other.steps[0].done == folder / "final.safetensors"
    assert other.steps[0].done.exists()


def test_a_table_says_protocol_interval_difference_and_what_was_changed(small_root, tiny_config, tmp_path):
    plan = Plan(small_root, tmp_path / "out")
    (row, *_) = read_rows("2", small_root)[1]
    folder = plan.out / row.folder
    cfg = tiny_config("OUTPUT_DIR", folder, "CODEC.NAME", "standard", "INPUT.SIZE", [32, 32])
    (evaluation,) = run_test(cfg, None, "targets")
    changed = replace(row_job(plan, row), cfg=load_config(row.file(small_root), ["TRAIN.EPOCHS", "3"]))
    low, high = write_result(changed, 1.0)["evaluations"][0]["intervals"]["AP"]
    assert 0 < low < evaluation.stats["AP"] < high <= 1
    content = table_content("T", [row], plan.out, small_root, {}, False)
    (made,) = content["rows"]
    percent = 100 * evaluation.stats["AP"]
    assert made["ours_minus_printed"] == {"ground_truth": round(percent - 76.5, 2)}
    text = table_page(content).as_markdown()
    assert f"| Good (1) | {percent:.1f} ({100 * low:.1f} to {100 * high:.1f}, no flip) | not tested | 76.5 |" in text
    assert f"| ground truth | {percent - 76.5:+.1f} ground truth |" in text
    assert "(1) Good: run with TRAIN.EPOCHS: 12 -> 3" in text
    assert "| Good | printed | - | 76.5 | 93.6 | 83.6 | 73.2 | 81.0 | 79.0 |" in text
    assert "All statistics" in table_page(content).as_page()


def test_what_a_print_looks_like():
    _, rows = read_rows("2", ROOT)
    looks = {row.name: looks_like(row.printed) for row in rows if not row.like_for_like}
    assert all(boxes == ("ground_truth" if "PSA" in name else "detector") for name, boxes in looks.items())
    assert looks_like({"AP": 66.9}) is None


def test_the_list_of_published_files_is_whole(tmp_path):
    entries = read_published(ROOT, tmp_path)
    assert len({entry.folder for entry in entries}) == len(entries) == 34
    networks = set()
    for entry in entries:
        load_config(ROOT / f"configs/{entry.config}.yaml", entry.keys)
        networks.add(entry.config)
        assert 65 < entry.printed["detector"]["AP"] < 78
        assert entry.reason
    assert len(networks) == 14
    known = {values for _, _, values in PUBLISHED}
    order = ("AP", "AP50", "AP75", "APM", "APL", "AR")
    stated = [e.printed["ground_truth"] for e in entries if "ground_truth" in e.printed]
    assert {tuple(s.get(name) for name in order) for s in stated} <= known


def test_a_published_file_is_converted_tested_and_compared(small_root, people, tmp_path, said):
    listed = yaml.safe_load((ROOT / "configs/paper/published.yaml").read_text())
    file = {"file": "pose.pth.tar", "source": "simple_baseline", "config": "tiny", "expect": "same"}
    file |= {"keys": ["INPUT.CHANNEL_ORDER", "bgr"], "detector": {"AP": 70.4}}
    listed["files"] = [file, {**file, "file": "absent.pth"}]
    (small_root / "configs/paper/published.yaml").write_text(yaml.safe_dump(listed))
    downloads = tmp_path / "downloads/pose_coco"
    downloads.mkdir(parents=True)
    plan = Plan(small_root, tmp_path / "out", people, page=False)
    with pytest.raises(DataError, match="holds none of the 2 files"):
        reproduce_published(plan, tmp_path / "downloads", said[1], False, False)
    model = build_model(load_config(small_root / "configs/tiny.yaml"))
    torch.save({f"module.{key}": value for key, value in model.state_dict().items()}, downloads / "pose.pth.tar")
    reproduce_published(plan, tmp_path / "downloads", said[1], False, False)
    text = "".join(said[0])
    assert "not there: absent.pth; published at the model zoo that the README of github.com/microsoft" in text
    assert re.search(r"row 1 of 1: pose.pth.tar, .*: convert test in", text)
    tested, absent = json.loads((tmp_path / "out/published.json").read_text())["rows"]
    assert (tested["status"], absent["status"]) == ("complete", "not there")
    ap = 100 * tested["ours"]["detector"]["stats"]["AP"]
    assert tested["ours_minus_published"] == {"detector": round(ap - 70.4, 2), "ground_truth": None}
    assert f"| {ap - 70.4:+.1f} |" in (tmp_path / "out/published.md").read_text()


def test_durations_have_few_digits():
    assert [duration(s) for s in (3.2, 99, 130, 7200)] == ["3 s", "99 s", "2 min", "2.0 h"]
