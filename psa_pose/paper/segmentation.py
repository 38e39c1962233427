"""Tables 3 and 5: a trial's data and keys, whether the real data is there, and the tables with our mIoU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from psa_pose.paper.complexity import flops
from psa_pose.run_log import Info, report_problems
from psa_pose.segmentation.data.build import find_pictures
from psa_pose.segmentation.data.pictures import missing_files
from psa_pose.segmentation.data.synthetic import generate
from psa_pose.segmentation.inference.protocols import PROTOCOL_WORDS
from psa_pose.segmentation.metrics.confusion import class_counts
from psa_pose.segmentation.metrics.intervals import intervals
from psa_pose.visualization.noted_table import NotedTable

# Of a trial: one step on drawn scenes, whose labels are among the first of each row's classes; small crops.
SMOKE_KEYS = (
    *("MODEL.PRETRAINED", "", "TRAIN.EPOCHS", "210", "TRAIN.STEPS", "1", "TRAIN.BATCH_SIZE", "2"),
    *("TRAIN.SYNC_BATCHNORM", "false", "TRAIN.LOG_EVERY", "1", "LOADER.WORKERS", "0", "TEST.BATCH_SIZE", "1"),
    *("INPUT.CROP_SIZE", "[129, 97]", "TEST.CROP_SIZE", "97", "DATASET.FORMAT", "folder"),
    *("DATASET.TRAIN_IMAGES", "images/train", "DATASET.TRAIN_LABELS", "labels/train"),
    *("DATASET.TEST_IMAGES", "images/val", "DATASET.TEST_LABELS", "labels/val"),
)

_HEADER = ("row", "our mIoU", "printed", "M parameters", "printed", "Flops, G", "printed")
_SMOKE = "TRIAL on three drawn scenes, one training step from random weights: the mIoU means nothing."
_LEGEND = (
    "mIoU: percent, by protocol, with the 95 % interval of a bootstrap over images; the weights after the last step. "
    "Protocols and data of the printed figures are in doubt: see psa_pose/segmentation/README.md. *: the printed "
    "figure is not what the network has. A row with ~ is not in the paper: a like-for-like comparison."
)


def make_smoke_data(folder: Path) -> None:
    """Two scenes to train on and one to test on."""
    generate(folder, {"train": 2, "val": 1}, image_size=(128, 96), workers=1, progress=False)


def check_pictures(cfg: CfgNode, info: Info) -> None:
    """Raise DataError where a list or a file of the config's data set is missing."""
    for which in ("TRAIN", "TEST"):
        pictures = find_pictures(cfg, which)
        _, problems = missing_files(pictures)
        report_problems(problems, cfg.DATASET.ON_ERROR, info)
        info(f"{pictures.source}: {len(pictures):,} pictures")


def miou_intervals(folder: Path, evaluation: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Figure -> its 95 % interval, 0 to 1, of an evaluation in the run's folder."""
    path = folder / "test" / f"segmentation_{evaluation['split']}_{evaluation['protocol']}.npz"
    with np.load(path, allow_pickle=False) as stored:
        found = intervals(class_counts(stored["confusion"]))
    return {name: (estimate.low, estimate.high) for name, estimate in found.items()}


def segmentation_page(content: Mapping[str, Any]) -> NotedTable:
    """The table of `results.table_content`."""
    rows, notes = [], list[str]()
    for row in content["rows"]:
        remarks = [row["note"]] if row["note"] else []
        remarks += [f"run with {', '.join(row['changed'])}"] if row["changed"] else []
        remarks += [row["status"]] if row["status"].startswith("failed") else []
        mark = ""
        if remarks:
            notes.append(f"({len(notes) + 1}) {row['name']}: {'; '.join(remarks)}")
            mark = f" ({len(notes)})"
        printed = row["printed"]
        told = {name: f"{printed[name]}{'*' if name in row['not_reproduced'] else ''}" for name in printed}
        rows.append(
            [
                f"{row['name']}{' ~' if row['like_for_like'] else ''}{mark}",
                our_miou(row),
                told.get("mIoU", "-"),
                f"{row['params'] / 1e6:.3f}",
                told.get("mPara", "-"),
                f"{flops(row, 'macs'):.3f}",
                told.get("Flops", "-"),
            ]
        )
    return NotedTable(content["title"], _SMOKE if content["smoke"] else "", _HEADER, rows, _LEGEND, notes)


def our_miou(row: Mapping[str, Any]) -> str:
    """Our mIoU under each protocol, or the row's status."""
    if row["status"] != "complete":
        return row["status"].partition(":")[0]
    return ", ".join(_told(evaluation) for evaluation in row["ours"].values())


def _told(evaluation: Mapping[str, Any]) -> str:
    if "miou" not in evaluation["stats"]:
        return "undefined"
    low, high = evaluation["intervals"]["miou"]
    word = PROTOCOL_WORDS[evaluation["protocol"]]
    return f"{100 * evaluation['stats']['miou']:.1f} {word} ({100 * low:.1f} to {100 * high:.1f})"


def scores(result: Mapping[str, Any] | None) -> dict[str, Any]:
    """Our evaluations by protocol, in the form of `results.scores`."""
    ours: Sequence[Mapping[str, Any]] = result["evaluations"] if result else ()
    seconds = result["seconds"] if result else None
    return {"ours": {e["protocol"]: e for e in ours}, "ours_minus_printed": {}, "seconds": seconds}
