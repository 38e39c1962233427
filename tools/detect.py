"""Find the boxes of people, and say what they are worth: python tools/detect.py --cfg F --out boxes.json

python tools/detect.py --images folder --annotations F.json --out detections.json
python tools/detect.py --cfg F --eval-only detections.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.config import load_config


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Person boxes of torchvision's detector in the form of COCO's published detection file, for "
        "DATASET.TEST_DETECTIONS; and the person AP (box AP) of such a file, where the persons are annotated."
    )
    parser.add_argument("--cfg", type=Path, help="config whose test images and annotations are taken")
    parser.add_argument("--annotations", type=Path, help="instead: COCO annotation or image-info file")
    parser.add_argument("--images", type=Path, help="and the folder of its images")
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, help="detection file to write")
    task.add_argument("--eval-only", type=Path, metavar="FILE", help="only say the person AP of this detection file")
    parser.add_argument("--detector-weights", type=Path, help="file for torchvision's detector instead of a download")
    parser.add_argument(
        "--score", type=float, default=0.05, help="least score of a box; the detector has none below %(default)s"
    )
    parser.add_argument("--batch", type=int, default=1, help="pictures at a time (%(default)s)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change, e.g. DATASET.ROOT F")
    args = parser.parse_intermixed_args(argv)
    if bool(args.cfg) == bool(args.annotations):
        parser.error("give either --cfg or --annotations")
    if args.annotations and args.overrides:
        parser.error("KEY value pairs go with --cfg")
    if args.annotations and args.out and not args.images:
        parser.error("--annotations needs --images, the folder of the images")
    if args.batch < 1:
        parser.error("--batch must be at least 1")
    config = load_config(args.cfg, args.overrides) if args.cfg else None

    from psa_pose.config.skeleton import build_skeleton
    from psa_pose.dataset_tools.detect_people import BatchDetector, detect_people, format_ap, read_listed
    from psa_pose.device import choose_device
    from psa_pose.metrics.pycocotools_check import person_ap
    from psa_pose.threads import ThreadWaiting

    path, folder, skeleton = args.annotations, args.images, None
    if config is not None:
        root, skeleton = Path(config.DATASET.ROOT).expanduser(), build_skeleton(config)
        path, folder = root / config.DATASET.TEST_ANNOTATIONS, root / config.DATASET.TEST_IMAGES
    listed = read_listed(path, skeleton)
    if args.eval_only:
        print(format_ap(person_ap(listed, args.eval_only), args.eval_only))
        return
    device = choose_device(args.device)
    detector = BatchDetector.from_torchvision(device, args.detector_weights, args.score)
    with ThreadWaiting(device, print):
        count = detect_people(detector, listed, folder, args.out, args.batch)
    if listed.content["annotations"]:
        print(f"{format_ap(person_ap(listed, args.out), args.out)}\n")
    print(f"{count:,} person boxes are in {args.out}; give it as DATASET.TEST_DETECTIONS")


if __name__ == "__main__":
    run_command(main)
