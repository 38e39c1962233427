"""Say whether one model is better than another: python tools/compare.py A_results.json B_results.json

Of segmentation networks: python tools/compare.py A/segmentation_val_full.npz B/segmentation_val_full.npz
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.config import load_config


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Paired comparison of two result files, COCO keypoints or the .npz of two segmentation tests: "
        "differences of every statistic with bootstrap intervals and p-values, and the keypoints and images, or "
        "classes, that moved most."
    )
    parser.add_argument("first", type=Path, help="result file, as tools/test.py writes it, or anybody's")
    parser.add_argument("second", type=Path, help="the other one, on the same images")
    parser.add_argument("--annotations", type=Path, help="annotation file, where none is named beside the results")
    parser.add_argument("--resamples", type=int, default=1000, help="of the images (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    parser.add_argument("--report", type=Path, help="also write an HTML page with the persons that moved most")
    parser.add_argument("--cfg", type=Path, help="config whose images and crops the page shows, and whose skeleton")
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change, e.g. DATASET.ROOT F")
    args = parser.parse_intermixed_args(argv)
    if args.resamples < 10:
        parser.error("--resamples must be at least 10")

    if args.report and not args.cfg:
        parser.error("--report needs --cfg")
    if args.first.suffix == ".npz":
        if args.annotations or args.report or args.overrides or args.cfg:
            parser.error("two .npz files need nothing but --resamples and --json")
        from psa_pose.segmentation.evaluation.compare import run_compare as compare_labels

        compare_labels(args.first, args.second, args.resamples, args.json)
        return
    config = load_config(args.cfg, args.overrides) if args.cfg else None

    from psa_pose.evaluation.compare import run_compare

    run_compare(args.first, args.second, args.annotations, args.resamples, args.json, page=args.report, cfg=config)


if __name__ == "__main__":
    run_command(main)
