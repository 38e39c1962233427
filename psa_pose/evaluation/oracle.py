"""The annotated keypoints in the place of a network: what the evaluation and a codec lose."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from psa_pose.codecs import Codec
from psa_pose.data.dataset import Batch


@dataclass(frozen=True)
class Oracle:
    """A `psa_pose.predict.Predictor` that answers with the truth; joints without a label score 0.

    source: "keypoints", the annotated ones themselves: what the evaluation loses; or "targets", their target heatmaps,
    decoded: what the codec loses.
    """

    codec: Codec
    source: str

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        maps, _ = self.codec.encode(batch.joints, batch.visible)
        if self.source == "targets":
            return *self.codec.decode(maps), maps
        return batch.joints * batch.visible[..., None], batch.visible, maps

    def __str__(self) -> str:
        return f"oracle: {self.source}, codec {self.codec.name}"
