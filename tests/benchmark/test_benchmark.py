"""How time and memory are measured, and the benchmark's commands."""

import json
import runpy
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from psa_pose.benchmark import attention, published_loops
from psa_pose.benchmark.measure import alternate, peak_memory, ratio
from psa_pose.codecs import make_codec
from psa_pose.tables import format_records

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def test_alternation_runs_every_work_in_every_round_in_both_orders():
    order = []
    works = {name: (lambda name=name: order.append(name)) for name in "ab"}
    seconds = alternate(works, 3, CPU)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    rounds = ["".join(order[i : i + 2]) for i in range(0, len(order), 2)]
    assert len(rounds) == 5
    assert set(rounds) == {"ab", "ba"}


def test_ratio_is_the_median_of_paired_ratios():
    assert ratio([2.0, 30.0, 4.0], [1.0, 10.0, 4.0]) == 2.0
    # Sleeps are never too short; how much too long depends on what else runs.
    seconds = alternate({"slow": lambda: time.sleep(0.2), "fast": lambda: time.sleep(0.02)}, 3, CPU)
    assert 2 < ratio(seconds["slow"], seconds["fast"]) < 30


def test_peak_memory_sees_what_lives_at_once():
    x = torch.zeros(1000, 250)
    assert peak_memory(lambda: x + 1, CPU) == pytest.approx(1e6, rel=0.01)
    assert peak_memory(lambda: ((x + 1) + 1, None), CPU) == pytest.approx(2e6, rel=0.01)
    assert peak_memory(lambda: [x + 1, x + 1, x + 1], CPU) == pytest.approx(3e6, rel=0.01)


def test_records_align_whatever_their_keys():
    text = format_records([{"name": "a", "ms": 1.23456}, {"name": "long", "shape": [1, 2]}])
    assert text.splitlines() == ["name  ms    shape", "a     1.23  -", "long  -     1x2"]


def run_benchmark(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, arguments)])
    runpy.run_path(str(ROOT / "tools/benchmark.py"), run_name="__main__")


def test_attention_benchmark(tmp_path, monkeypatch, capsys):
    out = tmp_path / "a.json"
    monkeypatch.setattr(attention, "SHAPES", {"R50": ((512, 8, 6),), "W48": ((192, 16, 12), (384, 8, 6))})
    run_benchmark(monkeypatch, "attention", "--rounds", 1, "--batch", 1, "--json", out, "--names", "psa_p:fig2", "cbam")
    rows = json.loads(out.read_text())
    assert [row["network"] for row in rows] == 2 * ["R50", "W48", "W48"]
    assert all(row["forward_ms"] > 0 for row in rows)
    assert all(("speedup_forward" in row) == (row["name"] == "psa_p:fig2") for row in rows)
    assert "lowest_forward" in capsys.readouterr().out


@pytest.mark.parametrize("train", [[], ["--train"]])
def test_model_benchmark_compares_with_the_first(tmp_path, monkeypatch, train):
    out, config = tmp_path / "m.json", ROOT / "configs/synthetic/quickstart.yaml"
    plain = f"{config},MODEL.WIDTH,8,MODEL.ATTENTION.NAME,none"
    run_benchmark(
        monkeypatch, "model", plain, f"{config},MODEL.WIDTH,8", "--rounds", 1, "--batch", 1, "--json", out, *train
    )
    first, second = json.loads(out.read_text())
    assert (first["name"], second["name"]) == ("quickstart,MODEL.ATTENTION.NAME,none", "quickstart")
    assert first["ratio"] == 1
    assert second["ratio"] > 0
    assert second["memory_mib"] > 0


@pytest.mark.parametrize(("words", "says"), [((), "two of the networks"), ((",MODEL.WIDTH",), "no value")])
def test_a_network_given_twice_or_a_key_without_a_value_is_refused(monkeypatch, capsys, words, says):
    config = str(ROOT / "configs/synthetic/quickstart.yaml")
    with pytest.raises(SystemExit):
        run_benchmark(monkeypatch, "model", config, config + "".join(words), "--rounds", 1)
    assert says in capsys.readouterr().err


