"""The HTML report of one evaluation: figures from the result list, pictures from the images, maps from the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from psa_pose.data.dataset import collate
from psa_pose.data.formats.coco import Annotations
from psa_pose.evaluation.examples import Example, choose_examples
from psa_pose.evaluation.pictures import PictureSource
from psa_pose.evaluation.result import Evaluation
from psa_pose.files import write_text
from psa_pose.geometry import Grid
from psa_pose.metrics.coco_ap import accumulate
from psa_pose.metrics.diagnosis import keypoint_rows, locate, subset_ap
from psa_pose.metrics.error_types import error_types
from psa_pose.metrics.matching import match, read_pairs
from psa_pose.metrics.pck.torso import PCK, joint_errors
from psa_pose.metrics.persons import Predicted
from psa_pose.metrics.significance import bootstrap, intervals
from psa_pose.predict import Predictor
from psa_pose.skeleton import Skeleton
from psa_pose.visualization.draw import overlay_heatmap
from psa_pose.visualization.evaluation_page import Report
from psa_pose.visualization.html import Figure

_WORST, _PER_KIND = 8, 4


def write_report(
    path: Path,
    cfg: CfgNode,
    title: str,
    evaluation: Evaluation,
    results: Sequence[dict[str, Any]],
    annotations: Annotations,
    skeleton: Skeleton,
    grid: Grid,
    predictor: Predictor | None,
) -> None:
    """Write one self-contained page. predictor: shows its maps on the annotated boxes; None: pictures without maps."""
    pairs = read_pairs(annotations.content, results, np.array(skeleton.sigmas))
    matches, located = match(pairs), locate(pairs)
    taxonomy = error_types(located, skeleton.flip_order)
    source = PictureSource(cfg, annotations, pairs.truth, skeleton, grid)
    examples = choose_examples(located, taxonomy, _WORST, _PER_KIND)
    maps = ", the heatmaps of the network on this crop" if predictor else ""
    report = Report(
        title=title,
        protocol=evaluation.describe(),
        stats=evaluation.stats,
        intervals=intervals(evaluation.stats, bootstrap(matches)),
        precision=accumulate(matches).precision[0],
        keypoints=keypoint_rows(located, skeleton.names),
        kinds=subset_ap(pairs),
        taxonomy=taxonomy,
        pck=joint_errors(pairs.truth, pairs.predicted, skeleton) if PCK in evaluation.stats else None,
        figures={heading: _figures(source, rows, pairs.predicted, predictor) for heading, rows in examples.items()},
        pictures_show=f"Pictures, from left to right: annotated joints, found joints{maps}. The person's left is "
        "orange, the right blue.",
    )
    write_text(path, report.page())


def _figures(
    source: PictureSource, examples: Sequence[Example], predicted: Predicted, predictor: Predictor | None
) -> list[Figure]:
    """Crops around the annotated boxes, or around the found joints where nobody is annotated, with what was found."""
    figures = []
    for example, sample in source.samples(examples, predicted):
        batch = collate([sample])
        maps = None if predictor is None else predictor(batch)[2]
        crop = source.crop(batch, predicted, example.predicted, maps)
        caption = f"{example.caption}{'; ' + sample.problem if sample.problem else ''}"
        pictures = [source.draw_truth(crop), source.draw_answer(crop)]
        pictures += [] if maps is None else [overlay_heatmap(crop.image, crop.maps)]
        figures.append(Figure(pictures, [caption]))
    return figures
