"""Write a network for other programs: python tools/export.py --checkpoint C --format onnx --keypoints"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Write a checkpoint's network as a file for other programs. It takes RGB crops (N, H, W, 3), uint8."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="what tools/train.py wrote; it says all else")
    parser.add_argument("--format", choices=["onnx", "torch_export"], default="onnx", help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="file to write (default: beside the checkpoint)")
    parser.add_argument("--keypoints", action="store_true", help="decode inside: joints, scores and maps")
    parser.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="average with the mirrored crop inside, as an estimator of the checkpoint does; without: half the time",
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

    from psa_pose.config import load_config
    from psa_pose.evaluation.exported import compare_ap, run_export
    from psa_pose.evaluation.result import format_table

    cfg = load_config(args.cfg, args.overrides) if args.cfg else None
    path, found = run_export(args.checkpoint, args.out, args.format, args.keypoints, args.flip, args.quantize, cfg)
    print(f"largest difference from PyTorch: maps {found.maps:.1e} of {found.largest:.3g}", end="")
    print("" if found.joints is None else f", decoding {found.joints:.1e} crop pixels")
    if args.ap and cfg is not None:
        for name, evaluations in compare_ap(cfg, args.checkpoint, path, args.flip).items():
            print(f"\n{name}\n{format_table(evaluations)}")
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_command(main)
