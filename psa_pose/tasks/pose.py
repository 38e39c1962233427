"""Top-down pose: persons in crops, heatmaps, keypoints, COCO AP or MPII's PCKh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.codecs import build_codec
from psa_pose.data.build import TestSet, build_test_sets, build_train_set
from psa_pose.data.dataset import Batch, CropDataset
from psa_pose.data.device_decode import batch_maker, decode_on_device
from psa_pose.data.loader import BatchMaker
from psa_pose.device import channels_last, place
from psa_pose.errors import ConfigError
from psa_pose.evaluation.oracle import Oracle
from psa_pose.evaluation.pictures import picture_crops
from psa_pose.evaluation.predict_set import EvalResult, evaluate
from psa_pose.evaluation.result import format_table
from psa_pose.evaluation.test import baseline_table, check_coco
from psa_pose.losses import heatmap_mse_ohkm, supervised
from psa_pose.models import build_model
from psa_pose.predict import Normalization, Predictor, model_predictor
from psa_pose.run_log import Info
from psa_pose.task import Outputs
from psa_pose.training.optimizer import weight_groups
from psa_pose.visualization.sheets import target_sheet


class PoseTask:
    """See `psa_pose.task.Task`. skeleton, codec: of the config."""

    unit = "persons"

    def __init__(self, cfg: CfgNode, device: torch.device) -> None:
        self.cfg, self.device = cfg, device
        # Once: a skeleton of DATASET.SKELETON "annotations" reads that whole file.
        self._spec = ModelSpec.of_config(cfg)
        self.skeleton, self.codec = self._spec.skeleton, build_codec(cfg)
        self._normalization = Normalization.of(cfg.INPUT.MEAN, cfg.INPUT.STD, device, channels_last(cfg, device))
        mined = partial(heatmap_mse_ohkm, topk=cfg.TRAIN.OHKM_TOPK) if cfg.TRAIN.OHKM_TOPK else None
        self._loss = partial(supervised, self.codec.loss, final=mined)

    def describe(self) -> list[str]:
        model = self.cfg.MODEL
        network = f"model {model.NAME}, attention {model.ATTENTION.NAME}, codec {self.codec.name}"
        return [network, self.skeleton.describe()]

    def build_model(self) -> nn.Module:
        return place(build_model(self.cfg), self.cfg, self.device)

    def train_set(self, info: Info) -> CropDataset:
        return build_train_set(self.cfg, self.skeleton, self.codec.grid, info)

    def test_sets(self, info: Info, annotated: bool = False) -> list[TestSet]:
        boxes = "ground_truth" if annotated else self.cfg.TEST.BOXES
        return build_test_sets(self.cfg, self.skeleton, self.codec.grid, info, boxes)

    def batch_maker(self) -> BatchMaker:
        return batch_maker(self.cfg.LOADER.DEVICE_DECODE, self.device)

    def to_device(self, batch: Any, dataset: CropDataset) -> Batch:
        return batch if isinstance(batch, Batch) else decode_on_device(batch, dataset, self.device)

    def images(self, batch: Batch) -> Tensor:
        return self._normalization(batch.crops)

    def targets(self, batch: Batch) -> tuple[Tensor, ...]:
        """Target maps and the weight of each joint."""
        joints, visible = (t.to(self.device, non_blocking=True) for t in (batch.joints, batch.visible))
        return self.codec.encode(joints, visible)

    def loss_size(self, targets: tuple[Tensor, ...]) -> int:
        """Persons."""
        return len(targets[0])

    def loss(self, outputs: Outputs, targets: tuple[Tensor, ...], size: float | Tensor) -> Tensor:
        maps, weights = targets
        # The codec's loss is a mean over persons: times their number it is the sum.
        return self._loss(outputs, maps, weights) * (len(maps) / size)

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return weight_groups(model, self.cfg.TRAIN.OPTIMIZER.WEIGHT_DECAY)

    def spec(self) -> ModelSpec:
        return self._spec

    def predictor(self, model: nn.Module | Predictor) -> Predictor:
        """A network as TEST says; what is a predictor already is left as it is."""
        if not isinstance(model, nn.Module):
            return model
        test = self.cfg.TEST
        return model_predictor(model, self.codec, self._normalization, self.skeleton, test.FLIP, test.PRECISION)

    def evaluate(
        self, model: nn.Module | Predictor, test_set: TestSet, stop: Callable[[], None], info: Info
    ) -> EvalResult:
        flip = self.cfg.TEST.FLIP and isinstance(model, nn.Module)
        return evaluate(self.cfg, test_set, self.predictor(model), self.skeleton, flip, info, stop)

    def table(self, results: Sequence[EvalResult]) -> str:
        return format_table([result.evaluation for result in results])

    def published(self) -> str:
        check_coco(self.skeleton, "the table of published results (--baselines)")
        return baseline_table()

    def picture(self, batch: Batch, targets: tuple[Tensor, ...]) -> np.ndarray:
        return target_sheet(picture_crops(batch, targets[0], self.cfg.INPUT.CHANNEL_ORDER), self.skeleton)

    def oracle(self, name: str) -> Oracle:
        if name == "labels":
            raise ConfigError("--oracle labels is of segmentation; write keypoints or targets")
        return Oracle(self.codec, name)

    def write_report(self, path: Path, title: str, result: EvalResult, model: nn.Module | Predictor) -> bool:
        if result.test_set.heads is not None:
            return False
        from psa_pose.evaluation.report import write_report

        predictor, annotations = self.predictor(model), result.test_set.annotations
        write_report(
            path, self.cfg, title, result.evaluation, result.results, annotations, self.skeleton, self.codec.grid,
            predictor,
        )  # fmt: skip
        return True
