"""Say what in a data set would spoil a run: python tools/check_dataset.py --cfg F [KEY value ...]"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.config import load_config


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Say what in the annotation and detection files of a config would end a run or spoil its AP. Exit "
        "status 1 where there is an error."
    )
    parser.add_argument("--cfg", type=Path, required=True, help="YAML config file")
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change, e.g. DATASET.ROOT F")
    args = parser.parse_intermixed_args(argv)
    config = load_config(args.cfg, args.overrides)

    from psa_pose.dataset_tools.check_dataset import run_check

    raise SystemExit(1 if run_check(config) else 0)


if __name__ == "__main__":
    run_command(main)
