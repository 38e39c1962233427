"""Person boxes from torchvision's detector, where its weights can be had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from psa_pose.checkpoints import load_weights
from psa_pose.checkpoints.download import cached_download
from psa_pose.checkpoints.load import read_torch_file
from psa_pose.data.formats.coco_form import PERSON_CATEGORY
from psa_pose.errors import CheckpointError

DETECTOR = "fasterrcnn_mobilenet_v3_large_fpn"


class PersonDetector:
    """A torchvision detector that answers with persons. Any number of threads may call it at the same time."""

    def __init__(self, model: nn.Module, device: torch.device, least_score: float = 0.5) -> None:
        self._model = model.to(device).eval().requires_grad_(False)
        self._device, self._least_score = device, least_score

    @classmethod
    def from_torchvision(
        cls, device: torch.device, weights: str | Path | None = None, least_score: float = 0.5
    ) -> PersonDetector:
        """Faster R-CNN on a MobileNet. weights: a file with its state dict; None: torch.hub's cache, or a download.

        Raises CheckpointError that names the alternatives, where the weights cannot be had.
        """
        # Takes seconds to import.
        from torchvision.models import get_model

        path = Path(weights) if weights else _downloaded()
        model = get_model(DETECTOR, weights=None, weights_backbone=None)
        content = read_torch_file(path)
        if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
            raise CheckpointError(f"detector weights {path} hold no state dict; give torchvision's file of {DETECTOR}")
        load_weights(model, content, path)
        return cls(model, device, least_score)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """RGB picture (H, W, 3) uint8 -> boxes (N, 4) x, y, width, height in its pixels, and scores (N,)."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self._device).permute(2, 0, 1).float() / 255
        found = {key: value.cpu().numpy().astype(float) for key, value in self._model([pixels])[0].items()}
        x0, y0, x1, y1 = found["boxes"].reshape(-1, 4).T
        boxes = np.stack([x0, y0, x1 - x0, y1 - y0], axis=1)
        # The detector was trained on COCO's categories.
        person = (found["labels"] == PERSON_CATEGORY) & (found["scores"] >= self._least_score)
        person &= (boxes[:, 2:] > 0).all(1)
        return boxes[person], found["scores"][person]


def _downloaded() -> Path:
    from torchvision.models import get_model_weights

    url = get_model_weights(DETECTOR).DEFAULT.url  # type: ignore[attr-defined]
    remedy = "or name a file by --detector-weights, give boxes by --boxes, or take --whole-picture"
    return cached_download(url, "the person detector's weights", remedy)
