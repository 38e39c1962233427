"""`Segmenter`: pictures in, the class of every pixel out, whatever computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from psa_pose.checkpoints.spec import SPEC_KEY
from psa_pose.config.choices import PRECISIONS
from psa_pose.device import DTYPES, check_dtype, place, usable_device
from psa_pose.errors import ConfigError, DataError, closest
from psa_pose.inference.backends import open_session
from psa_pose.media.pictures import as_pixels
from psa_pose.segmentation.classes import ClassList
from psa_pose.segmentation.inference.export import INPUT, OUTPUT, SegmentationExportSpec
from psa_pose.segmentation.inference.labeller import Labeller, build_labeller
from psa_pose.segmentation.spec import SegmentationSpec, load_segmentation
from psa_pose.segmentation.visualization import blended


class Segmenter:
    """Pictures in, label maps out. Any number of threads may call one at the same time.

    classes: names and colours. protocol: how the network is asked.
    """

    def __init__(self, label: Labeller, spec: SegmentationSpec, protocol: str) -> None:
        self._label, self._spec = label, spec
        self.protocol = protocol

    @property
    def classes(self) -> ClassList:
        return self._spec.classes

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, device: str | torch.device = "auto", protocol: str = "", precision: str = "fp32"
    ) -> Segmenter:
        """From what tools/train.py wrote, and nothing else.

        device: "auto" (a GPU if there is one), or torch's word for one. protocol: of TEST.PROTOCOLS; "" takes the
        first that the network was trained to be tested by, "full" where that is "crop". precision: "fp32", "bf16", or
        on a GPU "fp16".
        Raises CheckpointError for an unfit file, ConfigError for what the device cannot do.
        """
        model, spec, cfg = load_segmentation(path)
        chosen = protocol or cfg.TEST.PROTOCOLS[0]
        if chosen == "crop":
            if protocol:
                raise ConfigError("protocol crop leaves out the rim of a picture; ask for full")
            chosen = "full"
        where = usable_device(device)
        if precision not in PRECISIONS:
            raise ConfigError(f"{precision!r} is no precision; {closest(precision, PRECISIONS)}")
        check_dtype(DTYPES.get(precision, torch.float32), where)
        cfg.defrost()
        cfg.TEST.PRECISION = precision
        return cls(build_labeller(cfg, place(model, cfg, where), chosen, where), spec, chosen)

    @classmethod
    def from_onnx(
        cls, path: str | Path, providers: Sequence[str] = ("CPUExecutionProvider",), threads: int = 0
    ) -> Segmenter:
        """From a file that tools/export.py wrote as ONNX, computed by ONNX Runtime, under the file's protocol.

        providers, threads: as of `PoseEstimator.from_onnx`. Raises CheckpointError for an unfit file, ConfigError where
        ONNX Runtime or a provider is not installed; a call raises DataError for a picture smaller than the file takes.
        """
        label, spec = onnx_labeller(path, providers, threads)
        return cls(label, spec.network, spec.protocol)

    def __call__(self, image: Any) -> np.ndarray:
        """The labels (H, W) uint8 of a picture: a path, a PIL image, or uint8 pixels (H, W, 3) RGB or (H, W) grey.

        Raises DataError for a picture that cannot be read.
        """
        pixels = as_pixels(image)
        ordered = pixels if self._spec.channel_order == "rgb" else np.ascontiguousarray(pixels[..., ::-1])
        return self._label(torch.from_numpy(ordered)[None])[0].cpu().numpy()

    def blend(self, image: Any, labels: np.ndarray, strength: float = 0.55) -> np.ndarray:
        """A picture (H, W, 3) uint8 RGB under the colours of its labels; strength: of the colours, 0 to 1."""
        return blended(as_pixels(image), labels, self.classes, strength)


def onnx_labeller(
    path: str | Path, providers: Sequence[str] = ("CPUExecutionProvider",), threads: int = 0
) -> tuple[Labeller, SegmentationExportSpec]:
    """An exported file in ONNX Runtime, and what it says of itself; see `Segmenter.from_onnx`."""
    session = open_session(path, providers, threads)
    spec = SegmentationExportSpec.of_json(session.get_modelmeta().custom_metadata_map.get(SPEC_KEY), path)
    swapped = spec.network.channel_order == "bgr"

    def label(pictures: torch.Tensor) -> torch.Tensor:
        height, width = pictures.shape[1:3]
        if min(height, width) < spec.least_side:
            raise DataError(
                f"the picture is {width}x{height} pixels, {path} takes sides of {spec.least_side} and more; "
                "enlarge it, or use the checkpoint"
            )
        rgb = pictures.flip(3) if swapped else pictures
        (scores,) = session.run([OUTPUT], {INPUT: rgb.numpy()})
        return torch.from_numpy(scores).argmax(1).to(torch.uint8)

    return label, spec
