"""Make a result file of COCO val2017's size: python scripts/make_results.py --out output/val_sized"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from psa_pose.command_line import run_command


def main() -> None:
    parser = argparse.ArgumentParser(
        description="5,000 images, 104,125 boxes, 6,352 persons with keypoints: made-up annotations and results to "
        "measure an evaluation with."
    )
    parser.add_argument("--out", type=Path, default=Path("output/val_sized"), help="folder (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other figures (%(default)s)")
    parser.add_argument("--share", type=float, default=1.0, help="of val2017's size (%(default)s)")
    args = parser.parse_args()

    from psa_pose.benchmark.eval import fake_val2017
    from psa_pose.files import write_json
    from psa_pose.metrics.coco_ap import to_results
    from psa_pose.skeleton import COCO

    truth, predictions = fake_val2017(COCO, args.seed, args.share)
    results = to_results(predictions, np.array(COCO.sigmas), 0.2, 0.9)
    write_json(args.out / "person_keypoints_val_sized.json", truth)
    write_json(args.out / "keypoints_val_sized_results.json", results)
    print(f"{args.out}: {len(truth['images'])} images, {len(predictions.joints)} boxes, {len(results)} results")


if __name__ == "__main__":
    run_command(main)
