"""Find the keypoints of people: python tools/infer.py --checkpoint C picture.jpg folder 'frames/*.png' video.mp4"""

import argparse
import sys
from pathlib import Path

from psa_pose.errors import ConfigError, run_tool


def main() -> None:
    parser = argparse.ArgumentParser(description="Keypoints of people on pictures and videos: drawn, and as COCO JSON.")
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="pictures, videos, folders of them, or patterns")
    parser.add_argument("--checkpoint", type=Path, required=True, help="what tools/train.py wrote; it says all else")
    parser.add_argument("--out", type=Path, default=Path("output/infer"), help="folder of the results (%(default)s)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--boxes", type=Path, help="COCO detection file of the pictures; image_id is the file's name")
    where.add_argument("--whole-picture", action="store_true", help="every picture is one person's box")
    where.add_argument("--detector-weights", type=Path, help="file for torchvision's detector instead of a download")
    parser.add_argument("--box-score", type=float, default=0.5, help="least score of a box (%(default)s)")
    parser.add_argument("--keypoint-score", type=float, default=0.2, help="least score of a drawn joint (%(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--no-flip", action="store_true", help="look at each person once: half the time")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    args = parser.parse_args()

    import torch

    from psa_pose.detector import PersonDetector
    from psa_pose.estimator import PoseEstimator
    from psa_pose.inference.boxes import boxes_of_file, whole_picture
    from psa_pose.inference.run import run_infer
    from psa_pose.inference.sources import find_files, is_video

    files = find_files(args.inputs)
    if args.boxes and any(map(is_video, files)):
        raise ConfigError("--boxes gives boxes to pictures, not to a video's frames; leave it out for videos")
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    estimator = PoseEstimator.from_checkpoint(args.checkpoint, args.device, not args.no_flip, dtype)
    if args.boxes:
        boxes = boxes_of_file(args.boxes, args.box_score)
    elif args.whole_picture:
        boxes = whole_picture
    else:
        detector = PersonDetector.from_torchvision(estimator.device, args.detector_weights, args.box_score)
        boxes = lambda _, pixels: detector(pixels)  # noqa: E731
    problems = run_infer(estimator, files, boxes, args.out, args.keypoint_score)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(files) - len(problems)} of {len(files)} files without a problem; results are in {args.out}")
    if problems:
        raise SystemExit(1)


if __name__ == "__main__":
    run_tool(main)
