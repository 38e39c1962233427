"""Test a network: python tools/test.py --cfg F --checkpoint C [KEY value ...]"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.config import load_config


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Keypoint AP, MPII's PCKh or mIoU of a checkpoint, under each protocol that is there."
    )
    parser.add_argument("--cfg", type=Path, required=True, help="YAML config file")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="what tools/train.py or tools/convert.py wrote")
    source.add_argument("--results", type=Path, help="instead of a network, a COCO keypoint result file")
    source.add_argument(
        "--oracle",
        choices=["keypoints", "labels", "targets"],
        help="instead of a network, the annotated keypoints or labels themselves, or what the size of the network's "
        "maps leaves of them",
    )
    parser.add_argument(
        "--submission",
        metavar="NAME",
        help="write the file for the test server of COCO, VOC or Cityscapes under this algorithm's name; people: "
        "DATASET.TEST_ANNOTATIONS is then an image-info file; segmentation: DATASET.TEST_SPLIT is then test",
    )
    parser.add_argument("--baselines", action="store_true", help="print the published rows of both protocols beside it")
    parser.add_argument("--no-report", action="store_true", help="do not write the HTML page")
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change, e.g. TEST.FLIP false")
    args = parser.parse_intermixed_args(argv)
    if args.submission and not args.checkpoint:
        parser.error("--submission needs --checkpoint")
    config = load_config(args.cfg, args.overrides)

    from psa_pose.evaluation.submission import run_submission
    from psa_pose.evaluation.test import run_results, run_test
    from psa_pose.tasks import build_task

    if args.submission and config.TASK == "segmentation":
        from psa_pose.segmentation.evaluation.submission import run_submission as submit_labels

        submit_labels(build_task(config), args.checkpoint, args.submission)
    elif args.submission:
        run_submission(build_task(config), args.checkpoint, args.submission)
    elif args.results:
        run_results(config, args.results, not args.no_report, args.baselines)
    else:
        run_test(build_task(config), args.checkpoint, args.oracle, not args.no_report, args.baselines)


if __name__ == "__main__":
    run_command(main)
