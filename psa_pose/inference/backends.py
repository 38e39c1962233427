"""What computes: `psa_pose.predict.TorchBackend` from a checkpoint, or ONNX Runtime from an exported file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from psa_pose.checkpoints.spec import GRAPH_INPUT, SPEC_KEY, ExportSpec, ModelSpec
from psa_pose.codecs import Codec
from psa_pose.errors import CheckpointError, ConfigError
from psa_pose.models.gates import Gates
from psa_pose.predict import Answer


class Backend(Protocol):
    """Crops (N, H, W, 3) uint8 RGB -> joints (N, K, 2) crop pixels, scores (N, K), and maps (N, C, h, w) if asked for.

    All float32. Threads may call it at the same time.
    """

    spec: ModelSpec
    device: torch.device

    def __call__(self, crops: np.ndarray, heatmaps: bool) -> Answer: ...

    def gates(self, crops: np.ndarray) -> dict[str, Gates]:
        """Of every PSA block, by module name; see `psa_pose.models.gates`."""
        ...


class OnnxBackend:
    """An exported file in ONNX Runtime, without PyTorch's modules.

    providers: ONNX Runtime's names of what computes, the preferred first. threads: 0 takes as many as torch uses.
    flip: whether the file has to average with the mirrored crop; None: it does as it was exported.
    Raises ConfigError where ONNX Runtime or a provider is missing or the file flips otherwise, CheckpointError for a
    file that does not fit.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        path: str | Path,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        threads: int = 0,
        flip: bool | None = None,
    ) -> None:
        self._session = open_session(path, providers, threads)
        self.exported = _stated(self._session, path)
        if flip not in (None, self.exported.flip):
            raise ConfigError(_other_flip(path, self.exported.flip))
        self.spec = self.exported.network
        self._codec: Codec = self.spec.make_codec()

    def __call__(self, crops: np.ndarray, heatmaps: bool) -> Answer:
        if not self.exported.keypoints:
            maps = self._session.run(["maps"], {GRAPH_INPUT: crops})[0]
            joints, scores = (answer.numpy() for answer in self._codec.decode(torch.from_numpy(maps)))
            return joints, scores, maps if heatmaps else None
        names = self.exported.outputs[: 3 if heatmaps else 2]
        joints, scores, *rest = self._session.run(names, {GRAPH_INPUT: crops})
        return joints, scores, rest[0] if rest else None

    def gates(self, crops: np.ndarray) -> dict[str, Gates]:
        raise ConfigError("an exported file does not show its gates; use PoseEstimator.from_checkpoint")


def _other_flip(path: object, flips: bool) -> str:
    """The sentence for who asks a file for another flip test than the one in its graph."""
    has, remedy = ("with", "--no-flip") if flips else ("without", "--flip")
    return (
        f"{path} was exported {has} the flip test, and does so whoever asks; leave flip out, or export the checkpoint "
        f"again with {remedy}"
    )


def open_session(path: str | Path, providers: Sequence[str], threads: int = 0) -> Any:
    """An ONNX Runtime session of a file. Threads sleep while they wait, as the tools ask of torch's.

    Raises ConfigError where ONNX Runtime or a provider is missing, CheckpointError for a file that does not fit.
    """
    data = _read(path)
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError("ONNX Runtime is not installed; install it with: pip install onnxruntime") from None
    missing = [name for name in providers if name not in onnxruntime.get_available_providers()]
    if missing:
        there = ", ".join(onnxruntime.get_available_providers())
        raise ConfigError(f"ONNX Runtime has no provider {missing[0]!r} here; choose from {there}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(data, options, providers=list(providers))
    # Each of its errors is a class of its own, and all of them are plain exceptions.
    except Exception as error:
        first = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{path} is damaged or not an ONNX file ({first}); export the checkpoint again with tools/export.py"
        ) from None


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"file {path} cannot be read: {error.strerror}; check the path") from None


def _stated(session: Any, path: str | Path) -> ExportSpec:
    """What the file says of itself, compared with its graph."""
    stated = session.get_modelmeta().custom_metadata_map.get(SPEC_KEY)
    if stated is None:
        raise CheckpointError(f"{path} is an ONNX file, but not one that tools/export.py wrote; export a checkpoint")
    exported = ExportSpec.of_json(stated, path)
    width, height = exported.network.input_size
    inputs = [(one.name, one.shape[1:], one.type) for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]
    if inputs != [(GRAPH_INPUT, [height, width, 3], "tensor(uint8)")] or outputs != exported.outputs:
        raise CheckpointError(f"the graph in {path} is not what the file says it is; export the checkpoint again")
    return exported
