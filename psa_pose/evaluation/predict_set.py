"""Persons in, COCO statistics out: the same loop for a network and for the oracles, on one process or many."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.data.build import Info, TestSet
from psa_pose.data.dataset import Batch
from psa_pose.data.device_decode import batch_maker, decode_on_device
from psa_pose.data.loader import OrderedBatches, loader_workers, make_loader
from psa_pose.device import choose_device, prefetch
from psa_pose.distributed import progress_bar
from psa_pose.evaluation.pck import add_pck
from psa_pose.evaluation.pictures import PICTURED, picture_crops
from psa_pose.evaluation.result import Evaluation, write_result_file
from psa_pose.metrics.coco_ap import Predictions, keypoint_ap, to_results
from psa_pose.metrics.pck.head import mpii_results, pckh_stats
from psa_pose.parallel import batches_at_once, parallel_map
from psa_pose.predict import Predictor, crop_to_image
from psa_pose.run_log import report_problems
from psa_pose.skeleton import Skeleton
from psa_pose.visualization.draw import write_picture
from psa_pose.visualization.sheets import CropView, prediction_sheet


@dataclass(frozen=True)
class EvalResult:
    """What a model answered on a test set, scored.

    evaluation: the figures.
    results: the entries of the result file that they rest on.
    crops: a few crops to look at; on the main process.
    threshold: joints with a higher score are drawn.
    """

    evaluation: Evaluation
    results: list[dict[str, Any]]
    test_set: TestSet
    skeleton: Skeleton
    crops: list[CropView]
    threshold: float

    @property
    def score(self) -> float:
        """AP, PCKh or PCK@0.2, 0 to 1."""
        return self.evaluation.score

    @property
    def stats(self) -> dict[str, float]:
        return self.evaluation.stats

    @property
    def picture(self) -> np.ndarray | None:
        """The crops with what is annotated and what was found."""
        return prediction_sheet(self.crops, self.skeleton, self.threshold) if self.crops else None

    def row(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return self.evaluation.as_dict()

    def write(self, folder: Path) -> Path:
        """Write the result file, the evaluation file and the picture; the result file's path."""
        path = write_result_file(folder, self.evaluation, self.results, self.test_set.annotations, self.skeleton)
        if self.picture is not None:
            name = f"predictions_{self.evaluation.split}_{self.evaluation.protocol}.png"
            write_picture(folder / name, self.picture)
        return path


def evaluate(
    cfg: CfgNode,
    test_set: TestSet,
    predictor: Predictor,
    skeleton: Skeleton,
    flip: bool,
    info: Info,
    stop: Callable[[], None] = lambda: None,
) -> EvalResult:
    """The result of a test set, every person predicted once, whatever the number of processes; scored as COCO, MPII or
    LSP is.

    stop: called after every batch; what it raises ends the evaluation.
    """
    predictions, crops = predict_persons(cfg, test_set, predictor, skeleton, info, stop)
    scored = None if predictions is None else _score(cfg, test_set, skeleton, predictions, flip, info)
    evaluation, results = distributed.broadcast(scored)
    return EvalResult(evaluation, results, test_set, skeleton, crops, cfg.TEST.KEYPOINT_SCORE)


def predict_persons(
    cfg: CfgNode,
    test_set: TestSet,
    predictor: Predictor,
    skeleton: Skeleton,
    info: Info,
    stop: Callable[[], None] = lambda: None,
) -> tuple[Predictions | None, list[CropView]]:
    """Every person of a test set, predicted once by all processes together, and a few crops: main process only."""
    dataset = test_set.dataset
    rank, world, workers = distributed.rank(), distributed.world_size(), loader_workers(cfg.LOADER.WORKERS)
    batches = OrderedBatches(len(dataset), cfg.TEST.BATCH_SIZE, rank, world, workers)
    device = choose_device(cfg.DEVICE)
    make = batch_maker(cfg.LOADER.DEVICE_DECODE, device)
    loader = make_loader(dataset, batches, workers, torch.cuda.is_available(), make)
    answers: list[BatchAnswer] = []
    crops: list[CropView] = []
    bar = progress_bar(loader, f"test, {test_set.protocol} boxes", leave=False)
    ready = prefetch(bar, lambda batch: decode_on_device(batch, dataset, device), device)
    answer_one = lambda batch: (batch, *answer_batch(predictor, batch))  # noqa: E731
    with closing(parallel_map(answer_one, ready, batches_at_once(device))) as answered:
        for batch, answer, maps in answered:
            stop()
            answers.append(answer)
            if distributed.is_main() and len(crops) < PICTURED:
                crops += picture_crops(batch, maps, cfg.INPUT.CHANNEL_ORDER, answer.joints, answer.scores)
    rows, joints, scores = zip(*map(image_answer, answers), strict=True) if answers else ((), (), ())
    problems = [problem for answer in answers for problem in answer.problems if problem]
    parts = distributed.all_gather((np.concatenate([np.zeros(0, int), *rows]), joints, scores, problems))
    report_problems(sorted({p for part in parts for p in part[3]}), cfg.DATASET.ON_ERROR, info)
    predictions = _together(test_set, skeleton, parts) if distributed.is_main() else None
    return predictions, crops[:PICTURED]


