"""Count parameters and multiply-adds: python tools/complexity.py --cfg F [KEY value ...] or --table 1 ... 6"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.config import load_config
from psa_pose.files import shipped_folder, write_json


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Parameters and multiply-adds of a network, or of each row of a table of the PSA paper beside "
        "the printed figures."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--cfg", type=Path, help="YAML config file")
    source.add_argument("--table", choices=["1", "2", "3", "4", "5", "6"], help="table of the paper")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--measure", action="store_true", help="also measure time and peak memory per image")
    parser.add_argument("--batch", type=int, default=4, help="images per batch of --measure (default 4)")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of --measure (default 10)")
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change")
    args = parser.parse_intermixed_args(argv)
    config = load_config(args.cfg, args.overrides) if args.cfg else None

    from psa_pose.benchmark.model import measure_rows
    from psa_pose.models.complexity import config_complexity
    from psa_pose.paper.complexity import Row, complexity_row, format_rows, read_rows, row_complexity

    if config is not None:
        root, title = Path(), str(args.cfg)
        rows = [complexity_row(Row(args.cfg.stem, title), config_complexity(config)) | {"config": title}]
    else:
        root = shipped_folder("configs").parent
        title, listed = read_rows(args.table, root)
        rows = [row_complexity(row, root, args.overrides) for row in listed if not row.like_for_like]
    if args.measure:
        measure_rows(rows, args.overrides, args.batch, args.rounds, root)
    print(f"{title}\n\n{format_rows(rows)}")
    if args.json:
        write_json(args.json, rows)
        print(f"\nwritten to {args.json}")


if __name__ == "__main__":
    run_command(main)
