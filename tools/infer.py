"""Find the keypoints of people, or every pixel's class: python tools/infer.py --checkpoint C picture.jpg video.mp4"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Keypoints of people on pictures, videos or a camera: drawn, and as COCO JSON. Exit status 1 where "
        "something could not be read."
    )
    parser.add_argument("inputs", nargs="*", metavar="FILE", help="pictures, videos, folders of them, or patterns")
    parser.add_argument("--camera", metavar="N", help="a camera by its number, or a stream's address; ends by Ctrl-C")
    parser.add_argument("--checkpoint", type=Path, required=True, help="what tools/train.py wrote; it says all else")
    parser.add_argument("--out", type=Path, default=Path("output/infer"), help="folder of the results (%(default)s)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--boxes", type=Path, help="COCO detection file (image_id: the file's name) or annotation file")
    where.add_argument("--whole-picture", action="store_true", help="every picture is one person's box")
    where.add_argument("--detector-weights", type=Path, help="file for torchvision's detector instead of a download")
    parser.add_argument("--box-score", type=float, default=0.5, help="least score of a box (%(default)s)")
    parser.add_argument("--keypoint-score", type=float, default=0.2, help="least score of a drawn joint (%(default)s)")
    parser.add_argument(
        "--nms",
        action=argparse.BooleanOptionalAction,
        help="drop whoever was found twice, as the evaluation does; by default with the detector's boxes alone",
    )
    parser.add_argument("--smooth", action="store_true", help="videos: follow people and take the jitter out")
    parser.add_argument("--frames", type=int, metavar="N", help="videos and cameras: end after so many frames")
    parser.add_argument(
        "--overlay",
        nargs="+",
        default=[],
        metavar="WHAT",
        help="pictures: also write what the network sees of each person: heatmaps, gates, or both",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--no-flip", action="store_true", help="look at each person or picture once: half the time")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    args = parser.parse_args(argv)

    import torch

    from psa_pose.checkpoints import load_checkpoint
    from psa_pose.inference.boxes import boxes_of_file, whole_picture
    from psa_pose.inference.detector import PersonDetector
    from psa_pose.inference.estimator import PoseEstimator
    from psa_pose.inference.overlays import OVERLAYS
    from psa_pose.inference.run import InferOptions, infer_camera, run_infer
    from psa_pose.media.files import find_files, is_video
    from psa_pose.media.video import open_camera
    from psa_pose.segmentation.spec import is_segmentation
    from psa_pose.threads import ThreadWaiting

    # An option that takes several words takes the files behind it too.
    overlays = tuple(word for word in args.overlay if word in OVERLAYS)
    args.inputs += [word for word in args.overlay if word not in OVERLAYS]
    if bool(args.inputs) == (args.camera is not None):
        raise ConfigError("give files to look at, or --camera, and not both")
    if args.frames is not None and args.frames < 1:
        raise ConfigError(f"--frames is {args.frames}; give 1 or more")
    files = find_files(args.inputs)
    if overlays and all(map(is_video, files)):
        raise ConfigError("--overlay is for pictures; save a frame of the video as one")
    if args.boxes and args.camera is not None:
        raise ConfigError("--boxes gives boxes to files; leave it out with --camera")
    camera = None if args.camera is None else open_camera(args.camera)
    content = load_checkpoint(args.checkpoint)
    if is_segmentation(content):
        segment(args, files, content["config"])
        return
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    estimator = PoseEstimator.from_checkpoint(args.checkpoint, args.device, not args.no_flip, dtype)
    if "gates" in overlays and not estimator.spec.has_gates:
        raise ConfigError(f"checkpoint {args.checkpoint} has no PSA block, so no gates; leave --overlay gates out")
    if args.boxes:
        boxes = boxes_of_file(args.boxes, args.box_score, files)
    elif args.whole_picture:
        boxes = whole_picture
    else:
        detector = PersonDetector.from_torchvision(estimator.device, args.detector_weights, args.box_score)
        boxes = lambda _, pixels: detector(pixels)  # noqa: E731
    doubles = not (args.boxes or args.whole_picture) if args.nms is None else args.nms
    with ThreadWaiting(estimator.device, print) as waiting:
        wanted = InferOptions(args.keypoint_score, doubles, overlays, args.smooth, args.frames, waiting.lap)
        if camera:
            stem = args.out / f"camera_{Path(args.camera).stem}"
            problems = infer_camera(estimator, camera, f"camera {args.camera}", boxes, stem, wanted)
        else:
            problems = run_infer(estimator, files, boxes, args.out, wanted)
    finish(args, files, problems)


def segment(args: argparse.Namespace, files: list[Path], trained_with: str) -> None:
    """The class of every pixel instead of people: the checkpoint is a segmentation network's.

    trained_with: its config.
    """
    from psa_pose.config import parse_config
    from psa_pose.device import usable_device
    from psa_pose.segmentation.inference.infer import run_segment
    from psa_pose.segmentation.inference.labeller import usual_protocol
    from psa_pose.segmentation.inference.segmenter import Segmenter
    from psa_pose.threads import ThreadWaiting

    given = {"--camera": args.camera is not None, "--boxes": args.boxes, "--whole-picture": args.whole_picture}
    given |= {"--overlay": args.overlay, "--smooth": args.smooth, "--detector-weights": args.detector_weights}
    for option, value in given.items():
        if value:
            raise ConfigError(f"{option} is for people, but {args.checkpoint} is a segmentation network; leave it out")
    cfg = parse_config(trained_with, f"checkpoint {args.checkpoint}")
    protocol = usual_protocol(cfg, flip=not args.no_flip)
    segmenter = Segmenter.from_checkpoint(args.checkpoint, args.device, protocol, "bf16" if args.bf16 else "fp32")
    with ThreadWaiting(usable_device(args.device), print) as waiting:
        problems = run_segment(segmenter, files, args.out, args.frames, waiting.lap)
    finish(args, files, problems)


def finish(args: argparse.Namespace, files: list[Path], problems: list[str]) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)
    what = f"{len(files) - len(problems)} of {len(files)} files without a problem; " if files else ""
    print(f"{what}results are in {args.out}")
    if problems:
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
