"""A network's forward and backward pass as two CUDA graphs: a step is two launches, however many kernels they hold.

A network of many small kernels, such as HRNet with attention, keeps a GPU waiting for the host that launches them one
by one. The rules: https://docs.pytorch.org/docs/stable/notes/cuda.html#partial-network-capture
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Passes before the capture, in which cuDNN chooses its algorithms and libraries take their memory.
WARM_UP = 3

Outputs = Tensor | tuple[Tensor, ...]


class CudaGraphs(nn.Module):
    """A network on a GPU that trains by replaying two CUDA graphs, captured on its first batch; shares its weights.

    Batches of another shape, and evaluation, run as they are. A backward pass writes the gradients where the one before
    wrote its own: they have to be used before the next, and cannot be accumulated. Modules stay frozen or not as they
    are at the capture. compiled: what is captured is the network as torch.compile makes it.
    """

    def __init__(self, network: nn.Module, compiled: bool = False) -> None:
        super().__init__()
        self.network = network
        self._compiled = compiled
        self._shape: torch.Size | None = None
        self._replayed: Callable[[Tensor], Outputs] | None = None

    def forward(self, images: Tensor) -> Outputs:
        if not self.training:
            return self.network(images)
        if self._replayed is None:
            network = torch.compile(self.network, dynamic=False) if self._compiled else self.network
            self._shape, self._replayed = images.shape, capture(network, images)
        return self._replayed(images) if images.shape == self._shape else self.network(images)


def capture(network: Any, images: Tensor) -> Callable[[Tensor], Outputs]:
    """The network's passes on images like these (B, 3, H, W), under the autocast that is on.

    Buffers, such as BatchNorm's statistics, and the generator of random numbers are afterwards as before.
    """
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    parameters = [p for p in network.parameters() if p.requires_grad]
    with torch.random.fork_rng([images.device]):
        captured = _Captured(network, parameters, images.detach().clone())
    for buffer, before in buffers:
        buffer.copy_(before)

    def replayed(batch: Tensor) -> Outputs:
        answers = _Replay.apply(captured, batch, *parameters)
        return answers if captured.several else answers[0]

    return replayed


class _Captured:
    """Both graphs, and the memory that they read and write.

    images: what the forward pass reads. outputs, slopes: what it writes, and their gradients, which the backward pass
    reads. gradients: what that writes, one for each parameter; None for one that has no part in the outputs.
    """

    def __init__(self, network: Any, parameters: list[nn.Parameter], images: Tensor) -> None:
        self.images = images
        aside = torch.cuda.Stream(images.device)
        aside.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._backward(parameters, *self._forward(network))
        torch.cuda.current_stream(images.device).wait_stream(aside)
        # Other threads, which bring batches, may go on: what they ask of the driver is not part of the graphs.
        self._graphs = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graphs[0], stream=aside, capture_error_mode="thread_local"):
            self.outputs, self.slopes = self._forward(network)
        pool = self._graphs[0].pool()
        with torch.cuda.graph(self._graphs[1], pool=pool, stream=aside, capture_error_mode="thread_local"):
            self.gradients = self._backward(parameters, self.outputs, self.slopes)
        # Without their history, which would tie the parameters' gradients to the stream of the capture.
        self.outputs = [output.detach() for output in self.outputs]

    def _forward(self, network: Any) -> tuple[list[Tensor], list[Tensor]]:
        # A cast of weights that is kept for later would not be made anew when they have changed.
        dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
        with torch.autocast("cuda", dtype, enabled, cache_enabled=False):
            outputs = network(self.images)
        self.several = not isinstance(outputs, Tensor)
        flat = list(outputs) if self.several else [outputs]
        return flat, [torch.empty_like(output) for output in flat]

    def _backward(
        self, parameters: list[nn.Parameter], outputs: list[Tensor], slopes: list[Tensor]
    ) -> tuple[Tensor | None, ...]:
        with torch.autocast("cuda", enabled=False):
            return torch.autograd.grad(outputs, parameters, slopes, allow_unused=True)

    def forward(self) -> None:
        self._graphs[0].replay()

    def backward(self) -> None:
        self._graphs[1].replay()


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, captured: _Captured, images: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        captured.images.copy_(images)
        captured.forward()
        ctx.captured = captured
        return tuple(output.detach() for output in captured.outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        captured = cast(_Captured, ctx.captured)
        torch._foreach_copy_(captured.slopes, list(slopes))
        captured.backward()
        return None, None, *(None if gradient is None else gradient.detach() for gradient in captured.gradients)
