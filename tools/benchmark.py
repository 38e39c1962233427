"""Measure this machine: python tools/benchmark.py attention|model [options]"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from psa_pose.config import load_config
from psa_pose.errors import run_tool


def main() -> None:
    parser = argparse.ArgumentParser(description="Times are medians; compared works run alternately in one process.")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--threads", type=int, default=0, help="torch's threads (default: as torch chooses)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of the alternation (default 15)")
    parser.add_argument("--batch", type=int, default=4, help="images per batch (default 4)")
    kinds = parser.add_subparsers(dest="kind", required=True)
    attention = kinds.add_parser("attention", help="attention blocks at the shapes of the pose networks, 256x192")
    attention.add_argument(
        "--names", nargs="+", default=["psa_p", "psa_p:fig2", "psa_s"], help="blocks; psa_p:fig2 ..."
    )
    attention.add_argument("--channels-last", action="store_true")
    attention.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    model = kinds.add_parser("model", help="whole networks; the first config is what the others are compared with")
    model.add_argument(
        "configs", nargs="+", metavar="CONFIG[,KEY,value...]", help="config file, with changes of its own"
    )
    model.add_argument("--train", action="store_true", help="forward and backward instead of forward")
    args = parser.parse_args()
    # The profiler that memory is read from talks on stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")

    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    rows, text = run_attention(args) if args.kind == "attention" else run_model(args)
    print(f"{text}\n\n{torch.get_num_threads()} torch threads, batch {args.batch}, {args.rounds} rounds")
    if args.json:
        from psa_pose.checkpoints import write_whole

        write_whole(args.json, lambda file: file.write(json.dumps(rows, indent=1).encode()))
        print(f"written to {args.json}")


def run_attention(args: argparse.Namespace) -> tuple[list[dict[str, Any]], str]:
    from psa_pose.distributed import choose_device
    from psa_pose.engine.benchmark.attention import benchmark_attention, summary
    from psa_pose.engine.benchmark.measure import format_records

    device = choose_device(args.device)
    rows = benchmark_attention(args.names, args.batch, args.rounds, device, args.channels_last)
    return rows, f"{format_records(rows)}\n\n{format_records(summary(rows))}"


def run_model(args: argparse.Namespace) -> tuple[list[dict[str, Any]], str]:
    from psa_pose.engine.benchmark.measure import format_records
    from psa_pose.engine.benchmark.model import compare_models

    configs = {}
    for name in args.configs:
        file, *overrides = name.split(",")
        configs[name] = load_config(Path(file), overrides)
    rows = compare_models(configs, args.batch, args.rounds, args.train)
    return rows, format_records(rows)


if __name__ == "__main__":
    run_tool(main)
