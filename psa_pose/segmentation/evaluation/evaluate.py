"""Pictures in, one confusion matrix out: the same loop for a network and for the truth, on one process or many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.data.loader import OrderedBatches, loader_workers, make_loader
from psa_pose.distributed import progress_bar
from psa_pose.errors import DataError
from psa_pose.run_log import Info, report_problems
from psa_pose.segmentation.cityscapes_classes import label_ids
from psa_pose.segmentation.classes import IGNORE, ClassList
from psa_pose.segmentation.data.build import SegmentationTestSet
from psa_pose.segmentation.data.cityscapes import instance_path
from psa_pose.segmentation.data.dataset import SegmentationDataset, WholePicture, make_whole_pictures
from psa_pose.segmentation.data.label_files import encode_label, read_indices
from psa_pose.segmentation.evaluation.result import SegmentationResult
from psa_pose.segmentation.inference.labeller import Labeller
from psa_pose.segmentation.inference.protocols import crop_for_validation
from psa_pose.segmentation.metrics.boundary import boundary_counts
from psa_pose.segmentation.metrics.cityscapes import CityscapesCounts, image_counts, scores
from psa_pose.segmentation.metrics.confusion import confusion_matrices
from psa_pose.segmentation.visualization import PICTURED, PicturePanel


@dataclass(frozen=True)
class Truth:
    """The labels themselves in the place of a network. stride: of the map that they go through; 1: none."""

    stride: int = 1

    def __call__(self, label: np.ndarray) -> np.ndarray:
        """A label map (H, W) as it comes back; ignored pixels become class 0."""
        size = (label.shape[1], label.shape[0])
        if self.stride > 1:
            small = tuple(max(1, side // self.stride) for side in size)
            label = cv2.resize(label, small, interpolation=cv2.INTER_NEAREST_EXACT)
            label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT)
        return np.where(label == IGNORE, 0, label).astype(np.uint8)


@dataclass(frozen=True)
class ImageAnswer:
    """One image: row in its data set, confusion (C, C), boundary (3, C), index PNG, and Cityscapes' counts."""

    row: int
    confusion: np.ndarray
    boundary: np.ndarray
    mask: bytes
    server: CityscapesCounts | None


def evaluate(
    cfg: CfgNode,
    test_set: SegmentationTestSet,
    model: Labeller | Truth,
    classes: ClassList,
    info: Info,
    stop: Callable[[], None] = lambda: None,
) -> SegmentationResult:
    """The result of a test set, every picture predicted once, whatever the number of processes.

    model: what labels pictures under the set's protocol. stop: called before every batch; what it raises ends the
    evaluation. Raises DataError for a set without labels.
    """
    dataset = test_set.dataset
    check_labelled(test_set)
    answers: list[ImageAnswer] = []
    panels: list[PicturePanel] = []
    problems: list[str] = []
    for pictures in batches(cfg, test_set):
        stop()
        problems += [picture.problem for picture in pictures if picture.problem]
        for group in by_size([picture for picture in pictures if not picture.problem]):
            images, labels = shown(cfg, test_set.protocol, group)
            predictions = predict(model, images, labels)
            answers += _score(dataset, group, labels, predictions, classes)
            if distributed.is_main() and len(panels) < PICTURED:
                rgb = images if dataset.channel_order == "rgb" else images.flip(3)
                arrays = (part.cpu().numpy() for part in (rgb, labels, predictions))
                panels += [PicturePanel(*panel) for panel in zip(*arrays, strict=True)]
    parts = distributed.all_gather((answers, problems))
    report_problems(sorted({p for _, some in parts for p in some}), cfg.DATASET.ON_ERROR, info)
    gathered = sorted((answer for some, _ in parts for answer in some), key=lambda answer: answer.row)
    return _result(test_set, classes, gathered, panels[:PICTURED], info)


def check_labelled(test_set: SegmentationTestSet) -> None:
    """Raise DataError for a test set without labels, before a training of days that could not be scored."""
    pictures = test_set.dataset.pictures
    if not pictures.labels:
        raise DataError(f"{pictures.source} has no labels to score with; test another split, or write a submission")


