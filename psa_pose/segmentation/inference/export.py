"""A segmentation network as a file for other programs: RGB pictures of any size in, scores at their size out."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim
from yacs.config import CfgNode

from psa_pose.errors import CheckpointError
from psa_pose.export.files import Runner, archive, check_format, onnx_file
from psa_pose.files import write_bytes
from psa_pose.models.fold import fold_batchnorm
from psa_pose.predict import Normalization
from psa_pose.run_log import Info
from psa_pose.segmentation.inference.labeller import build_scores, usual_protocol
from psa_pose.segmentation.networks.hmsa import HMSA
from psa_pose.segmentation.spec import SegmentationSpec, load_segmentation

INPUT, OUTPUT = "pictures", "scores"
LEAST_SIDE = 33
"""Pixels of a picture's side, at the smallest scale that the network looks at: where the coarsest map has two."""

# See `ScoreDifferences`. ONNX Runtime adds up in another order than PyTorch: a few of its roundings are granted.
_TOLERANCE, _ROUNDINGS = 1e-4, 10
_EXPORT_FORMAT = 1


@dataclass(frozen=True)
class ScoreDifferences:
    """The largest of the scores, as shares of `largest`, which is the largest absolute score of PyTorch or 1.

    scores: between the file and PyTorch. rounding: between PyTorch's float32 and its float64, which is what float32
    cannot tell apart in this network; untrained ones with PSA, whose softmax meets large numbers, have up to 1e-3.
    """

    scores: float
    rounding: float
    largest: float

    @property
    def fit(self) -> bool:
        """False for a NaN too."""
        return self.scores <= max(_TOLERANCE, _ROUNDINGS * self.rounding)


@dataclass(frozen=True)
class SegmentationExportSpec:
    """What an exported file is.

    network: what went into it. protocol: how it is asked, "full", "flip" or "hmsa". least_side: of a picture, pixels.
    """

    network: SegmentationSpec
    protocol: str
    least_side: int

    def to_json(self, versions: dict[str, str]) -> str:
        """The JSON that `of_json` reads back; versions: of the programs that made the file."""
        values = {"protocol": self.protocol, "least_side": self.least_side, "versions": versions}
        return json.dumps({"format": _EXPORT_FORMAT, **self.network.sections(), **values})

    @classmethod
    def of_json(cls, text: str | None, source: object) -> SegmentationExportSpec:
        """From the JSON of an exported file. Raises CheckpointError where it is not one, or of a later version."""
        try:
            values = json.loads(text or "{}")
            if values["format"] != _EXPORT_FORMAT or values["protocol"] not in ("full", "flip", "hmsa"):
                raise ValueError
            return cls(SegmentationSpec.of_sections(values, source), values["protocol"], int(values["least_side"]))
        except (ValueError, KeyError, TypeError, AttributeError, CheckpointError):
            raise CheckpointError(
                f"{source} is no segmentation network that tools/export.py of this version wrote; export the "
                "checkpoint again"
            ) from None


class PictureGraph(nn.Module):
    """Pictures (N, H, W, 3) uint8, always RGB -> scores (N, C, H, W) float32. A `psa_pose.export.files.Graph`.

    Channel order, normalisation and the protocol are inside. Any N from 1, any H and W from the
    spec's least side on.
    """

    input_name, output_names = INPUT, [OUTPUT]

    def __init__(self, model: nn.Module, spec: SegmentationExportSpec, cfg: CfgNode) -> None:
        super().__init__()
        self.spec, self.model = spec, model
        self._scores = build_scores(cfg, model, spec.protocol)
        self._normalization = Normalization.of(spec.network.mean, spec.network.std, torch.device("cpu"))
        # Sides that no constant of a network is equal to, lest the trace takes one for the other.
        side = spec.least_side
        self.example = torch.zeros(2, side + 90, side + 150, 3, dtype=torch.uint8)
        self.open_sizes: dict[int, Any] = {
            0: Dim("batch", min=1), 1: Dim("height", min=side), 2: Dim("width", min=side)
        }  # fmt: skip

    def forward(self, pictures: Tensor) -> Tensor:
        images = self._normalization(pictures.flip(3) if self.spec.network.channel_order == "bgr" else pictures)
        return self._scores(images.to(next(self.model.parameters()).dtype))

    def to_json(self, versions: dict[str, str]) -> str:
        return self.spec.to_json(versions)


def export_segmentation(
    checkpoint: Path, out: Path, form: str = "onnx", flip: bool = False, info: Info = print
) -> ScoreDifferences:
    """How far the answers of a file are from PyTorch's; `out` is that file, of a checkpoint's network, when it is done.

    form: an ONNX file or a torch.export archive, a key of FORMATS.
    flip: under protocol flip, averaged with the mirrored picture. Without, HMSA joins its scales, as under hmsa, and
    any other network answers as under full. info: told where TEST.PAD_TO is left out. Raises ConfigError for what is
    not installed, CheckpointError for an unfit checkpoint, and where the file's answers are not PyTorch's; then `out`
    is left as it was.
    """
    check_format(form)
    model, network, cfg = load_segmentation(checkpoint)
    if cfg.TEST.PAD_TO > 1:
        info(f"note: the file pads nothing: it answers as with TEST.PAD_TO 1, not {cfg.TEST.PAD_TO}")
        cfg.defrost()
        cfg.TEST.PAD_TO = 1
    protocol = "flip" if flip else usual_protocol(cfg, flip=False)
    scales = model.scales if isinstance(model, HMSA) and protocol == "hmsa" else (1.0,)
    spec = SegmentationExportSpec(network, protocol, math.ceil(LEAST_SIDE / min(1.0, *scales)))
    graph = PictureGraph(fold_batchnorm(model), spec, cfg)
    data, run = (onnx_file if form == "onnx" else archive)(graph)
    found = _compare(run, PictureGraph(model, spec, cfg), PictureGraph(copy.deepcopy(model).double(), spec, cfg))
    if not found.fit:
        raise CheckpointError(
            f"the exported network's answers are not those of {checkpoint} ({found}); nothing was written: report it"
        )
    write_bytes(out, data)
    return found


def _compare(run: Runner, graph: PictureGraph, exact: PictureGraph) -> ScoreDifferences:
    """A file's answers against those of PyTorch's network, not folded, for pictures of the least size and an odd one.

    exact: the same network in float64.
    """
    generator, side = np.random.default_rng(0), graph.spec.least_side
    worst, rounding, largest = 0.0, 0.0, 1.0
    for count, size in ((1, (side, side)), (2, (side + 30, side + 11))):
        pictures = generator.integers(0, 256, (count, *size, 3), np.uint8)
        with torch.no_grad():
            expected, precise = (g(torch.from_numpy(pictures)).double().numpy() for g in (graph, exact))
        largest = max(largest, float(np.abs(expected).max()))
        worst = float(np.maximum(worst, np.abs(run(pictures)[0] - expected).max()))
        rounding = max(rounding, float(np.abs(expected - precise).max()))
    return ScoreDifferences(worst / largest, rounding / largest, largest)
