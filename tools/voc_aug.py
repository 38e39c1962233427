"""Pascal VOC's aug labels from SBD's files: python tools/voc_aug.py --voc VOCdevkit --sbd benchmark_RELEASE"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write SegmentationClassAug and train_aug.txt into VOC 2012's folder.")
    parser.add_argument("--voc", type=Path, required=True, help="folder that holds VOCdevkit/VOC2012, or that folder")
    parser.add_argument("--sbd", type=Path, required=True, help="folder of SBD's benchmark_RELEASE or its dataset")
    args = parser.parse_args(argv)

    from psa_pose.segmentation.data.sbd import build_voc_aug

    own, added = build_voc_aug(args.voc, args.sbd)
    print(f"wrote {own} labels of VOC and {added} of SBD to SegmentationClassAug; train_aug.txt lists {own + added}")


if __name__ == "__main__":
    run_command(main)
