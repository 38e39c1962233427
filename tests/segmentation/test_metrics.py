from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from psa_pose.errors import DataError
from psa_pose.segmentation.cityscapes_classes import AVERAGE_INSTANCE_SIZE, LABELS
from psa_pose.segmentation.metrics.boundary import boundary_counts, boundary_mask
from psa_pose.segmentation.metrics.cityscapes import image_counts, scores
from psa_pose.segmentation.metrics.confusion import STATS, class_counts, class_iou, confusion_matrices, summary
from psa_pose.segmentation.metrics.intervals import bootstrap, compare, intervals

GOLDEN = np.load(Path(__file__).parents[1] / "golden/segmentation/metrics.npz")
CASES = range(200)


def matrices(labels, predictions, classes) -> np.ndarray:
    return confusion_matrices(torch.from_numpy(labels), torch.from_numpy(predictions), classes).numpy()


@pytest.mark.parametrize(("name", "classes"), [("voc21", 21), ("city19", 19)])
def test_iou_and_accuracies_equal_the_published_ones(name, classes):
    labels, predictions = GOLDEN[f"{name}/label"], GOLDEN[f"{name}/prediction"]
    confusion = matrices(labels, predictions, classes).sum(0)
    assert confusion.dtype == np.int64
    np.testing.assert_array_equal(confusion, GOLDEN[f"{name}/confusion"])
    counts = class_counts(confusion)
    np.testing.assert_allclose(class_iou(counts), GOLDEN[f"{name}/iou"], rtol=1e-6)
    names = ("miou_skip_absent", "miou_absent_is_zero", "overall_accuracy", "mean_accuracy_skip_absent")
    names += ("mean_accuracy_absent_is_zero", "frequency_weighted_iou")
    np.testing.assert_allclose(summary(counts), [GOLDEN[f"{name}/{n}"] for n in names], rtol=1e-6)


def test_server_figures_equal_the_published_ones():
    images = [[GOLDEN[f"server/{i}/{n}_ids"] for n in ("label", "instance", "prediction")] for i in range(3)]
    first, *others = [image_counts(*image) for image in images]
    got = scores(sum(others, first))
    parts = {"classScores": got.classes, "classInstScores": got.instance_classes}
    parts |= {"categoryScores": got.categories, "categoryInstScores": got.instance_categories}
    for key, values in parts.items():
        assert list(values) == GOLDEN[f"server/{key}/names"].tolist()
        np.testing.assert_allclose(list(values.values()), GOLDEN[f"server/{key}/values"], rtol=1e-6)
    names = ("mean_iou_classes", "mean_iiou_classes", "mean_iou_categories", "mean_iiou_categories")
    np.testing.assert_allclose(list(got.means().values()), [GOLDEN[f"server/{n}"] for n in names], rtol=1e-6)


def plain_summary(labels, predictions, classes):
    """The figures pixel by pixel, with Python's own sums."""
    pairs = [(int(a), int(b)) for a, b in zip(labels.ravel(), predictions.ravel(), strict=True) if a != 255]
    ious, accuracies, weighted = [], [], 0.0
    for c in range(classes):
        both = sum(a == c and b == c for a, b in pairs)
        either = sum(a == c or b == c for a, b in pairs)
        own = sum(a == c for a, b in pairs)
        ious.append(both / either if either else None)
        accuracies.append(both / own if own else None)
        weighted += own / len(pairs) * both / either if own else 0
    means = []
    for values in (ious, accuracies):
        defined = [v for v in values if v is not None]
        means += [sum(defined) / len(defined), sum(defined) / classes]
    right = sum(a == b for a, b in pairs) / len(pairs)
    return [*means[:2], right, *means[2:], weighted], ious


def random_maps(rng, shape, classes, ignored):
    """A label map and a prediction that mostly agrees, of a few of the classes."""
    there = rng.choice(classes, rng.integers(1, classes + 1), replace=False)
    labels = rng.choice(there, shape).astype(np.uint8)
    predictions = np.where(rng.random(shape) < 0.6, labels, rng.integers(0, classes, shape)).astype(np.uint8)
    labels[rng.random(shape) < ignored] = 255
    return labels, predictions


