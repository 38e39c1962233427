"""Reproduce a table of the PSA paper: python tools/reproduce.py --table 2 [--rows NAME ...] [KEY value ...]"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.files import shipped_folder


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Train, resume and test the rows of a table of the PSA paper, or test published checkpoints, "
        "and set our figures beside the printed ones. Complete rows are kept."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--table", choices=["2", "3", "4", "5", "6"], help="table of the paper")
    source.add_argument(
        "--published", type=Path, metavar="DIR", help="folder with checkpoints of configs/paper/published.yaml"
    )
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="rows of the table, or their configs")
    parser.add_argument("--like-for-like", action="store_true", help="also the rows that the paper lacks")
    parser.add_argument("--data", type=Path, help="folder of COCO (default: DATASET.ROOT of the configs, data/coco)")
    parser.add_argument("--gpus", type=int, default=1, help="processes, each with a GPU if there is one (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder of the runs (output/reproduce, ..._smoke or ..._published)")
    parser.add_argument("--tflops", type=float, default=15.0, help="assumed for --dry-run's estimate (%(default)s)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--dry-run", action="store_true", help="print the commands and estimated GPU hours, run nothing")
    mode.add_argument("--smoke", action="store_true", help="every row's real network for one step on synthetic people")
    mode.add_argument("--markdown-only", action="store_true", help="print the table as it stands, run nothing")
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change for every row")
    args = parser.parse_intermixed_args(argv)
    # --rows takes all the words after it: the first config key ends them.
    keys = [i for i, word in enumerate(args.rows) if re.fullmatch(r"[A-Z]+(\.[A-Z0-9_]+)+", word)]
    names, overrides = (args.rows[: keys[0]], args.rows[keys[0] :]) if keys else (args.rows, [])
    overrides = [*args.overrides, *overrides]
    if args.published and (args.rows or args.like_for_like or args.smoke):
        parser.error("--published takes none of --rows, --like-for-like and --smoke")
    if args.tflops <= 0:
        parser.error("--tflops must be above 0")

    from psa_pose.paper import reproduce as command
    from psa_pose.paper.plan import Plan
    from psa_pose.paper.published import reproduce_published

    name = "reproduce" + ("_smoke" if args.smoke else "_published" if args.published else "")
    root = shipped_folder("configs").parent
    plan = Plan(root, args.out or Path("output") / name, args.data, args.gpus, tuple(overrides))
    if args.published:
        reproduce_published(plan, args.published, write, args.dry_run, args.markdown_only)
        return
    request = command.Options(args.table, names, args.like_for_like, args.smoke, args.tflops)
    action = command.reproduce_table
    if args.dry_run or args.markdown_only:
        action = command.dry_run if args.dry_run else command.print_markdown
    action(plan, request, write)


def write(text: str) -> None:
    print(text, end="", flush=True)


if __name__ == "__main__":
    run_command(main)
