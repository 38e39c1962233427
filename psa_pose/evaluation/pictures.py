"""Crops of annotated and found persons for the pages, cut as the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from psa_pose.data.dataset import Batch, CropDataset, Sample
from psa_pose.data.formats.coco import Annotations, Persons, image_arrays, image_sizes
from psa_pose.evaluation.examples import Example
from psa_pose.geometry import Grid, transform_points
from psa_pose.metrics.persons import GroundTruth, Predicted
from psa_pose.skeleton import Skeleton
from psa_pose.visualization.draw import draw_skeleton
from psa_pose.visualization.sheets import CropView, enlarge


@dataclass(frozen=True)
class PictureSource:
    """Where the pictures of an evaluation come from: images and crop of the config, persons of the annotations."""

    cfg: CfgNode
    annotations: Annotations
    truth: GroundTruth
    skeleton: Skeleton
    grid: Grid

    def samples(self, examples: Sequence[Example], predicted: Predicted) -> list[tuple[Example, Sample]]:
        """The crop around each annotated box, or where nobody is annotated around the found joints.

        An example whose box has no area has no picture and is left out.
        """
        boxes = np.array([self._box(example, predicted) for example in examples]).reshape(-1, 4)
        drawn = [row for row, box in enumerate(boxes) if (box[2:] > 0).all()]
        if not drawn:
            return []
        chosen = [examples[row] for row in drawn]
        dataset = self._crops(chosen, boxes[drawn], predicted)
        return [(example, dataset[0, row]) for row, example in enumerate(chosen)]

    def crop(self, batch: Batch, predicted: Predicted, row: int, maps: torch.Tensor | None = None) -> CropView:
        """An enlarged crop of a batch of one, with the joints of a found person (row -1: none), drawn above the
        threshold of the config. maps (1, C, h, w): of the network.
        """
        nothing = batch.joints.new_zeros(1, self.skeleton.num_joints, 1, 1)
        plain = picture_crops(batch, nothing if maps is None else maps, self.cfg.INPUT.CHANNEL_ORDER)[0]
        joints, scores = np.zeros_like(plain.truth), np.zeros(len(plain.truth))
        if row >= 0:
            joints = transform_points(predicted.keypoints[row, :, :2], batch.matrices[0].numpy())
            scores = predicted.keypoints[row, :, 2]
        return enlarge(CropView(plain.image, plain.truth, plain.visible, plain.maps, joints, scores))

    def draw_truth(self, crop: CropView) -> np.ndarray:
        """The picture with the annotated joints."""
        return draw_skeleton(crop.image, crop.truth, crop.visible > 0, self.skeleton)

    def draw_answer(self, crop: CropView) -> np.ndarray:
        """The picture with the found joints that score above the threshold."""
        assert crop.joints is not None
        assert crop.scores is not None
        return draw_skeleton(crop.image, crop.joints, crop.scores > self.cfg.TEST.KEYPOINT_SCORE, self.skeleton)

    def _box(self, example: Example, predicted: Predicted) -> np.ndarray:
        if example.truth >= 0:
            return self.truth.boxes[example.truth]
        joints = predicted.keypoints[example.predicted, :, :2]
        return np.concatenate([joints.min(0), np.ptp(joints, axis=0)])

    def _crops(self, examples: Sequence[Example], boxes: np.ndarray, predicted: Predicted) -> CropDataset:
        truth, cfg = self.truth, self.cfg
        image_ids, names = image_arrays(self.annotations)
        row_of = {image_id: row for row, image_id in enumerate(image_ids.tolist())}
        rows = [e.truth for e in examples]
        image = [truth.image[e.truth] if e.truth >= 0 else predicted.image[e.predicted] for e in examples]
        keypoints = np.zeros((len(rows), self.skeleton.num_joints, 3), np.float32)
        ids = np.full(len(rows), -1)
        known = np.flatnonzero(np.array(rows) >= 0)
        keypoints[known] = truth.keypoints[np.array(rows)[known]]
        ids[known] = truth.ids[np.array(rows)[known]]
        persons = Persons(
            image_ids,
            names,
            image_sizes(self.annotations),
            image=np.array([row_of[int(truth.image_ids[i])] for i in image]),
            annotation_ids=ids,
            boxes=boxes,
            scores=np.ones(len(rows)),
            joints=keypoints[..., :2].copy(),
            visible=(keypoints[..., 2] > 0).astype(np.float32),
        )
        folder = Path(cfg.DATASET.ROOT).expanduser() / cfg.DATASET.TEST_IMAGES
        shown = (cfg.INPUT.SIZE, self.grid, cfg.INPUT.PADDING, cfg.INPUT.CHANNEL_ORDER)
        return CropDataset(persons, folder, self.skeleton, *shown, exif=cfg.DATASET.EXIF)


PICTURED = 12


def picture_crops(
    batch: Batch,
    maps: torch.Tensor,
    channel_order: str,
    joints: torch.Tensor | None = None,
    scores: torch.Tensor | None = None,
) -> list[CropView]:
    """The persons of a batch for a contact sheet: RGB crops, truth, the class maps, and what was predicted."""
    crops = batch.crops[:PICTURED].cpu().numpy()
    per_joint = maps.shape[1] // batch.joints.shape[1]
    maps = maps[:, ::per_joint].detach().float().cpu()
    return [
        CropView(
            image=np.ascontiguousarray(crops[i] if channel_order == "rgb" else crops[i][..., ::-1]),
            truth=batch.joints[i].numpy(),
            visible=batch.visible[i].numpy(),
            maps=maps[i].numpy(),
            joints=None if joints is None else joints[i].cpu().numpy(),
            scores=None if scores is None else scores[i].cpu().numpy(),
        )
        for i in range(len(crops))
    ]
