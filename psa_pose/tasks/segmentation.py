"""Semantic segmentation: pictures in crops, a class for every pixel, mIoU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.device import place
from psa_pose.errors import ConfigError
from psa_pose.run_log import Info
from psa_pose.segmentation.data.build import SegmentationTestSet, build_test_sets, build_train_set
from psa_pose.segmentation.data.dataset import SegmentationBatch, SegmentationDataset, make_segmentation_batch
from psa_pose.segmentation.evaluation.evaluate import Truth, check_labelled, evaluate
from psa_pose.segmentation.evaluation.published import published_table
from psa_pose.segmentation.evaluation.result import SegmentationResult, format_results
from psa_pose.segmentation.inference.labeller import Labeller, build_labeller, build_normalization
from psa_pose.segmentation.losses.build import build_loss
from psa_pose.segmentation.networks.build import build_segmentation_model, check_batch_sizes, parameter_groups
from psa_pose.segmentation.spec import SegmentationSpec
from psa_pose.segmentation.visualization import PICTURED, PicturePanel, panel_sheet
from psa_pose.task import Outputs

# A name of --oracle -> what the labels go through.
ORACLES = {"labels": Truth(), "targets": Truth(stride=4)}


class SegmentationTask:
    """See `psa_pose.task.Task`. classes: of the config."""

    unit = "images"

    def __init__(self, cfg: CfgNode, device: torch.device) -> None:
        self.cfg, self.device = cfg, device
        # Once: the classes may be those of a file.
        self._spec = SegmentationSpec.of_config(cfg)
        self.classes = self._spec.classes
        self._loss = build_loss(cfg)
        self._normalization = build_normalization(cfg, device)

    def describe(self) -> list[str]:
        model, loss = self.cfg.MODEL, self.cfg.LOSS
        trunk = f" on {model.BACKBONE}" if model.NAME == "deeplabv3plus" else ""
        names = self.classes.names
        shown = ", ".join(names if len(names) < 8 else [*names[:3], "...", names[-1]])
        return [
            f"model {model.NAME}{trunk}, attention {model.ATTENTION.NAME}, loss {loss.NAME}",
            f"{len(names)} classes: {shown}",
        ]

    def build_model(self) -> nn.Module:
        return place(build_segmentation_model(self.cfg), self.cfg, self.device)

    def train_set(self, info: Info) -> SegmentationDataset:
        dataset = build_train_set(self.cfg, info)
        check_batch_sizes(self.cfg, len(dataset), distributed.world_size())
        return dataset

    def test_sets(self, info: Info, annotated: bool = False) -> list[SegmentationTestSet]:
        """annotated: the first protocol alone, by which the best checkpoint is chosen."""
        protocols = self.cfg.TEST.PROTOCOLS
        test_sets = build_test_sets(self.cfg, info, protocols[:1] if annotated else protocols)
        if annotated:
            check_labelled(test_sets[0])
        return test_sets

    def batch_maker(self) -> Callable[[Any, Sequence[tuple[int, int]]], SegmentationBatch]:
        return make_segmentation_batch

    def to_device(self, batch: SegmentationBatch, dataset: SegmentationDataset) -> SegmentationBatch:
        return batch

    def images(self, batch: SegmentationBatch) -> Tensor:
        return self._normalization(batch.images)

    def targets(self, batch: SegmentationBatch) -> tuple[Tensor, ...]:
        """Labels (B, H, W) uint8."""
        return (batch.labels.to(self.device, non_blocking=True),)

    def loss_size(self, targets: tuple[Tensor, ...]) -> Tensor:
        """What each part of the loss is a mean over, such as labelled pixels: (n,)."""
        return self._loss.size(targets[0])

    def loss(self, outputs: Outputs, targets: tuple[Tensor, ...], size: float | Tensor) -> Tensor:
        assert isinstance(size, Tensor)
        return self._loss(outputs, targets[0], size)

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return parameter_groups(self.cfg, model)

    def spec(self) -> SegmentationSpec:
        return self._spec

    def evaluate(
        self, model: nn.Module | Truth, test_set: SegmentationTestSet, stop: Callable[[], None], info: Info
    ) -> SegmentationResult:
        asked = self._asked(model, test_set.protocol)
        return evaluate(self.cfg, test_set, asked, self.classes, info, stop)

    def _asked(self, model: nn.Module | Truth, protocol: str) -> Labeller | Truth:
        return build_labeller(self.cfg, model, protocol, self.device) if isinstance(model, nn.Module) else model

    def table(self, results: Sequence[SegmentationResult]) -> str:
        return format_results(results)

    def published(self) -> str:
        return published_table(self.cfg.DATASET.FORMAT)

    def picture(self, batch: SegmentationBatch, targets: tuple[Tensor, ...]) -> np.ndarray:
        order = slice(None) if self.cfg.INPUT.CHANNEL_ORDER == "rgb" else slice(None, None, -1)
        crops = zip(batch.images.numpy()[:PICTURED, ..., order], batch.labels.numpy()[:PICTURED], strict=True)
        return panel_sheet([PicturePanel(np.ascontiguousarray(image), label) for image, label in crops], self.classes)

    def oracle(self, name: str) -> Truth:
        if name not in ORACLES:
            raise ConfigError(f"--oracle {name} is of keypoints; write one of {', '.join(ORACLES)}")
        return ORACLES[name]

    def write_report(self, path: Path, title: str, result: SegmentationResult, model: nn.Module | Truth) -> bool:
        from psa_pose.segmentation.evaluation.report import write_report

        write_report(path, self.cfg, title, result, self._asked(model, result.protocol))
        return True