@pytest.mark.parametrize("case", CASES)
def test_figures_equal_a_plain_count(case):
    rng = np.random.default_rng(case)
    classes = int(rng.integers(1, 9))
    shape = (2, 1, 1) if case % 10 == 0 else (2, int(rng.integers(1, 9)), int(rng.integers(1, 9)))
    labels, predictions = random_maps(rng, shape, classes, 0.2)
    confusion = matrices(labels, predictions, classes)
    figures = summary(class_counts(confusion.sum(0)))
    if (labels == 255).all():
        assert np.isnan(figures).all()
        return
    expected, ious = plain_summary(labels, predictions, classes)
    np.testing.assert_allclose(figures, expected, rtol=1e-12)
    np.testing.assert_allclose(class_iou(class_counts(confusion.sum(0))), [np.nan if v is None else v for v in ious])
    for i in range(2):
        alone = matrices(labels[i : i + 1], predictions[i : i + 1], classes)
        np.testing.assert_array_equal(alone[0], confusion[i])


def random_cityscapes(rng, shape):
    labels = rng.integers(0, 34, shape).astype(np.uint8)
    instances = labels.astype(np.uint16)
    for label in LABELS:
        if label.has_instances:
            mine = (labels == label.id) & (rng.random(shape) < 0.8)
            instances[mine] = label.id * 1000 + rng.integers(0, 3, mine.sum())
    predictions = np.where(rng.random(shape) < 0.5, labels, rng.integers(0, 34, shape)).astype(np.uint8)
    return labels, instances, predictions


