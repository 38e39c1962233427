"""Moved: this forwards to tools/synthetic.py, for one version."""

import sys

from psa_pose.__main__ import main

if __name__ == "__main__":
    print("scripts/make_synthetic.py is now tools/synthetic.py, or: psa-pose synthetic", file=sys.stderr)
    main(["synthetic", *sys.argv[1:]])
