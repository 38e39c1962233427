"""Cityscapes' four figures as its server computes them: IoU and instance-weighted iIoU, over classes and categories.

Everything is in label ids, not train ids. iIoU weighs the pixels of an instance by (average size of its class) / (its
size), so that a far car counts as much as a near one. Predictions carry no instances: false positives stay unweighted.
A pixel of an instance class without an instance number (a group) counts only as a place for false positives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psa_pose.errors import DataError
from psa_pose.metrics.means import mean_of_known
from psa_pose.segmentation.cityscapes_classes import AVERAGE_INSTANCE_SIZE, CATEGORIES, EVALUATED, LABELS

IDS = len(LABELS)
_EVALUATED = np.array([label.id for label in EVALUATED])
_CATEGORY = np.array([(CATEGORIES.index(label.category) if label.category in CATEGORIES else -1) for label in LABELS])
_IGNORED = np.array([label.ignored for label in LABELS])
_AVERAGE_SIZE = np.array([AVERAGE_INSTANCE_SIZE.get(label.name, np.nan) for label in LABELS])
INSTANCE_CLASSES = tuple(label for label in EVALUATED if label.has_instances)
INSTANCE_CATEGORIES = ("human", "vehicle")
"""Categories all of whose members are numbered."""


@dataclass(frozen=True)
class CityscapesCounts:
    """What an image, or a sum of them, adds.

    confusion: (34, 34) int64, label ids by predicted ids. classes: (34, 2) float64, weighted pixels of the instances of
    each label id that were found and missed. categories: (7, 2), the same where any member of the category is a hit.
    """

    confusion: np.ndarray
    classes: np.ndarray
    categories: np.ndarray

    def __add__(self, other: CityscapesCounts) -> CityscapesCounts:
        return CityscapesCounts(
            self.confusion + other.confusion, self.classes + other.classes, self.categories + other.categories
        )


@dataclass(frozen=True)
class CityscapesScores:
    """0 to 1, NaN where there is nothing to score; each a dict by name, and the mean of those that are defined.

    classes: IoU of 19. instance_classes: iIoU of 8. categories: IoU of 7. instance_categories: iIoU of 2.
    """

    classes: dict[str, float]
    instance_classes: dict[str, float]
    categories: dict[str, float]
    instance_categories: dict[str, float]

    def means(self) -> dict[str, float]:
        """Table 5's four columns: miou, iiou, category_iou, category_iiou."""
        parts = (self.classes, self.instance_classes, self.categories, self.instance_categories)
        names = ("miou", "iiou", "category_iou", "category_iiou")
        return {
            name: float(mean_of_known(np.array([*part.values()]), 0)) for name, part in zip(names, parts, strict=True)
        }


def image_counts(label_ids: np.ndarray, instance_ids: np.ndarray, predicted_ids: np.ndarray) -> CityscapesCounts:
    """The counts of one image; all (H, W).

    label_ids, predicted_ids: 0 to 33. instance_ids: of gtFine_instanceIds, label id * 1000 + number where an instance
    is numbered, the label id elsewhere. Raises DataError for other shapes or ids.
    """
    if not label_ids.shape == instance_ids.shape == predicted_ids.shape:
        shapes = [tuple(ids.shape) for ids in (label_ids, instance_ids, predicted_ids)]
        raise DataError(f"labels, instances and prediction have the sizes {shapes}; they must be of one image")
    for what, ids in (("label", label_ids), ("predicted", predicted_ids)):
        if ids.size and int(ids.max()) >= IDS:
            raise DataError(f"a {what} id is {int(ids.max())}; use Cityscapes' label ids 0 to {IDS - 1}, not train ids")
    predicted = predicted_ids.astype(np.int64)
    confusion = np.bincount((label_ids.astype(np.int64) * IDS + predicted).ravel(), minlength=IDS * IDS)
    classes, categories = _instance_counts(instance_ids, predicted)
    return CityscapesCounts(confusion.reshape(IDS, IDS), classes, categories)


def _instance_counts(instance_ids: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    numbered = instance_ids >= 1000
    instances, which, sizes = np.unique(instance_ids[numbered], return_inverse=True, return_counts=True)
    label = (instances // 1000).astype(np.int64)
    if len(label) and label.max() >= IDS:
        raise DataError(f"instance id {instances.max()} has no label id below {IDS}; use gtFine_instanceIds files")
    found = predicted[numbered]
    hits = np.bincount(which, found == label[which], len(instances))
    category_hits = np.bincount(which, _CATEGORY[found] == _CATEGORY[label[which]], len(instances))
    # Instances of ignored classes are not looked for.
    used = ~_IGNORED[label]
    label, sizes = label[used], sizes[used]
    weight = _AVERAGE_SIZE[label] / sizes
    answer = []
    for group, count, length in ((label, hits[used], IDS), (_CATEGORY[label], category_hits[used], len(CATEGORIES))):
        parts = [np.bincount(group, weight * pixels, length) for pixels in (count, sizes - count)]
        answer.append(np.stack(parts, 1))
    return answer[0], answer[1]


def scores(counts: CityscapesCounts) -> CityscapesScores:
    """The figures of a set, from the sum of its images' counts."""
    confusion = counts.confusion
    # What is predicted where the label is ignored is no mistake.
    predicted = confusion[~_IGNORED].sum(0)
    right, labelled = confusion[_EVALUATED, _EVALUATED], confusion[_EVALUATED].sum(1)
    wrong = predicted[_EVALUATED] - right
    classes = {label.name: _ratio(right[i], labelled[i] + wrong[i]) for i, label in enumerate(EVALUATED)}
    instance_classes = {}
    for label in INSTANCE_CLASSES:
        found, missed = counts.classes[label.id]
        instance_classes[label.name] = _ratio(found, found + missed + wrong[label.train_id])
    return CityscapesScores(classes, instance_classes, *_category_scores(counts))


def _category_scores(counts: CityscapesCounts) -> tuple[dict[str, float], dict[str, float]]:
    plain, weighted = {}, {}
    for number, name in enumerate(CATEGORIES):
        everyone = np.equal(_CATEGORY, number)
        members = everyone & ~_IGNORED
        others = ~everyone & ~_IGNORED
        right = counts.confusion[np.ix_(members, members)].sum()
        wrong = counts.confusion[np.ix_(others, members)].sum()
        plain[name] = _ratio(right, counts.confusion[members].sum() + wrong)
        if name in INSTANCE_CATEGORIES:
            # Ignored members, caravan and trailer, count as hits and as predictions here.
            found, missed = counts.categories[number]
            weighted[name] = _ratio(found, found + missed + counts.confusion[np.ix_(others, everyone)].sum())
    return plain, weighted


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")
