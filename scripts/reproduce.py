"""Moved: this forwards to tools/reproduce.py, for one version."""

import sys

from psa_pose.__main__ import main

if __name__ == "__main__":
    print("scripts/reproduce.py is now tools/reproduce.py, or: psa-pose reproduce", file=sys.stderr)
    main(["reproduce", *sys.argv[1:]])