def batches(cfg: CfgNode, test_set: SegmentationTestSet) -> Iterator[list[WholePicture]]:
    """This process's share of the test pictures."""
    dataset, workers = test_set.dataset, loader_workers(cfg.LOADER.WORKERS)
    rank, world = distributed.rank(), distributed.world_size()
    order = OrderedBatches(len(dataset), cfg.TEST.BATCH_SIZE, rank, world, workers)
    loader = make_loader(dataset, order, workers, False, make_whole_pictures)
    yield from progress_bar(loader, f"test, {test_set.protocol}", leave=False)


def by_size(pictures: list[WholePicture]) -> list[list[WholePicture]]:
    """The pictures of each size together, in their order."""
    groups: dict[torch.Size, list[WholePicture]] = {}
    for picture in pictures:
        groups.setdefault(picture.label.shape, []).append(picture)
    return list(groups.values())


def shown(cfg: CfgNode, protocol: str, group: list[WholePicture]) -> tuple[Tensor, Tensor]:
    """What the network is shown of pictures of one size, and the labels that it is scored on."""
    if protocol != "crop":
        return torch.stack([p.image for p in group]), torch.stack([p.label for p in group])
    cut = [crop_for_validation(p.image.numpy(), p.label.numpy(), cfg.TEST.CROP_SIZE) for p in group]
    images, labels = (torch.from_numpy(np.stack(part)) for part in zip(*cut, strict=True))
    return images, labels


def predict(model: Labeller | Truth, images: Tensor, labels: Tensor) -> Tensor:
    """(B, H, W) uint8 classes."""
    if isinstance(model, Truth):
        return torch.from_numpy(np.stack([model(label) for label in labels.numpy()]))
    return model(images)


def _score(
    dataset: SegmentationDataset, group: list[WholePicture], labels: Tensor, predictions: Tensor, classes: ClassList
) -> list[ImageAnswer]:
    confusion = confusion_matrices(labels.to(predictions.device), predictions, len(classes)).cpu().numpy()
    found, palette, answers = predictions.cpu().numpy(), classes.palette(), []
    for picture, own, label, prediction in zip(group, confusion, labels.numpy(), found, strict=True):
        edges = boundary_counts(label, prediction, len(classes))
        server = _server_counts(dataset, picture.row, prediction)
        answers.append(ImageAnswer(picture.row, own, edges, encode_label(prediction, palette), server))
    return answers


def _server_counts(dataset: SegmentationDataset, row: int, prediction: np.ndarray) -> CityscapesCounts | None:
    """Cityscapes' own counts of a picture, where its instances are beside its labels and it is scored whole.

    prediction: (H, W) uint8 train ids. Raises DataError for files of instances that cannot be used.
    """
    path = dataset.pictures.labels[row]
    instances = instance_path(path)
    if instances == path or not instances.is_file():
        return None
    numbered = cv2.imread(str(instances), cv2.IMREAD_UNCHANGED)
    label = read_indices(path)
    if numbered is None or numbered.shape != label.shape:
        raise DataError(f"instances {instances} are no picture of its label's size; fetch gtFine again, or remove them")
    if label.shape != prediction.shape:
        return None
    # What a label file calls 255 counts as little as what it calls 0, unlabeled.
    return image_counts(np.where(label == IGNORE, 0, label), numbered, label_ids()[prediction])


def _result(
    test_set: SegmentationTestSet,
    classes: ClassList,
    answers: list[ImageAnswer],
    panels: list[PicturePanel],
    info: Info,
) -> SegmentationResult:
    if not answers:
        raise DataError(f"no picture of {test_set.dataset.pictures.source} could be read; check the data set")
    names = test_set.dataset.pictures.names
    server = [answer.server for answer in answers if answer.server is not None]
    means: dict[str, float] = {}
    if len(server) == len(answers):
        total = server[0]
        for counts in server[1:]:
            total = total + counts
        means = scores(total).means()
        # It equals ours, which is there for every data set.
        del means["miou"]
    elif server:
        info(f"note: no iIoU and no category IoU: only {len(server)} of {len(answers)} images have instanceIds files")
    return SegmentationResult(
        protocol=test_set.protocol,
        split=test_set.split,
        classes=classes,
        names=tuple(names[answer.row] for answer in answers),
        confusion=np.stack([answer.confusion for answer in answers]),
        boundary=np.sum([answer.boundary for answer in answers], axis=0),
        server=means,
        masks={names[answer.row]: answer.mask for answer in answers},
        panels=panels,
    )
