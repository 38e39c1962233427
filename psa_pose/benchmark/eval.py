"""The evaluation after the network, on an input of val2017's size, step by step."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.benchmark.fake_results import fake_val2017
from psa_pose.errors import PsaPoseError
from psa_pose.files import write_json
from psa_pose.metrics.coco_ap import accumulate, match_results, to_results
from psa_pose.metrics.oks import instance_scores, oks_nms
from psa_pose.metrics.pycocotools_check import pycocotools_ap
from psa_pose.metrics.significance import bootstrap
from psa_pose.skeleton import COCO

KEYPOINT_SCORE, OKS_NMS, RESAMPLES = 0.2, 0.9, 1000


def benchmark_eval(rounds: int, share: float = 1.0, check: bool = False) -> dict[str, Any]:
    """Seconds (medians) from predictions in memory to the file on the disk and the AP, of val2017's size times `share`.

    total_s is the whole, one after the other; results_s (which holds oks_nms_s), write_s and coco_eval_s are its
    parts. oks_nms_s: rescoring and suppression, timed by themselves. bootstrap_s: of RESAMPLES resamples, beyond the
    total. check: also evaluate with pycocotools (pycocotools_s, slow), and raise where a figure differs.
    """
    truth, predictions = fake_val2017(COCO, share=share)
    sigmas = np.array(COCO.sigmas)
    runs: dict[str, list[float]] = {}

    def timed(name: str, started: float) -> float:
        now = time.perf_counter()
        runs.setdefault(name, []).append(now - started)
        return now

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        for _ in range(rounds):
            begun = time.perf_counter()
            results = to_results(predictions, sigmas, KEYPOINT_SCORE, OKS_NMS)
            now = timed("results_s", begun)
            write_json(file, results)
            now = timed("write_s", now)
            matches = match_results(truth, results, sigmas)
            stats = accumulate(matches).stats()
            timed("coco_eval_s", now)
            now = timed("total_s", begun)
            scores = instance_scores(predictions.box_scores, predictions.keypoint_scores, KEYPOINT_SCORE)
            oks_nms(predictions.joints, scores, predictions.areas, sigmas, OKS_NMS, predictions.image_ids)
            timed("oks_nms_s", now)
        size = file.stat().st_size
    now = time.perf_counter()
    bootstrap(matches, RESAMPLES)
    now = timed("bootstrap_s", now)
    if check:
        reference = pycocotools_ap(truth, results, sigmas)
        timed("pycocotools_s", now)
        if reference != stats:
            raise PsaPoseError(f"pycocotools finds {reference} where this project finds {stats}; report this")
    return {name: statistics.median(values) for name, values in sorted(runs.items(), reverse=True)} | {
        "images": len(truth["images"]),
        "boxes": len(predictions.joints),
        "results": len(results),
        "file_mb": size / 1e6,
        "ap": stats["AP"],
    }
