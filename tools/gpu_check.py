"""Check a machine's GPUs, line by line: python tools/gpu_check.py [--only NAME ...] [--minutes 10]"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="One line per promise: its figure, its limit and PASS, FAIL or LEFT OUT. The exit status is the "
        "number of FAILs. Without a GPU the lines that make sense there are run on the CPU."
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="checks, such as attention or sharing")
    parser.add_argument("--minutes", type=float, default=10, help="after them no check is begun (default %(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=Path("output/gpu_check"), help="of gpu_check.json and .md (default %(default)s)"
    )
    args = parser.parse_args(argv)
    # The profiler that launches are counted with talks on stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")

    from psa_pose.gpu_check.lines import failures, summary
    from psa_pose.gpu_check.run import run_gpu_check

    lines = run_gpu_check(args.folder, args.only, args.minutes, lambda line: print(line, flush=True))
    print(f"\n{summary(lines)}; {args.folder / 'gpu_check.md'} is a table for an issue, gpu_check.json has every digit")
    if failures(lines):
        # A shell knows no status above 255, and gives those from 126 a meaning of its own.
        raise SystemExit(min(failures(lines), 125))


if __name__ == "__main__":
    run_command(main)