class BatchAnswer(NamedTuple):
    """What was predicted for a batch, left where it was computed: reading it would wait for the device.

    joints (B, K, 2) crop pixels, scores (B, K): on the device. matrices (B, 2, 3), rows (B,), problems: as in `Batch`.
    """

    joints: torch.Tensor
    scores: torch.Tensor
    matrices: torch.Tensor
    rows: torch.Tensor
    problems: tuple[str, ...]


def answer_batch(predictor: Predictor, batch: Batch) -> tuple[BatchAnswer, torch.Tensor]:
    """A batch's answer, and its maps (B, C, h, w)."""
    joints, scores, maps = predictor(batch)
    # What a worker sent is copied: a file stays open as long as such a tensor lives.
    return BatchAnswer(joints, scores, batch.matrices.clone(), batch.rows.clone(), batch.problems), maps


def image_answer(answer: BatchAnswer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (B,), joints (B, K, 2) in image pixels and scores (B, K), without the persons whose image has a problem."""
    usable = np.array([not problem for problem in answer.problems])
    joints = crop_to_image(answer.joints.cpu(), answer.matrices).numpy()
    return answer.rows.numpy()[usable], joints[usable], answer.scores.cpu().numpy().astype(float)[usable]


def _together(test_set: TestSet, skeleton: Skeleton, parts: list[tuple]) -> Predictions:
    dataset, persons = test_set.dataset, test_set.dataset.persons
    taken = np.concatenate([part[0] for part in parts])
    # Batches come in an order of the loader's; the results' order is that of the persons.
    rows, order = np.unique(taken, return_index=True)
    if len(rows) != len(taken):
        raise AssertionError("a person was predicted twice")
    K = skeleton.num_joints
    return Predictions(
        image_ids=persons.image_ids[persons.image[rows]],
        box_scores=persons.scores[rows],
        areas=dataset.regions[rows].prod(1),
        joints=np.concatenate([np.zeros((0, K, 2)), *(j for part in parts for j in part[1])])[order],
        keypoint_scores=np.concatenate([np.zeros((0, K)), *(s for part in parts for s in part[2])])[order],
        annotation_ids=persons.annotation_ids[rows],
    )


def _score(
    cfg: CfgNode, test_set: TestSet, skeleton: Skeleton, predictions: Predictions, flip: bool, info: Info
) -> tuple[Evaluation, list[dict[str, Any]]]:
    if test_set.heads is None:
        sigmas = np.array(skeleton.sigmas)
        category = test_set.annotations.category
        results = to_results(predictions, sigmas, cfg.TEST.KEYPOINT_SCORE, cfg.TEST.OKS_NMS, category)
        stats = keypoint_ap(test_set.annotations.content, results, sigmas)
        if cfg.DATASET.FORMAT == "lsp":
            stats = add_pck(stats, test_set.annotations.content, results, skeleton, info)
    else:
        results = mpii_results(predictions)
        rows, truth = np.array([entry["person"] for entry in results], int) - 1, test_set.heads
        stats = pckh_stats(
            predictions.joints, truth.joints[rows], truth.visible[rows], truth.head_sizes[rows], skeleton
        )
    evaluation = Evaluation(
        protocol=test_set.protocol,
        split=test_set.split,
        flip=flip,
        persons=len(predictions.joints),
        images=len(test_set.annotations.content["images"]),
        stats=stats,
        box_recall=test_set.detector_recall,
    )
    return evaluation, results
