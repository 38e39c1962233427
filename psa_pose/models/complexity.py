"""Parameters and multiply-adds of a network, counted as the pose literature counts them, and as they are executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from yacs.config import CfgNode

from psa_pose.attention import PolarizedAttention
from psa_pose.models import build_model
from psa_pose.models.blocks import attention_modules

GI = 2**30
"""The literature's "G" of multiply-adds."""


@dataclass(frozen=True)
class Complexity:
    """params: learned numbers. macs: multiply-adds of one image by the literature's rule. executed: see `count`.

    norm_elements: what the batch norms put out for one image. The "Flops" of DeepLabV3+ in the PSA paper's Table 3 are
    (macs + 2 norm_elements) / 10^9.
    """

    params: int
    macs: int
    executed: int
    norm_elements: int = 0


def count(model: nn.Module, input_size: tuple[int, int]) -> Complexity:
    """Count a network (best built on the meta device) for one image of (width, height) pixels.

    macs: for each convolution, transposed convolution and linear layer that is called, weight elements x output
    positions; nothing else. It is the rule behind the "Flops" columns of SimpleBaseline, HRNet, UDP and PSA (divided by
    2^30), and for a transposed convolution of stride s it counts s^2 times what is computed. PSA is counted in the
    order it is written, as its paper counts it, whatever its `direct`.
    executed: the same outside the attention blocks; inside them every matrix product that is really computed, PSA as
    its `direct` says, also products between activations, which the literature leaves out.
    """
    width, height = input_size
    images = torch.zeros(1, 3, height, width, device=next(model.parameters()).device)
    blocks = set(attention_modules(model))
    inside = {layer for block in blocks for layer in block.modules()}
    layers: dict[nn.Module, int] = {
        m: 0 for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    }
    norm_elements = 0
    # Blocks that print alike, at the same shape, are alike: how often each kind is called, and one of it.
    calls: Counter[tuple[str, torch.Size]] = Counter()
    kinds: dict[tuple[str, torch.Size], nn.Module] = {}

    def count_layer(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer.weight, Tensor)
        layers[layer] += layer.weight.numel() * _positions(layer, output)

    def count_norm(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal norm_elements
        norm_elements += output[0].numel()

    def note_block(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        kind = (names[block], inputs[0].shape)
        calls[kind] += 1
        kinds[kind] = block

    names = {block: str(block) for block in blocks}
    handles = [layer.register_forward_hook(count_layer) for layer in layers]
    handles += [m.register_forward_hook(count_norm) for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    handles += [block.register_forward_pre_hook(note_block) for block in blocks]
    try:
        with torch.no_grad(), _as_written(model), _Unresized():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    outside = sum(n for layer, n in layers.items() if layer not in inside)
    executed = outside + sum(times * _products(kinds[kind], kind[1]) for kind, times in calls.items())
    return Complexity(sum(p.numel() for p in model.parameters()), sum(layers.values()), executed, norm_elements)


@contextmanager
def _as_written(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, PSA in the written order, and batch norms, which count nothing and are slow, left out."""
    polarized = {m: m.direct for m in model.modules() if isinstance(m, PolarizedAttention)}
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    was_training = model.training
    try:
        model.eval()
        for block in polarized:
            block.direct = True
        for norm in norms:
            norm.forward = lambda x: x  # type: ignore[method-assign,assignment]
        yield
    finally:
        for norm in norms:
            del norm.forward
        for block, direct in polarized.items():
            block.direct = direct
        model.train(was_training)


def _positions(layer: nn.Module, output: Tensor) -> int:
    """How many vectors a layer put out for the one image: pixels of a map, or rows in front of a linear layer."""
    return output[0, 0].numel() if output.ndim == 4 else output.numel() // output.shape[-1]


def _products(block: nn.Module, shape: torch.Size) -> int:
    """Multiply-adds of every matrix product and convolution that an attention block computes for this input."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block(torch.zeros(shape, device=next(block.parameters()).device))
    return counter.get_total_flops() // 2


def config_complexity(cfg: CfgNode) -> Complexity:
    """What the config's network costs for one image."""
    return count(meta_model(cfg), tuple(cfg.INPUT.SIZE))


def meta_model(cfg: CfgNode) -> nn.Module:
    """The config's network on the meta device."""
    with shapes_alone():
        return build_model(cfg)


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Networks built in it are on the meta device: shapes without numbers, in a tenth of a second."""
    with torch.device("meta"), _Uninitialised():
        yield


class _Unresized(TorchFunctionMode):
    """Resizing counts nothing; the meta device would take it apart into dozens of steps."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.interpolate and kwargs["size"] is not None:
            return args[0].new_empty((*args[0].shape[:2], *kwargs["size"]))
        return function(*args, **kwargs)


_DRAWING = ("kaiming_uniform_", "normal_", "uniform_", "fill_", "zero_")


class _Uninitialised(TorchFunctionMode):
    """Drawing weights, which the meta device has not, would take most of the time of building a network on it."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") in _DRAWING:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)
