"""PCK of Leeds Sports Pose: the share of joints that are found within a part of a length on the person's body.

PCK@0.2: within 0.2 of the torso, the annotated distance from the left shoulder to the right hip; an error at the
threshold counts as right, and hidden joints count. So the published predictions of Yang et al. (CVPR 2016) give the
table of that paper; the other diagonal gives other first decimals. PCKh@0.5: within half the annotated distance from
neck to head top. A joint without a label does not count, nor does a person whose segment lacks an end or has no length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from psa_pose.metrics.means import mean_of_known
from psa_pose.metrics.pck.head import GROUPS as SIDES
from psa_pose.metrics.persons import GroundTruth, Predicted, read_ground_truth, read_predicted
from psa_pose.metrics.significance import Estimate, draw_images, estimate
from psa_pose.skeleton import Skeleton

TORSO, HEAD = ("left_shoulder", "right_hip"), ("neck", "head_top")
# Of the curve, in torsos: the last is that of PCK@0.2, and ends the area. Of PCKh@0.5, in heads.
THRESHOLDS = np.linspace(0, 0.2, 21)
HEAD_THRESHOLD = 0.5
GROUPS = SIDES | {"head": HEAD}
PCK, AUC, PCKH = "PCK@0.2", "PCK AUC", "PCKh@0.5"
PCK_COLUMNS = (*GROUPS, PCK, AUC, PCKH)


@dataclass(frozen=True)
class JointErrors:
    """How far G annotated persons' K joints were missed.

    names: of the joints. torso, head (G, K) float64: in lengths of the segment; infinite where nobody was found, NaN
    where the joint does not count. image (G,): row of the person's image, of `images`.
    no_length: segment -> ids of the annotations whose segment has none. unlabelled: segment -> how many persons lack
    the label of an end.
    """

    names: tuple[str, ...]
    torso: np.ndarray
    head: np.ndarray
    image: np.ndarray
    images: int
    no_length: dict[str, list[int]]
    unlabelled: dict[str, int]

    def notes(self) -> list[str]:
        """Which persons do not count, in sentences."""
        persons = len(self.image)
        notes = [
            f"{self.unlabelled[key]:,} of {persons:,} persons lack the label of an end of their {key}; {measure} is of "
            "the others"
            for key, measure in (("torso", PCK), ("head", PCKH))
            if self.unlabelled[key]
        ]
        for key, ids in self.no_length.items():
            if ids:
                listed = ", ".join(map(str, ids[:5])) + (", ..." if ids[5:] else "")
                notes.append(f"a {key} has no length, and its person does not count: annotations {listed}")
        return notes


def joint_errors(truth: GroundTruth, predicted: Predicted, skeleton: Skeleton) -> JointErrors:
    """The errors of the best person that is found on each annotated one's image: one annotated person an image."""
    best = np.flatnonzero(predicted.rank == 0)
    row_of = np.full(len(truth.image_ids), -1)
    row_of[predicted.image[best]] = best
    rows, counts = row_of[truth.image], ~truth.ignored
    distance = np.full(truth.keypoints.shape[:2], np.inf)
    known = rows >= 0
    moved = predicted.keypoints[rows[known], :, :2] - truth.keypoints[known, :, :2]
    distance[known] = np.linalg.norm(moved, axis=2)
    labelled = truth.keypoints[..., 2] > 0
    distance[~labelled | ~counts[:, None]] = np.nan
    errors, no_length, unlabelled = {}, {}, {}
    for key, ends in (("torso", TORSO), ("head", HEAD)):
        a, b = (skeleton.names.index(end) for end in ends)
        length = np.linalg.norm(truth.keypoints[:, a, :2] - truth.keypoints[:, b, :2], axis=1)
        whole = labelled[:, a] & labelled[:, b] & counts
        no_length[key] = truth.ids[whole & (length == 0)].tolist()
        unlabelled[key] = int((counts & ~whole).sum())
        measured = whole & (length > 0)
        errors[key] = np.full_like(distance, np.nan)
        errors[key][measured] = distance[measured] / length[measured, None]
    names, images = skeleton.names, len(truth.image_ids)
    return JointErrors(names, errors["torso"], errors["head"], truth.image, images, no_length, unlabelled)


def result_errors(truth: dict[str, Any], results: Sequence[dict[str, Any]], skeleton: Skeleton) -> JointErrors:
    """The errors of a COCO keypoint result list on the content of an annotation file."""
    annotated = read_ground_truth(truth, skeleton.num_joints)
    return joint_errors(annotated, read_predicted(results, annotated), skeleton)


