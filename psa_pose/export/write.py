"""A pose checkpoint as a file for other programs, compared with PyTorch before it takes its name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from psa_pose.checkpoints.spec import ExportSpec, load_network
from psa_pose.codecs import Codec
from psa_pose.errors import CheckpointError, ConfigError
from psa_pose.export.files import FORMATS, Runner, archive, check_format, onnx_file
from psa_pose.export.graph import ExportGraph
from psa_pose.export.quantize import QUANTIZED, quantize
from psa_pose.files import atomic_write
from psa_pose.models.fold import fold_batchnorm
from psa_pose.predict import CropNetwork

# See `Differences`.
_MAP_TOLERANCE, _JOINT_TOLERANCE = 1e-4, 1e-2


@dataclass(frozen=True)
class Differences:
    """The largest between the file's answers and PyTorch's: of the maps, as a share of `largest`, which is the largest
    absolute value of PyTorch's maps or 1; and of joints, crop pixels, against the codec's for the file's own maps."""

    maps: float
    largest: float
    joints: float | None = None


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    form: str = "onnx",
    keypoints: bool = False,
    flip: bool = True,
    quantized: str = "none",
    calibration: np.ndarray | None = None,
) -> Differences:
    """Write a checkpoint's network as an ONNX file or a torch.export archive, by `form`: a key of FORMATS.

    The graph takes RGB crops (N, H, W, 3) uint8, any N from 1 on; see `ExportGraph` for its outputs and for keypoints
    and flip. quantized: a value of QUANTIZED; "static" needs calibration, such crops (N, H, W, 3). ONNX only.
    Raises ConfigError for what cannot be combined or is not installed, CheckpointError for an unfit checkpoint, and
    where the file's answers are not PyTorch's; then `out` is left as it was. Quantized maps may differ as they will.
    """
    check_request(form, quantized, calibration is not None)
    model, network = load_network(checkpoint)
    spec = ExportSpec(network, keypoints, flip, quantized)
    graph = ExportGraph(fold_batchnorm(model), spec)
    in_bits = partial(quantize, how=quantized, calibration=calibration)
    data, run = onnx_file(graph, in_bits) if form == "onnx" else archive(graph)
    found = _compare(run, model, spec)
    wrong = found.maps > _MAP_TOLERANCE or (found.joints or 0) > _JOINT_TOLERANCE
    # A NaN is above nothing.
    if not np.isfinite(found.maps) or (wrong and quantized == "none"):
        raise CheckpointError(
            f"the exported network's answers are not those of {checkpoint} ({found}); nothing was written: report it"
        )
    atomic_write(out, lambda file: file.write(data))
    return found


def check_request(form: str, quantized: str, calibrated: bool) -> None:
    """Raise ConfigError for what `export_checkpoint` cannot do, before anything takes time."""
    if form not in FORMATS or quantized not in QUANTIZED:
        raise ConfigError(f"cannot write {form!r}, {quantized!r}; choose one of {list(FORMATS)}, of {list(QUANTIZED)}")
    if quantized != "none" and form != "onnx":
        raise ConfigError("quantization is ONNX Runtime's; write the format onnx, or leave the quantization out")
    if calibrated != (quantized == "static"):
        raise ConfigError("static quantization, and no other, needs crops to calibrate with; give a data set's config")
    check_format(form)


def _compare(run: Runner, model: nn.Module, spec: ExportSpec) -> Differences:
    """A file's answers against PyTorch's of a model that is not folded, for batches of 1, 2 and 5 crops."""
    network = CropNetwork.of_spec(model, spec.network, torch.device("cpu"), spec.flip)
    width, height = spec.network.input_size
    generator = np.random.default_rng(0)
    worst, largest, joints = 0.0, 1.0, 0.0
    for count in (1, 2, 5):
        crops = generator.integers(0, 256, (count, height, width, 3), np.uint8)
        with torch.no_grad():
            expected = network(torch.from_numpy(crops)).numpy()
        answers = run(crops)
        maps = answers[-1]
        largest = max(largest, float(np.abs(expected).max()))
        worst = float(np.maximum(worst, np.abs(maps - expected).max()))
        if spec.keypoints:
            joints = max(joints, decoding_difference(answers, network.codec))
    return Differences(worst / largest, largest, joints if spec.keypoints else None)


def decoding_difference(answers: list[np.ndarray], codec: Codec) -> float:
    """The largest between joints and scores of a graph and what the codec makes of the graph's maps.

    Of joints in crop pixels, or, where the codec goes further than a pixel from the map's maximum, as a share of that
    way: it divides by a curvature, and where that is next to nothing, so it does with the rounding.
    """
    joints, scores, maps = answers
    expected, certainty = (part.numpy() for part in codec.decode(torch.from_numpy(maps)))
    width = maps.shape[3]
    row, column = np.divmod(maps[:, :: codec.channels_per_joint].reshape(*scores.shape, -1).argmax(2), width)
    peaks = np.stack([column, row], axis=2) * np.array(codec.stride)
    way = np.linalg.norm(expected - peaks, axis=2, keepdims=True)
    return float(max((np.abs(joints - expected) / np.maximum(way, 1)).max(), np.abs(scores - certainty).max()))
