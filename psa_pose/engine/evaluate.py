"""Persons in, COCO statistics out: the same loop for a network and for the oracles, on one process or many."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.codecs import Codec
from psa_pose.data.build import Say, TestSet, report_problems
from psa_pose.data.device_crops import batch_maker, on_device
from psa_pose.data.loader import Batch, OrderedBatches, make_loader
from psa_pose.engine.recipe import autocast
from psa_pose.evaluation.coco_ap import Predictions, keypoint_ap, to_results
from psa_pose.evaluation.pckh import pckh_stats
from psa_pose.evaluation.report import Evaluation
from psa_pose.predict import Normalization, predict_maps, to_image
from psa_pose.skeleton import Skeleton
from psa_pose.visualization.sheets import Crop

# Batch -> joints (B, K, 2) in crop pixels, scores (B, K), maps (B, C, h, w).
Predictor = Callable[[Batch], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]

PICTURED = 12


@dataclass(frozen=True)
class Outcome:
    """An evaluation, the COCO result entries it rests on, and a few crops to look at (main process only)."""

    evaluation: Evaluation
    results: list[dict[str, Any]]
    crops: list[Crop]


def model_predictor(
    model: nn.Module,
    codec: Codec,
    normalization: Normalization,
    skeleton: Skeleton,
    flip: bool,
    precision: str = "fp32",
) -> Predictor:
    """What the network sees; with `flip`, averaged with what it sees in the mirror. precision: TEST.PRECISION."""
    model.eval()

    def predict(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        images = normalization(batch.crops)
        with autocast(precision, images.device):
            maps = predict_maps(model, images, codec, skeleton.flip_pairs, flip)
        maps = maps.float()
        return *codec.decode(maps), maps

    return predict


def oracle_predictor(codec: Codec, source: str) -> Predictor:
    """The truth instead of a network: the annotated "keypoints" themselves, or their "targets", decoded.

    The first shows what the evaluation loses, the second what the codec does. Joints without a label score 0.
    """

    def predict(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        maps, _ = codec.encode(batch.joints, batch.visible)
        if source == "targets":
            return *codec.decode(maps), maps
        return batch.joints * batch.visible[..., None], batch.visible, maps

    return predict


def evaluate(
    cfg: CfgNode, test_set: TestSet, predictor: Predictor, skeleton: Skeleton, flip: bool, say: Say
) -> Outcome:
    """Predict every person of a test set once, whatever the number of processes, scored as COCO or MPII does."""
    predictions, crops = predict_persons(cfg, test_set, predictor, skeleton, say)
    answer = None if predictions is None else _score(cfg, test_set, skeleton, predictions, flip)
    evaluation, results = distributed.from_main(answer)
    return Outcome(evaluation, results, crops)


def predict_persons(
    cfg: CfgNode, test_set: TestSet, predictor: Predictor, skeleton: Skeleton, say: Say
) -> tuple[Predictions | None, list[Crop]]:
    """Every person of a test set, predicted once by all processes together, and a few crops: main process only."""
    dataset = test_set.dataset
    rank, world, workers = distributed.rank(), distributed.world_size(), cfg.LOADER.WORKERS
    batches = OrderedBatches(len(dataset), cfg.TEST.BATCH_SIZE, rank, world, workers)
    device = distributed.choose_device(cfg.DEVICE)
    make = batch_maker(cfg.LOADER.DEVICE_DECODE, device)
    loader = make_loader(dataset, batches, workers, torch.cuda.is_available(), make)
    rows, joints, scores, problems = [], [], [], []
    crops: list[Crop] = []
    for batch in tqdm(loader, desc=f"test, {test_set.protocol} boxes", leave=False, disable=not show_bar()):
        batch = on_device(batch, dataset, device)
        crop_joints, keypoint_scores, maps = predictor(batch)
        usable = np.array([not problem for problem in batch.problems])
        rows.append(batch.rows.numpy()[usable])
        joints.append(to_image(crop_joints.cpu(), batch.matrices).numpy()[usable])
        scores.append(keypoint_scores.cpu().numpy().astype(float)[usable])
        problems += [problem for problem in batch.problems if problem]
        if distributed.is_main() and len(crops) < PICTURED:
            crops += picture_crops(batch, maps, cfg.INPUT.CHANNEL_ORDER, crop_joints, keypoint_scores)
    parts = distributed.gather((np.concatenate(rows or [np.zeros(0, int)]), joints, scores, problems))
    report_problems(sorted({p for part in parts for p in part[3]}), cfg.DATASET.ON_ERROR, say)
    predictions = _together(test_set, skeleton, parts) if distributed.is_main() else None
    return predictions, crops[:PICTURED]


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
    cfg: CfgNode, test_set: TestSet, skeleton: Skeleton, predictions: Predictions, flip: bool
) -> tuple[Evaluation, list[dict[str, Any]]]:
    if test_set.heads is None:
        sigmas = np.array(skeleton.sigmas)
        results = to_results(predictions, sigmas, cfg.TEST.KEYPOINT_SCORE, cfg.TEST.OKS_NMS)
        stats = keypoint_ap(test_set.annotations.content, results, sigmas)
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
    )
    return evaluation, results


def mpii_results(predictions: Predictions) -> list[dict[str, Any]]:
    """One entry per person: its place in the annotation file, from 1, and x, y in image pixels and score per joint."""
    assert predictions.annotation_ids is not None
    keypoints = np.concatenate([predictions.joints, predictions.keypoint_scores[..., None]], axis=2).round(3)
    rows = zip(predictions.annotation_ids.tolist(), keypoints.reshape(len(keypoints), -1).tolist(), strict=True)
    return [{"person": person, "keypoints": numbers} for person, numbers in rows]


def picture_crops(
    batch: Batch,
    maps: torch.Tensor,
    channel_order: str,
    joints: torch.Tensor | None = None,
    scores: torch.Tensor | None = None,
) -> list[Crop]:
    """The persons of a batch for a contact sheet: RGB crops, truth, the class maps, and what was predicted."""
    crops = batch.crops[:PICTURED].cpu().numpy()
    per_joint = maps.shape[1] // batch.joints.shape[1]
    maps = maps[:, ::per_joint].detach().float().cpu()
    return [
        Crop(
            image=np.ascontiguousarray(crops[i] if channel_order == "rgb" else crops[i][..., ::-1]),
            truth=batch.joints[i].numpy(),
            visible=batch.visible[i].numpy(),
            maps=maps[i].numpy(),
            joints=None if joints is None else joints[i].cpu().numpy(),
            scores=None if scores is None else scores[i].cpu().numpy(),
        )
        for i in range(len(crops))
    ]


def show_bar() -> bool:
    """A progress bar belongs on the main process's screen, and into no file."""
    return distributed.is_main() and sys.stderr.isatty()
