"""Convert another project's network: python tools/convert.py --cfg F --weights W --out C.pt"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.config import load_config


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Convert a pose network of HRNet's, Microsoft's, DARK's, UDP's or mmpose's code, or a segmentation "
        "network of VainF's, HRNet's, NVIDIA's or DeLightCMU's, to a checkpoint."
    )
    parser.add_argument("--cfg", type=Path, required=True, help="YAML config file of the same network and input")
    parser.add_argument("--weights", type=Path, required=True, help="file to convert")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    parser.add_argument(
        "--channel-order",
        choices=["rgb", "bgr"],
        help="what it was trained on, if not what the networks of its layout were published for",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change, e.g. MODEL.WIDTH 48")
    args = parser.parse_intermixed_args(argv)
    config = load_config(args.cfg, args.overrides)

    import torch

    from psa_pose.checkpoints.convert import convert_checkpoint
    from psa_pose.tasks import build_task

    convert_checkpoint(
        config, build_task(config, torch.device("cpu")).spec(), args.weights, args.out, args.channel_order, print
    )
    words = ["psa-pose", "test", "--cfg", args.cfg, "--checkpoint", args.out, *args.overrides]
    print(f"next: {shlex.join(map(str, words))}")


if __name__ == "__main__":
    run_command(main)
