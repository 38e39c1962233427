"""Compare attention blocks in a small network: python tools/study.py [--rows none psa_p] [KEY value ...]"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.files import shipped_folder


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Train one small network with each attention block and seed at equal budget, test it, and tabulate "
        "its score, paired differences from the first block with intervals over images and seeds, and what the gates "
        "do. Complete runs are kept."
    )
    quickstart = shipped_folder("configs") / "synthetic/quickstart.yaml"
    parser.add_argument("--cfg", type=Path, default=quickstart, help="YAML config file (%(default)s)")
    parser.add_argument(
        "--rows",
        nargs="+",
        default=["none", "psa_p", "psa_p:fig2", "squeeze_excitation"],
        metavar="NAME",
        help="attention names, a PSA block's spatial form after a colon (%(default)s)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("output/study_attention"), help="folder (%(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change for every run")
    args = parser.parse_intermixed_args(argv)

    from psa_pose.config import load_config

    # A wrong config is answered before torch is imported.
    load_config(args.cfg, args.overrides)

    from psa_pose.study.run import Study, run_study

    study = Study(args.cfg, args.rows, args.seeds, args.out, args.overrides)
    run_study(study, lambda text: print(text, end="", flush=True))


if __name__ == "__main__":
    run_command(main)
