"""`tools/compare.py`: two result files on the same annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from psa_pose.codecs import build_codec
from psa_pose.config.skeleton import build_skeleton
from psa_pose.data.dataset import collate
from psa_pose.errors import DataError
from psa_pose.evaluation.examples import Example
from psa_pose.evaluation.pck import compare_pck
from psa_pose.evaluation.pictures import PictureSource
from psa_pose.evaluation.result import Evaluation, ResultFile, format_table, read_result_file
from psa_pose.files import write_json, write_text
from psa_pose.metrics.comparison import Comparison, compare
from psa_pose.metrics.pck.torso import PCK
from psa_pose.metrics.protocol import BOXES, mixed_protocols
from psa_pose.metrics.significance import Estimate
from psa_pose.tables import format_columns
from psa_pose.visualization.draw import ring_joints
from psa_pose.visualization.evaluation_page import ComparisonReport
from psa_pose.visualization.html import Figure

SHOWN, PICTURED = 10, 9
# A joint's OKS differs visibly by more than this.
DIFFERENT = 0.3
GREEN, RED = (20, 160, 60), (220, 30, 30)


def run_compare(
    first: Path,
    second: Path,
    annotations: Path | None = None,
    resamples: int = 1000,
    json_path: Path | None = None,
    info: Callable[[str], None] = print,
    page: Path | None = None,
    cfg: CfgNode | None = None,
) -> Comparison:
    """Print, and with json_path also write, how the second result file differs from the first.

    page: an HTML page to write, with the persons that moved most, cut from the images as cfg says. Without cfg the
    skeleton is the one that is stated beside the result files.
    """
    skeleton = build_skeleton(cfg) if cfg is not None else None
    pair = [read_result_file(path, annotations, skeleton) for path in (first, second)]
    _check_same_persons(*pair)
    skeleton = pair[0].skeleton
    answer = compare(
        pair[0].annotations.content,
        pair[0].results,
        pair[1].results,
        skeleton.names,
        np.array(skeleton.sigmas),
        resamples,
    )
    if all(scored.evaluation and PCK in scored.evaluation.stats for scored in pair):
        answer = compare_pck(answer, skeleton, resamples)
    rows = [described(scored, stats) for scored, stats in zip(pair, answer.stats, strict=True)]
    for number, scored in enumerate(pair, start=1):
        info(f"{'first' if number == 1 else 'second'}: {scored.path}")
    info(f"\n{format_table(rows, ['first', 'second'])}\n")
    for warning in _warnings(rows):
        info(f"{warning}\n")
    info(f"{difference_table(answer.differences, resamples)}\n\n{_moved(answer)}")
    if json_path:
        write_json(json_path, {"first": rows[0].as_dict(), "second": rows[1].as_dict(), **answer.as_dict()})
        info(f"\nwritten to {json_path}")
    if page and cfg is not None:
        _write_page(page, cfg, pair, rows, answer)
        info(f"\npage: {page}")
    return answer


def described(scored: ResultFile, stats: dict[str, float]) -> Evaluation:
    """The statistics with the protocol that is stated beside the result file, or with "not stated"."""
    known = scored.evaluation
    return Evaluation(
        protocol=known.protocol if known else "unknown",
        split=known.split if known else scored.annotations.path.stem,
        flip=known.flip if known else None,
        persons=known.persons if known else len(scored.results),
        images=len(scored.annotations.content["images"]),
        stats=stats,
        box_recall=known.box_recall if known else None,
    )


def _warnings(rows: list[Evaluation]) -> list[str]:
    """Why a comparison of two evaluations may say nothing about the models."""
    first, second = rows
    answer = []
    if "unknown" not in (first.protocol, second.protocol) and first.protocol != second.protocol:
        answer.append(
            f"warning: {BOXES[first.protocol]} boxes are compared with {BOXES[second.protocol]} boxes; "
            "the difference says nothing about the models"
        )
    if None not in (first.flip, second.flip) and first.flip != second.flip:
        answer.append("warning: one of the two was tested with flip, the other without")
    mixed = mixed_protocols(first.stats, second.stats)
    return [*answer, mixed] if mixed else answer


def _check_same_persons(first: ResultFile, second: ResultFile) -> None:
    if (first.skeleton.names, first.skeleton.sigmas) != (second.skeleton.names, second.skeleton.sigmas):
        raise DataError(
            f"{first.path} was scored on the skeleton {first.skeleton.name} and {second.path} on "
            f"{second.skeleton.name}, of other keypoints or sigmas; compare results of one, or name it with --cfg"
        )
    sides = [{(a["id"], a["image_id"]) for a in side.annotations.content["annotations"]} for side in (first, second)]
    if sides[0] != sides[1]:
        raise DataError(
            f"{first.path} and {second.path} were scored on different annotations ({first.annotations.path}, "
            f"{second.annotations.path}); compare results on the same persons, or name one file with --annotations"
        )


def _write_page(path: Path, cfg: CfgNode, pair: list[ResultFile], rows: list[Evaluation], answer: Comparison) -> None:
    source = PictureSource(
        cfg, pair[0].annotations, answer.located[0].pairs.truth, pair[0].skeleton, build_codec(cfg).grid
    )
    better, worse = answer.most_moved(PICTURED)
    report = ComparisonReport(
        names=(str(pair[0].path), str(pair[1].path)),
        protocols=(rows[0].describe(), rows[1].describe()),
        comparison=answer,
        warnings=_warnings(rows),
        figures={
            "Persons that the second finds better": _figures(source, answer, better),
            "Persons that the first finds better": _figures(source, answer, worse),
        },
        pictures_show="Pictures, from left to right: annotated joints, the first model's, the second's. Rings: joints "
        f"whose OKS differs by more than {DIFFERENT:g} between the two, red where it is lower, green where higher.",
    )
    write_text(path, report.page())


def _figures(source: PictureSource, answer: Comparison, persons: list[int]) -> list[Figure]:
    first, second = answer.located
    examples = [
        Example(row, -1, f"OKS {first.oks[row]:.2f} and {second.oks[row]:.2f}, annotation {first.pairs.truth.ids[row]}")
        for row in persons
    ]
    figures = []
    for example, sample in source.samples(examples, first.pairs.predicted):
        batch, row = collate([sample]), example.truth
        pictures: list[np.ndarray] = []
        moved = np.nan_to_num(second.similarity[row] - first.similarity[row])
        for side, change in ((0, -moved), (1, moved)):
            crop = source.crop(batch, answer.located[side].pairs.predicted, int(answer.located[side].rows[row]))
            assert crop.joints is not None
            shown = answer.located[side].rows[row] >= 0
            pictures = pictures or [source.draw_truth(crop)]
            picture = ring_joints(source.draw_answer(crop), crop.joints, shown & (change > DIFFERENT), GREEN)
            pictures.append(ring_joints(picture, crop.joints, shown & (change < -DIFFERENT), RED))
        figures.append(Figure(pictures, [example.caption]))
    return figures


def difference_table(differences: Mapping[str, Estimate], resamples: int) -> str:
    """A row per statistic of what the second result has more, 0 to 1, in percent."""
    rows = [
        [name, f"{100 * d.value:+.2f}", f"{100 * d.low:+.2f} to {100 * d.high:+.2f}", f"{d.p_value:.3f}"]
        for name, d in differences.items()
    ]
    title = f"second minus first, percent; 95 % interval and two-sided p of {resamples} resamples of the images"
    return f"{title}\n{format_columns(['', 'difference', 'interval', 'p'], rows)}"


def _moved(answer: Comparison) -> str:
    def line(name: Any, row: dict[str, Any]) -> list[str]:
        return [str(name), *(f"{100 * row[key]:.1f}" for key in ("first", "second")), f"{100 * row['difference']:+.1f}"]

    header = ["first", "second", "difference"]
    keypoints = format_columns(["keypoint", *header], [line(r["keypoint"], r) for r in answer.keypoints])
    images = format_columns(["image", *header], [line(r["image_id"], r) for r in answer.images[:SHOWN]])
    return f"mean OKS of each keypoint, percent\n{keypoints}\n\nmean OKS of the persons of an image, percent\n{images}"
