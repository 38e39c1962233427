"""The annotated keypoints in the place of a network: what the evaluation and a codec lose."""

from __future__ import annotations

import torch

from psa_pose.codecs import Codec
from psa_pose.data.loader import Batch
from psa_pose.predict import Predictor


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
