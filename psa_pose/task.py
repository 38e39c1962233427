"""What a task answers to training and testing, which know nothing of keypoints or classes: the seam between them.

A task is one object, made from a config by `psa_pose.tasks.build_task`. `B` is the number of samples in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from psa_pose.checkpoints.content import Spec
from psa_pose.run_log import Info

Outputs = Tensor | tuple[Tensor, ...]
"""What a network answers: one tensor, or a tuple of them, the final one last."""


class Batch(Protocol):
    """What a loader's worker makes, or what `Task.to_device` makes of it; the rest of it is the task's own.

    rows (B,): of the samples in their data set. problems (B,): "" or why a sample is blank and counts for nothing.
    """

    @property
    def rows(self) -> Tensor: ...

    @property
    def problems(self) -> Sequence[str]: ...


class TrainSet(Sized, Protocol):
    """Samples to train on.

    ids (N,): what the log calls each sample. groups (N,): samples of one group share a file, such as an image.
    """

    @property
    def ids(self) -> np.ndarray: ...

    @property
    def groups(self) -> np.ndarray: ...


class TestSet(Protocol):
    """Samples to test on. protocol: what is given to the network beside the images. split: what they are called."""

    @property
    def protocol(self) -> str: ...

    @property
    def split(self) -> str: ...

    @property
    def dataset(self) -> TrainSet: ...


class Result(Protocol):
    """A test set's answer, the same on every process but for `picture`.

    score: what the best checkpoint is chosen by, 0 to 1, higher is better. stats: every figure, by name.
    """

    @property
    def score(self) -> float: ...

    @property
    def stats(self) -> dict[str, float]: ...

    @property
    def picture(self) -> np.ndarray | None:
        """A sheet (H, W, 3) uint8 of a few answers; on the main process."""

    def row(self) -> dict[str, Any]:
        """Plain values for metrics.json."""

    def write(self, folder: Path) -> Path:
        """Write the files of a test; their main one."""


class Task(Protocol):
    """One kind of network with its data, loss and figures. unit: of its samples, in the log, such as "persons"."""

    cfg: CfgNode
    device: torch.device
    unit: str

    def describe(self) -> list[str]:
        """Lines of the log's summary: the network, and what else its figures rest on."""

    def build_model(self) -> nn.Module:
        """The network with the task's output channels, on the device, initialised."""

    def train_set(self, info: Info) -> TrainSet:
        """The samples to train on, with their augmentation."""

    def test_sets(self, info: Info, annotated: bool = False) -> Sequence[TestSet]:
        """A test set per protocol. annotated: only the one that is annotated itself, for training and for `oracle`."""

    def batch_maker(self) -> Callable[[Any, Sequence[tuple[int, int]]], Any]:
        """What a loader's worker calls: data set and (epoch, row) keys -> batch."""

    def to_device(self, batch: Any, dataset: Any) -> Any:
        """The batch, decoded where that is the device's work."""

    def images(self, batch: Any) -> Tensor:
        """(B, 3, H, W) float32 on the device, normalised."""

    def targets(self, batch: Any) -> tuple[Tensor, ...]:
        """What the loss needs beside the outputs, on the device; first axis: samples."""

    def loss_size(self, targets: tuple[Tensor, ...]) -> int | Tensor:
        """What the loss is a mean over, counted in these targets.

        An int where it is equal on every process (persons); a scalar on the device where it depends on the labels
        (labelled pixels), which is then summed over processes.
        """

    def loss(self, outputs: Outputs, targets: tuple[Tensor, ...], size: float | Tensor) -> Tensor:
        """The loss summed over a part of a batch, divided by the size of the whole batch: a scalar."""

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """params, weight_decay, lr_scale: factor of the learning rate."""

    def spec(self) -> Spec:
        """What a checkpoint says of the network."""

    def evaluate(self, model: Any, test_set: Any, stop: Callable[[], None], info: Info) -> Result:
        """The model's answers on a test set, by all processes together. stop: called between batches; may raise."""

    def table(self, results: Sequence[Any]) -> str:
        """Aligned text, a row per result."""

    def published(self) -> str:
        """Rows of published results, as text. Raises ConfigError where there are none for what the config asks."""

    def picture(self, batch: Any, targets: tuple[Tensor, ...]) -> np.ndarray:
        """A sheet (H, W, 3) uint8 of a batch as the network is shown it, with its targets."""

    def oracle(self, name: str) -> Any:
        """The truth in the place of a model, for `evaluate`."""

    def write_report(self, path: Path, title: str, result: Any, model: Any) -> bool:
        """Write an HTML page about a result; False where the task has none for it."""