def pck_stats(errors: JointErrors) -> dict[str, float]:
    """PCK_COLUMNS and each joint -> 0 to 1; -1 where nobody has such a joint that counts.

    Joints and groups are at PCK@0.2; a group is the mean of its joints, PCK@0.2 and PCKh@0.5 that of all joints. AUC:
    the exact area below the mean curve from 0 to 0.2, divided by 0.2.
    """
    stats = _statistics(errors, np.ones((errors.images, 1), np.float32))
    return {name: -1.0 if np.isnan(value[0]) else float(value[0]) for name, value in stats.items()}


def pck_samples(errors: JointErrors, resamples: int = 1000, seed: int = 0) -> dict[str, np.ndarray]:
    """The same of each resample of the images, (resamples,); NaN where it has no joint that counts."""
    parts = [_statistics(errors, weights) for _, weights in draw_images(errors.images, resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def pck_intervals(errors: JointErrors) -> dict[str, Estimate]:
    """The 95 % interval of every defined statistic: bootstrap over images."""
    stats, samples = pck_stats(errors), pck_samples(errors)
    return {name: estimate(v, samples[name][~np.isnan(samples[name])]) for name, v in stats.items() if v >= 0}


def pck_differences(first: JointErrors, second: JointErrors, resamples: int = 1000) -> dict[str, Estimate]:
    """Second minus first, of every statistic that both have: paired bootstrap over the same images."""
    stats = pck_stats(first), pck_stats(second)
    samples = pck_samples(first, resamples), pck_samples(second, resamples)
    answer = {}
    for name in (*PCK_COLUMNS, *first.names):
        if min(stats[0][name], stats[1][name]) >= 0:
            moved = samples[1][name] - samples[0][name]
            answer[name] = estimate(stats[1][name] - stats[0][name], moved[~np.isnan(moved)], paired=True)
    return answer


def pck_curves(errors: JointErrors) -> dict[str, list[float]]:
    """Group or "mean" -> PCK at THRESHOLDS; without the groups that nobody has."""
    weights = np.ones((errors.images, 1), np.float32)
    curves = np.stack([_means(_within(errors.torso, t), errors.image, weights)[:, 0] for t in THRESHOLDS])
    named = {name: mean_of_known(curves[:, _rows(errors, group)], 1) for name, group in GROUPS.items()}
    return {k: v.tolist() for k, v in (named | {"mean": mean_of_known(curves, 1)}).items() if not np.isnan(v).any()}


def counted_joints(errors: JointErrors) -> dict[str, int]:
    """Joint or group -> how many are counted in PCK@0.2."""
    each = (~np.isnan(errors.torso)).sum(0)
    joints = dict(zip(errors.names, each.tolist(), strict=True))
    return joints | {name: int(each[_rows(errors, group)].sum()) for name, group in GROUPS.items()}


def _statistics(errors: JointErrors, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> (n,), for n draws of the images: weights (images, n), how often each is drawn."""
    longest = THRESHOLDS[-1]
    at = _means(_within(errors.torso, longest), errors.image, weights)
    # The curve of one error e is a step at e: below it, up to the longest threshold, lies 1 - e / longest.
    area = _means(np.maximum(1 - errors.torso / longest, 0), errors.image, weights)
    head = _means(_within(errors.head, HEAD_THRESHOLD), errors.image, weights)
    # In percent, as the published table: 78.05 and 69.95 are then rounded as there.
    stats = {name: mean_of_known(100 * at[_rows(errors, group)], 0) / 100 for name, group in GROUPS.items()}
    stats |= {PCK: mean_of_known(at, 0), AUC: mean_of_known(area, 0), PCKH: mean_of_known(head, 0)}
    return stats | dict(zip(errors.names, at, strict=True))


def _within(errors: np.ndarray, threshold: float) -> np.ndarray:
    """1 for an error up to the threshold, 0 for a larger one, NaN for what does not count."""
    return np.where(np.isnan(errors), np.nan, errors <= threshold)


def _means(values: np.ndarray, image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """values (G, K), NaN for what does not count -> (K, n): mean of those drawn; NaN where none is."""
    drawn = weights[image].astype(float)
    counts = ~np.isnan(values)
    number = counts.T.astype(float) @ drawn
    total = np.where(counts, values, 0).T @ drawn
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


def _rows(errors: JointErrors, group: tuple[str, ...]) -> list[int]:
    return [errors.names.index(name) for name in group if name in errors.names]