def plain_iiou(images, hit, place):
    """found / (found + missed + wrong): hit(label, prediction) of an instance's pixel, place(label, prediction)."""
    found = missed = wrong = 0.0
    for labels, instances, predictions in images:
        sizes = {}
        for instance in instances.ravel().tolist():
            sizes[instance] = sizes.get(instance, 0) + 1
        for a, i, b in zip(
            labels.ravel().tolist(), instances.ravel().tolist(), predictions.ravel().tolist(), strict=True
        ):
            if i >= 1000 and not LABELS[i // 1000].ignored:
                weight = AVERAGE_INSTANCE_SIZE[LABELS[i // 1000].name] / sizes[i]
                kind = hit(i // 1000, b)
                found += weight * (kind is True)
                missed += weight * (kind is False)
            wrong += place(a, b)
    return found / (found + missed + wrong) if found + missed + wrong else float("nan")


def plain_iou(images, mine):
    right = labelled = wrong = 0
    for labels, _, predictions in images:
        for a, b in zip(labels.ravel().tolist(), predictions.ravel().tolist(), strict=True):
            right += mine(a) and mine(b)
            labelled += mine(a)
            wrong += mine(b) and not mine(a) and not LABELS[a].ignored
    return right / (labelled + wrong) if labelled + wrong else float("nan")


@pytest.mark.parametrize("case", CASES)
def test_cityscapes_figures_equal_a_plain_count(case):
    rng = np.random.default_rng(case)
    shape = (1, 1) if case % 10 == 0 else (int(rng.integers(2, 12)), int(rng.integers(2, 12)))
    images = [random_cityscapes(rng, shape) for _ in range(2)]
    got = scores(image_counts(*images[0]) + image_counts(*images[1]))
    # One class and one category of each kind per case: all of them over the cases.
    label = [entry for entry in LABELS if not entry.ignored][case % 19]
    same = plain_iou(images, lambda i: i == label.id)
    np.testing.assert_allclose(got.classes[label.name], same, rtol=1e-12)
    if label.has_instances:
        weighted = plain_iiou(
            images,
            lambda a, b: b == label.id if a == label.id else None,
            lambda a, b: b == label.id and a != label.id and not LABELS[a].ignored,
        )
        np.testing.assert_allclose(got.instance_classes[label.name], weighted, rtol=1e-12)
    name = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")[case % 7]

    def evaluated(i):
        return LABELS[i].category == name and not LABELS[i].ignored

    def wrong(a, b, member):
        return member(b) and LABELS[a].category != name and not LABELS[a].ignored

    right = sum((np.vectorize(evaluated)(a) & np.vectorize(evaluated)(b)).sum() for a, _, b in images)
    labelled = sum(np.vectorize(evaluated)(a).sum() for a, _, _ in images)
    mistakes = sum(wrong(int(x), int(y), evaluated) for a, _, b in images for x, y in zip(a.flat, b.flat, strict=True))
    expected = right / (labelled + mistakes) if labelled + mistakes else np.nan
    np.testing.assert_allclose(got.categories[name], expected, rtol=1e-12)
    if name in ("human", "vehicle"):
        weighted = plain_iiou(
            images,
            lambda a, b: LABELS[b].category == name if LABELS[a].category == name else None,
            lambda a, b: wrong(a, b, lambda i: LABELS[i].category == name),
        )
        np.testing.assert_allclose(got.instance_categories[name], weighted, rtol=1e-12)


@pytest.mark.parametrize("case", range(40))
def test_boundary_counts_equal_erosion_of_each_class(case):
    rng = np.random.default_rng(case)
    shape = (int(rng.integers(1, 40)), int(rng.integers(1, 40)))
    coarse = rng.integers(0, 4, (2, 4, 5)).astype(np.uint8)
    label, prediction = (cv2.resize(c, shape[::-1], interpolation=cv2.INTER_NEAREST) for c in coarse)
    label[rng.random(shape) < 0.02] = 255
    distance = max(1, round(0.05 * float(np.hypot(*shape))))
    counts = boundary_counts(label, prediction, 4, 0.05)
    regions = []
    for maps in (label, prediction):
        of_classes = []
        for c in range(4):
            mask = cv2.copyMakeBorder((maps == c).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
            inner = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
            of_classes.append((maps == c) & (inner == 0) & (label != 255))
        regions.append(np.stack(of_classes))
        np.testing.assert_array_equal(boundary_mask(maps, distance) & (maps < 4) & (label != 255), regions[-1].any(0))
    truth, guess = regions
    np.testing.assert_array_equal(counts[0], (truth & guess).sum((1, 2)))
    np.testing.assert_array_equal(counts[1], truth.sum((1, 2)))
    np.testing.assert_array_equal(counts[2], guess.sum((1, 2)))


def random_counts(seed, images=30, classes=4):
    rng = np.random.default_rng(seed)
    confusion = rng.integers(0, 50, (images, classes, classes)) + 60 * np.eye(classes, dtype=int)
    return class_counts(confusion), confusion


def test_bootstrap_draws_images_with_all_their_pixels():
    counts, confusion = random_counts(1)
    rng = np.random.default_rng(7)
    samples = bootstrap(counts, 70, seed=7)
    expected = [summary(class_counts(confusion[row].sum(0))) for n in (64, 6) for row in rng.integers(30, size=(n, 30))]
    np.testing.assert_allclose(samples, expected, rtol=1e-12)


def test_interval_holds_its_value_and_narrows_with_more_images():
    few, many = (intervals(random_counts(2, n)[0])["miou"] for n in (10, 400))
    assert few.low < few.value < few.high
    assert many.high - many.low < 0.4 * (few.high - few.low)


def test_paired_comparison_sees_a_small_difference_and_none():
    counts, confusion = random_counts(3)
    better = class_counts(confusion + np.eye(4, dtype=int) * 3)
    names = [f"image_{i}" for i in range(len(counts))]
    order = np.random.default_rng(0).permutation(len(names))
    found = compare(counts, better[order], names, [names[i] for i in order])
    assert set(found) == set(STATS)
    assert 0 < found["miou"].low < found["miou"].value < found["miou"].high
    assert found["miou"].p_value < 0.01
    same = compare(counts, counts, names, names)["miou"]
    assert (same.value, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_results_that_do_not_belong_together_are_refused():
    counts, _ = random_counts(4, 3)
    with pytest.raises(DataError, match="different images"):
        compare(counts, counts, ["a", "b", "c"], ["a", "b", "d"])
    with pytest.raises(DataError, match="classes"):
        compare(counts, counts[:, :, :2], ["a", "b", "c"], ["a", "b", "c"])
    zeros = torch.zeros((1, 2, 2), dtype=torch.uint8)
    with pytest.raises(DataError, match="outside"):
        confusion_matrices(zeros + 3, zeros, 3)
    with pytest.raises(DataError, match="shape"):
        confusion_matrices(zeros[:, :1], zeros, 3)
    with pytest.raises(DataError, match="train ids"):
        image_counts(np.full((2, 2), 200), np.zeros((2, 2), int), np.zeros((2, 2), int))
    with pytest.raises(DataError, match="no image"):
        bootstrap(counts[:0])
