"""Draw the data set of synthetic people: python tools/synthetic.py --root data/synthetic"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from psa_pose.command_line import run_command


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw the embedded data set of synthetic people, in COCO's layout.")
    parser.add_argument("--task", choices=["pose", "segmentation"], default="pose", help="(%(default)s)")
    parser.add_argument("--root", type=Path, default=Path("data/synthetic"), help="folder to make (%(default)s)")
    parser.add_argument("--train", type=int, default=1400, help="images in train2017; 0: none (%(default)s)")
    parser.add_argument("--val", type=int, default=200, help="images in val2017; 0: none (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other people (%(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(320, 256), metavar=("WIDTH", "HEIGHT"), help="pixels")
    parser.add_argument("--people", type=int, nargs=2, default=(1, 3), metavar=("FEWEST", "MOST"), help="per image")
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    args = parser.parse_args(argv)

    if args.task == "segmentation":
        from psa_pose.segmentation.data import synthetic

        sizes = {split: count for split, count in (("train", args.train), ("val", args.val)) if count != 0}
        synthetic.generate(args.root, sizes, args.seed, tuple(args.size), tuple(args.people), args.workers)
        print(f"{args.root}: {sum(sizes.values())} images with label maps")
        return
    from psa_pose.synthetic.dataset import annotation_path, generate

    sizes = {split: count for split, count in (("train2017", args.train), ("val2017", args.val)) if count != 0}
    generate(args.root, sizes, args.seed, tuple(args.size), tuple(args.people), args.workers)
    persons = sum(len(json.loads(annotation_path(args.root, split).read_text())["annotations"]) for split in sizes)
    print(f"{args.root}: {sum(sizes.values())} images, {persons} persons")


if __name__ == "__main__":
    run_command(main)
