"""Turn what a label tool wrote into a data set: python tools/import_dataset.py LABELS --out FOLDER [--split 0.2]"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Read what a label tool wrote (COCO exports of CVAT, Label Studio, COCO Annotator, Roboflow and "
        "SLEAP; Label Studio's JSON; labelme's folder; YOLO pose folders; DeepLabCut's CSV), fill what is missing, and "
        "write keypoints.json, skeleton.yaml and config.yaml. Pictures stay where they are."
    )
    parser.add_argument("labels", type=Path, help="label file, or the folder that the tool exported")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument(
        "--images", type=Path, help="folder that holds the pictures, at any depth (where the labels lie)"
    )
    parser.add_argument(
        "--split",
        default="",
        help="share of the pictures to test on, such as 0.2, or 'source' for the labels' own split",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split (%(default)s)")
    parser.add_argument(
        "--group-by",
        default="auto",
        help="pictures that stay together in a split: auto (videos, augmented copies), image, folder, or a regular "
        "expression whose first group names them (%(default)s)",
    )
    parser.add_argument(
        "--names", default="", help="keypoints in order, with commas, where the labels do not name them"
    )
    parser.add_argument("--category", default="", help="category or class to take, where several have keypoints")
    parser.add_argument("--flip", default="", help="mirror pairs left:right,..., or none, where the names do not tell")
    args = parser.parse_args(argv)

    from psa_pose.label_import.command import ImportOptions, run_import

    names = tuple(word.strip() for word in args.names.split(",") if word.strip())
    run_import(
        args.labels,
        ImportOptions(args.out, args.images, args.split, args.seed, args.group_by, names, args.category, args.flip),
    )


if __name__ == "__main__":
    run_command(main)
