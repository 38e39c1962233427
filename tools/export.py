"""Write a network for other programs: python tools/export.py --checkpoint C --format onnx --keypoints"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Write a checkpoint's network as a file for other programs. It takes uint8 RGB (N, H, W, 3): crops "
        "of people, or for segmentation pictures of any size."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="what tools/train.py wrote; it says all else")
    parser.add_argument("--format", choices=["onnx", "torch_export"], default="onnx", help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="file to write (default: beside the checkpoint)")
    parser.add_argument("--keypoints", action="store_true", help="decode inside: joints, scores and maps")
    parser.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        help="average with the mirror inside: people by default, as an estimator of the checkpoint does; without: half "
        "the time",
    )
    parser.add_argument("--quantize", choices=["none", "dynamic", "static"], default="none", help="8 bits, ONNX only")
    parser.add_argument("--cfg", type=Path, help="config of the data, for static quantization and --ap")
    parser.add_argument("--ap", action="store_true", help="then test the ONNX file and the checkpoint on --cfg")
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="keys of --cfg to change")
    args = parser.parse_args(argv)
    if args.cfg is None and (args.quantize == "static" or args.ap or args.overrides):
        raise ConfigError("--quantize static, --ap and KEY value pairs need a config; give --cfg")
    if args.ap and args.format != "onnx":
        raise ConfigError("--ap tests an ONNX file; write --format onnx, or leave it out")

    from psa_pose.checkpoints import load_checkpoint
    from psa_pose.config import load_config
    from psa_pose.evaluation.exported import compare_ap, run_export
    from psa_pose.evaluation.result import format_table
    from psa_pose.segmentation.spec import is_segmentation

    if is_segmentation(load_checkpoint(args.checkpoint)):
        export_pictures(args)
        return
    cfg = load_config(args.cfg, args.overrides) if args.cfg else None
    flip = args.flip is not False
    path, found = run_export(args.checkpoint, args.out, args.format, args.keypoints, flip, args.quantize, cfg)
    print(f"largest difference from PyTorch: maps {found.maps:.1e} of {found.largest:.3g}", end="")
    print("" if found.joints is None else f", decoding {found.joints:.1e} crop pixels")
    if args.ap and cfg is not None:
        for name, evaluations in compare_ap(cfg, args.checkpoint, path, flip).items():
            print(f"\n{name}\n{format_table(evaluations)}")
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


def export_pictures(args: argparse.Namespace) -> None:
    """The checkpoint is a segmentation network's."""
    from psa_pose.export.files import FORMATS
    from psa_pose.segmentation.inference.export import export_segmentation

    given = {"--keypoints": args.keypoints, "--quantize": args.quantize != "none", "--cfg": args.cfg is not None}
    for option in (option for option, value in given.items() if value):
        raise ConfigError(f"{option} is for people, but {args.checkpoint} is a segmentation network; leave it out")
    path = args.out or args.checkpoint.with_suffix(FORMATS[args.format])
    found = export_segmentation(args.checkpoint, path, args.format, bool(args.flip))
    print(f"largest difference from PyTorch: scores {found.scores:.1e} of {found.largest:.3g} ", end="")
    print(f"(float32 from float64: {found.rounding:.1e})\n{path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_command(main)
