"""Compare attention blocks in one small network, over seeds: python tools/study.py [--rows none psa_p] [KEY value ...]

Runs that are complete are kept, so the command goes on where it was interrupted. The first row is the one that the
others are compared with, paired by seed and by test image.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psa_pose.command_line import run_command
from psa_pose.config import load_config
from psa_pose.errors import ConfigError
from psa_pose.files import shipped_folder


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="AP and gate statistics of attention blocks, over seeds.")
    parser.add_argument(
        "--cfg", type=Path, default=shipped_folder("configs") / "synthetic/quickstart.yaml", help="YAML config file"
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        default=["none", "psa_p", "psa_p:fig2", "squeeze_excitation"],
        help="attention names; a PSA block's spatial form after a colon",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("output/study_attention"))
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change for every run")
    args = parser.parse_intermixed_args(argv)
    for row in args.rows:
        load_config(args.cfg, [*args.overrides, *attention_keys(row)])
    runs: dict[str, list[dict[str, Any]]] = {row: [] for row in args.rows}
    total = len(args.rows) * len(args.seeds)
    # Seed by seed, so that an early look at the results compares like with like.
    for number, (seed, row) in enumerate([(s, r) for s in args.seeds for r in args.rows], start=1):
        print(f"run {number} of {total}: {row}, seed {seed}", flush=True)
        runs[row].append(finished_run(args, row, seed))
    write_study(args.out, runs, args.seeds)


def write_study(out: Path, runs: dict[str, list[dict[str, Any]]], seeds: list[int]) -> None:
    """Print the table of complete runs, and write study.json, study.md and study.svg."""
    from psa_pose.paper.study import analyse, as_dicts, cells, plot
    from psa_pose.tables import format_columns, markdown_table

    rows = analyse({row: [result_files(out, row, seed) for seed in seeds] for row in runs})
    gates = {row: mean_gates(results) for row, results in runs.items()}
    table = cells(rows)
    for line, spread in zip(table, ["std of spatial gates", *map(gate_range, gates.values())], strict=True):
        line.append(spread)
    content = {"seeds": seeds, "rows": as_dicts(rows), "gates": gates, "runs": runs}
    (out / "study.json").write_text(json.dumps(content, indent=1))
    (out / "study.md").write_text(markdown_table(table[0], table[1:]) + "\n")
    (out / "study.svg").write_text(plot(rows))
    print(f"\nAP in percent, mean ± standard deviation over {len(seeds)} seeds; differences from {table[1][0]!r}")
    print(format_columns(table[0], table[1:], left=len(table[0]), rule=False))
    print(f"\nevery run, study.json, the table study.md and the plot study.svg are in {out}")


def attention_keys(row: str) -> list[str]:
    """Config overrides of a row: "psa_p:fig2" -> the block's name and its spatial form."""
    name, _, spatial = row.partition(":")
    return ["MODEL.ATTENTION.NAME", name, *(["MODEL.ATTENTION.SPATIAL", spatial] if spatial else [])]


def finished_run(args: argparse.Namespace, row: str, seed: int) -> dict[str, Any]:
    """Train, test and inspect one run in its own folder; the answer is what it scored. A complete one is only read."""
    folder = run_folder(args.out, row, seed)
    keys = [*args.overrides, *attention_keys(row), "SEED", str(seed), "OUTPUT_DIR", str(folder)]
    wanted, result = load_config(args.cfg, keys).dump(), folder / "result.json"
    if result.exists():
        kept = json.loads(result.read_text())
        if kept["config"] != wanted:
            raise ConfigError(f"{folder} holds a run of another config; remove it or give another --out")
        return kept
    common = ["--cfg", str(args.cfg)]
    start = "--resume" if (folder / "last.pt").exists() else "--overwrite"
    call("train", *common, start, *keys)
    call("test", *common, "--checkpoint", str(folder / "last.pt"), *keys)
    tests = json.loads((folder / "test" / "metrics.json").read_text())
    content = {
        "config": wanted,
        "ap": {test["protocol"]: 100 * test["stats"]["AP"] for test in tests},
        "gates": gate_deviations(args.cfg, keys, folder / "last.pt"),
    }
    result.write_text(json.dumps(content))
    return content


def run_folder(out: Path, row: str, seed: int) -> Path:
    return out / f"{row.replace(':', '_')}_seed{seed}"


def call(command: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "psa_pose", command, *arguments], check=True)


def gate_deviations(config_file: Path, keys: list[str], checkpoint: Path) -> dict[str, float]:
    """Standard deviation of each spatial gate of a trained network, on its first batch of test persons."""
    from psa_pose.checkpoints import load_checkpoint, load_weights
    from psa_pose.codecs import build_codec
    from psa_pose.config.skeleton import build_skeleton
    from psa_pose.data.build import build_test_sets
    from psa_pose.data.loader import OrderedBatches, make_loader
    from psa_pose.models import build_model
    from psa_pose.models.gates import collect_gates, spatial_gate_deviation
    from psa_pose.predict import Normalization

    cfg = load_config(config_file, keys)
    model = build_model(cfg).eval()
    load_weights(model, load_checkpoint(checkpoint)["model"], checkpoint)
    (test_set,) = build_test_sets(cfg, build_skeleton(cfg), build_codec(cfg).grid, print, "ground_truth")
    dataset = test_set.dataset
    batch = next(iter(make_loader(dataset, OrderedBatches(len(dataset), 64), 0, pin_memory=False)))
    normalize = Normalization.of(cfg.INPUT.MEAN, cfg.INPUT.STD, next(model.parameters()).device)
    return spatial_gate_deviation(collect_gates(model, normalize(batch.crops)))


def result_files(out: Path, row: str, seed: int) -> dict[str, Path]:
    """The result file of each protocol of a complete run."""
    folder = run_folder(out, row, seed)
    tests = json.loads((folder / "test" / "metrics.json").read_text())
    return {t["protocol"]: folder / "test" / f"keypoints_{t['split']}_{t['protocol']}_results.json" for t in tests}


def mean_gates(results: list[dict[str, Any]]) -> dict[str, float]:
    """The deviation of each spatial gate, averaged over seeds."""
    return {name: statistics.mean(result["gates"][name] for result in results) for name in results[0]["gates"]}


def gate_range(gates: dict[str, float]) -> str:
    return f"{min(gates.values()):.4f} to {max(gates.values()):.4f}" if gates else "-"


if __name__ == "__main__":
    run_command(main)
