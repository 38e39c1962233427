"""Moved: this forwards to tools/detect.py, for one version."""

import sys

from psa_pose.__main__ import main

if __name__ == "__main__":
    print("scripts/detect_people.py is now tools/detect.py, or: psa-pose detect", file=sys.stderr)
    main(["detect", *sys.argv[1:]])
