"""Train a network: python tools/train.py --cfg configs/synthetic/quickstart.yaml [KEY value ...]"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.config import load_config


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Train a network. Several processes: torchrun --nproc_per_node=N -m psa_pose train ..."
    )
    parser.add_argument("--cfg", type=Path, required=True, help="YAML config file")
    parser.add_argument("--resume", action="store_true", help="go on where the run in OUTPUT_DIR was left")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that is in OUTPUT_DIR")
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change, e.g. TRAIN.EPOCHS 10")
    args = parser.parse_intermixed_args(argv)
    config = load_config(args.cfg, args.overrides)

    from psa_pose.tasks import build_task
    from psa_pose.training.loop import run_train

    run_train(build_task(config), resume=args.resume, overwrite=args.overwrite)


if __name__ == "__main__":
    run_command(main)
