"""Show samples of a data set: python tools/browse.py --cfg F [--split test] [--out samples.html] [KEY value ...]"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.config import load_config


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Samples of a data set before and after augmentation: stored image with box and keypoints, the "
        "crop that the network is fed, its target heatmaps. The same for the same SEED."
    )
    parser.add_argument("--cfg", type=Path, required=True, help="YAML config file")
    parser.add_argument("--split", choices=("train", "test"), default="train", help="which persons (%(default)s)")
    parser.add_argument("--count", type=int, default=12, help="number of persons (%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("output/browse.html"), help=".png, .jpg, or .html for a page (%(default)s)"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change, e.g. SEED 1")
    args = parser.parse_intermixed_args(argv)
    config = load_config(args.cfg, args.overrides)

    from psa_pose.dataset_tools.browse import run_browse

    count = run_browse(config, args.split, args.count, args.out)
    print(f"{count} samples are in {args.out}")


if __name__ == "__main__":
    run_command(main)
