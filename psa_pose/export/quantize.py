"""Convolutions in 8 bits, by ONNX Runtime's tools. What comes out is another network: measure its AP."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.checkpoints.spec import GRAPH_INPUT
from psa_pose.data.dataset import CropDataset

QUANTIZED = ("none", "dynamic", "static")

_CALIBRATION = 128
"""Persons that static quantization looks at."""


def quantize(model: Any, how: str, calibration: np.ndarray | None = None) -> Any:
    """An ONNX model (ModelProto) as it is ("none"), or with int8 weights per channel in its convolutions.

    "dynamic": activations are quantized by each batch's own range, as the file is used. "static": by the range that
    they have on the calibration crops (N, H, W, 3) uint8 RGB, which is faster.
    """
    if how == "none":
        return model
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        given, prepared, done = (Path(folder) / f"{name}.onnx" for name in ("given", "prepared", "done"))
        onnx.save(model, given)
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        kept = _beyond_features(onnx.load(prepared).graph)
        if how == "dynamic":
            quantization.quantize_dynamic(prepared, done, ["Conv"], per_channel=True, nodes_to_exclude=kept)
        else:
            assert calibration is not None
            types = ["Conv", "Add", "MaxPool"]
            quantization.quantize_static(
                prepared, done, _reader(calibration), op_types_to_quantize=types, per_channel=True
            )
        return onnx.load(done)


def calibration_crops(dataset: CropDataset, channel_order: str, count: int = _CALIBRATION) -> np.ndarray:
    """Crops (N, H, W, 3) uint8 RGB of up to `count` persons of a data set, spread over it, augmented as it does.

    channel_order: of the data set's crops.
    """
    rows = np.unique(np.linspace(0, len(dataset) - 1, count).astype(int))
    crops = np.stack([dataset[0, int(row)].crop for row in rows])
    return crops if channel_order == "rgb" else np.ascontiguousarray(crops[..., ::-1])


def _beyond_features(graph: Any) -> list[str]:
    """Names of the nodes that lead to no other convolution: the one that makes the maps, and all that follows it.

    256 steps are enough for a feature, but not for the maps, whose slopes say where between two pixels a joint lies.
    """
    makers = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    left = [name for node in convolutions for name in node.input]
    leading: set[str] = set()
    while left:
        node = makers.get(left.pop())
        if node is not None and node.name not in leading:
            leading.add(node.name)
            left += node.input
    return [node.name for node in graph.node if node.name not in leading]


def _reader(crops: np.ndarray) -> Any:
    """ONNX Runtime's way to ask for the calibration's batches."""
    from onnxruntime.quantization import CalibrationDataReader

    class Batches(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[np.ndarray] = iter(np.array_split(crops, -(-len(crops) // 8)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.left, None)
            return None if batch is None else {GRAPH_INPUT: batch}

    return Batches()
