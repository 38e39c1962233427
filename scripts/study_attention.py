"""Moved: this forwards to tools/study.py, for one version."""

import sys

from psa_pose.__main__ import main

if __name__ == "__main__":
    print("scripts/study_attention.py is now tools/study.py, or: psa-pose study", file=sys.stderr)
    main(["study", *sys.argv[1:]])
