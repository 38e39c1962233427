"""The configs by name, with input, parameters and published AP: python tools/configs.py [WORD]"""

import argparse
from collections.abc import Sequence

from psa_pose.command_line import run_command


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="The configs by name, as --cfg takes it, with the network's input, parameters and published AP."
    )
    parser.add_argument("word", nargs="?", default="", metavar="WORD", help="only those with it in their names")
    args = parser.parse_args(argv)

    from psa_pose.paper.config_list import format_configs, list_configs

    print(format_configs(list_configs(args.word)))


if __name__ == "__main__":
    run_command(main)
