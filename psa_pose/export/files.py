"""A traced graph as the bytes of an ONNX file or a torch.export archive, whatever the network answers.

TorchScript is not offered: PyTorch has deprecated it in favour of torch.export.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from psa_pose.checkpoints.spec import SPEC_KEY
from psa_pose.errors import ConfigError

FORMATS = {"onnx": ".onnx", "torch_export": ".pt2"}

Runner = Callable[[np.ndarray], list[np.ndarray]]
"""A batch of uint8 pixels -> the file's outputs, in order."""


class Graph(Protocol):
    """A module of one input that can be traced.

    input_name, output_names: in the file.
    example: an input.
    open_sizes: its dimensions that may have another size in use -> torch.export's Dim.
    """

    input_name: str
    output_names: list[str]
    example: Tensor
    open_sizes: dict[int, Any]

    def to_json(self, versions: dict[str, str]) -> str:
        """What the file says of itself; versions: of the programs that made it."""


def check_format(form: str) -> None:
    """Raise ConfigError for a format that is not offered, or whose packages are not installed."""
    if form not in FORMATS:
        raise ConfigError(f"cannot write {form!r}; choose one of {list(FORMATS)}")
    if form == "onnx":
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"{error.name} is not installed; install what exporting needs: pip install onnx onnxscript onnxruntime"
            ) from None


def trace(graph: Graph) -> ExportedProgram:
    """The graph as a torch.export program for every input of its open sizes."""
    assert isinstance(graph, nn.Module)
    with torch.no_grad():
        program = torch.export.export(
            graph.eval(), (graph.example,), dynamic_shapes={graph.input_name: graph.open_sizes}
        )
    # Lines of source with the paths of this machine, which a file would carry at every node.
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def archive(graph: Graph) -> tuple[bytes, Runner]:
    """A torch.export archive's bytes, and what runs them: read back only because they were made here, it unpickles."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(trace(graph), buffer, extra_files={f"{SPEC_KEY}.json": graph.to_json(_versions())})
        data = buffer.getvalue()
        called = torch.export.load(io.BytesIO(data)).module()

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            answer = called(torch.from_numpy(pixels))
        return [part.numpy() for part in (answer if isinstance(answer, tuple) else (answer,))]

    return data, run


def onnx_file(graph: Graph, finish: Callable[[Any], Any] = lambda model: model) -> tuple[bytes, Runner]:
    """An ONNX file's bytes, and what runs them. finish: of the traced model (ModelProto), such as its quantization."""
    import onnx
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            trace(graph),
            (),
            input_names=[graph.input_name],
            output_names=graph.output_names,
            dynamo=True,
            verbose=False,
        )
    traced = program.model_proto
    # Notes of the exporter, longer than the graph itself, that no runtime reads.
    for node in traced.graph.node:
        node.ClearField("metadata_props")
    model = finish(traced)
    onnx.helper.set_model_props(model, {SPEC_KEY: graph.to_json(_versions() | {"onnx": onnx.__version__})})
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return data, lambda pixels: session.run(graph.output_names, {graph.input_name: pixels})


def _versions() -> dict[str, str]:
    from psa_pose import __version__

    return {"psa_pose": __version__, "torch": str(torch.__version__)}
