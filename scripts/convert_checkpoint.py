"""Moved: this forwards to tools/convert.py, for one version."""

import sys

from psa_pose.__main__ import main

if __name__ == "__main__":
    print("scripts/convert_checkpoint.py is now tools/convert.py, or: psa-pose convert", file=sys.stderr)
    main(["convert", *sys.argv[1:]])