def test_training_benchmark_takes_real_steps(tmp_path, monkeypatch, people):
    out = tmp_path / "t.json"
    base = (
        f"{ROOT / 'configs/synthetic/quickstart.yaml'},DATASET.ROOT,{people},MODEL.WIDTH,8,LOADER.WORKERS,0,DEVICE,cpu"
    )
    wider = f"{base},INPUT.SIZE,[128, 128]"
    run_benchmark(monkeypatch, "train", "--rounds", 2, "--batch", 2, "--json", out, base, wider)
    first, second = json.loads(out.read_text())
    assert first["ratio"] == 1
    assert second["memory_mib"] > first["memory_mib"] > 0
    assert all(0 < row["loading_share"] < 1 and row["images_per_s"] > 0 for row in (first, second))
    assert all(row["last_loss"] != row["first_loss"] for row in (first, second))


def test_codec_benchmark(tmp_path, monkeypatch):
    out = tmp_path / "c.json"
    run_benchmark(monkeypatch, "codec", "--rounds", 1, "--batch", 2, "--size", "256x192", "--json", out)
    rows = {row["codec"]: row for row in json.loads(out.read_text())}
    assert list(rows) == ["standard", "dark", "udp_gaussian", "udp_offset"]
    assert all(row["encode_ratio"] > 0 and row["decode_ratio"] > 0 for row in rows.values())
    assert "encode_times_as_fast" in rows["standard"]
    assert "decode_times_as_fast" in rows["dark"]


def test_the_plain_loops_do_the_same_work():
    joints = torch.rand(3, 5, 2) * torch.tensor([255.0, 320.0]) - 20
    codec = make_codec("standard", (192, 256), (48, 64))
    targets, _ = codec.encode(joints, torch.ones(3, 5))
    loops = [published_loops.encode_standard(person, (48, 64), 4.0, 2.0) for person in joints.numpy()]
    assert torch.allclose(targets, torch.from_numpy(np.stack(loops)), atol=1e-6)
    codec = make_codec("dark", (192, 256), (48, 64))
    maps = codec.encode(joints, torch.ones(3, 5))[0] + 0.01 * torch.rand(3, 5, 64, 48)
    decoded, _ = codec.decode(maps)
    assert torch.allclose(decoded, 4 * torch.from_numpy(published_loops.decode_dark(maps.numpy())), atol=1e-3)


def test_data_benchmark(people, tmp_path, monkeypatch):
    out, config = tmp_path / "d.json", ROOT / "configs/synthetic/quickstart.yaml"
    run_benchmark(monkeypatch, "data", "--cfg", config, "--rounds", 5, "--json", out, "DATASET.ROOT", people)
    rows = json.loads(out.read_text())
    assert [row["set"] for row in rows] == [
        "train",
        "train, images grouped",
        "test, ground_truth boxes",
        "test, detector boxes",
    ]
    assert all(row["ratio"] > 0.5 and row["times_as_fast"] > 0 for row in rows)


def test_inference_benchmark_compares_with_plain_pytorch(tmp_path, monkeypatch):
    out, config = tmp_path / "i.json", ROOT / "configs/synthetic/quickstart.yaml"
    small = f"{config},MODEL.WIDTH,8"
    ways = ["folded", "bf16"]
    run_benchmark(monkeypatch, "infer", small, "--rounds", 1, "--batches", 1, 2, "--json", out, "--ways", *ways)
    found = json.loads(out.read_text())
    assert [(row["batch"], row["way"]) for row in found["ways"]] == [(b, w) for b in (1, 2) for w in ("eager", *ways)]
    assert all(row["times_as_fast"] == 1 for row in found["ways"] if row["way"] == "eager")
    assert all(row["persons_per_s"] == pytest.approx(1e3 * row["batch"] / row["latency_ms"]) for row in found["ways"])
    stages = [key for key in found["stages"][0] if key.endswith("_ms")]
    assert stages == ["decode_ms", "crop_ms", "network_ms", "maps_ms", "draw_ms"]
    assert all(row["images_per_s"] * row["persons"] == pytest.approx(row["persons_per_s"]) for row in found["stages"])


def test_a_way_to_infer_that_is_not_known_is_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run_benchmark(monkeypatch, "infer", "--ways", "foldd")
    assert "did you mean 'folded'" in capsys.readouterr().err
