"""psa_p's kernels against the written order in float64, a line of JSON for each of the cases that are named.

Run as a process of its own: on a GPU, or with TRITON_INTERPRET=1, which Triton reads when it is imported.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch

from psa_pose.attention import fused, make_attention

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LAST, FIRST = torch.channels_last, torch.contiguous_format
# Channels, height, width, batch; dtype; layouts of the feature and of the gradient; numbers of a tile.
CASES: dict[str, tuple[tuple[int, int, int, int], torch.dtype, Any, Any, int]] = {
    "one position": ((16, 1, 1, 1), torch.float32, FIRST, FIRST, 16384),
    "odd channels": ((7, 5, 9, 2), torch.float32, FIRST, LAST, 256),
    "one part": ((48, 8, 6, 3), torch.float32, LAST, LAST, 16384),
    "more parts than are read at once": ((16, 12, 23, 1), torch.float32, FIRST, FIRST, 256),
    "more images than are read at once": ((16, 2, 3, 18), torch.float32, LAST, FIRST, 1024),
    "shared products": ((144, 6, 7, 1), torch.float32, LAST, LAST, 8192),
    "bf16": ((48, 8, 6, 2), torch.bfloat16, LAST, LAST, 1024),
    "fp16": ((48, 8, 6, 2), torch.float16, FIRST, FIRST, 1024),
    "widest": ((fused.WIDEST, 5, 4, 2), torch.float32, LAST, LAST, 16384),
    "a large picture": ((16, 26, 40, 2), torch.float32, FIRST, LAST, 256),
}


def differences(name: str) -> dict[str, float]:
    """Of the output and every gradient, in units of the largest value."""
    (channels, height, width, batch), dtype, layout, gradient_layout, fused.TILE = CASES[name]
    fused.TILE_BACK = fused.TILE // 2
    torch.manual_seed(0)
    written = make_attention("psa_p", channels, direct=True).double().to(DEVICE)
    x, gradient = torch.randn(2, batch, channels, height, width, device=DEVICE).to(dtype)
    # Wide features make the softmax pick one position, and its gradient smaller than rounding is.
    x = (x * 4 / channels**0.5).contiguous(memory_format=layout).requires_grad_()
    gradient = gradient.contiguous(memory_format=gradient_layout)
    weights = {key: p.detach().float().requires_grad_() for key, p in written.named_parameters()}
    channel = [weights[f"channel.{part}.weight"] for part in ("query", "value", "expand")]
    spatial = [weights[f"spatial.{part}.weight"] for part in ("query", "value")]
    output = fused.fused_psa_p(x, channel, spatial)
    assert (output.shape, output.dtype) == (x.shape, x.dtype)
    assert output.is_contiguous(memory_format=layout)
    found = [output, *torch.autograd.grad(output, [x, *weights.values()], gradient)]
    exact = x.detach().double().requires_grad_()
    expected = written(exact)
    expected = [expected, *torch.autograd.grad(expected, [exact, *written.parameters()], gradient.double())]
    names = ["output", "input", *weights]
    return {key: relative(*pair) for key, *pair in zip(names, found, expected, strict=True)}


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    # Of a single position both softmaxes are 1 whatever their logits are: what is left is rounding.
    scale = expected.abs().max().clamp_min(1e-3)
    return ((found.double() - expected).abs().max() / scale).item()


class Watch:
    """Counts what programs of one launch would race for: addresses that one writes and any reads, or writes too."""

    def __init__(self) -> None:
        from triton.runtime import interpreter

        self.launches, self.races, self.read, self.written = 0, 0, [], []
        builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
        load, store, launch = builder.create_masked_load, builder.create_masked_store, executor.__call__

        def loading(own: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
            self.read.append(np.unique(pointers.data[mask.data]))
            return load(own, pointers, mask, *rest)

        def storing(own: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
            self.written.append(pointers.data[mask.data].ravel())
            return store(own, pointers, value, mask, *rest)

        def launching(own: Any, *args: Any, **named: Any) -> Any:
            self.read, self.written = [], []
            launch(own, *args, **named)
            read, written = np.concatenate(self.read), np.concatenate(self.written)
            assert min(read.size, written.size) > 0, "the interpreter shows no reads and writes"
            self.launches += 1
            self.races += written.size - np.unique(written).size + np.intersect1d(read, written).size

        builder.create_masked_load, builder.create_masked_store, executor.__call__ = loading, storing, launching


def repeated(times: int) -> bool:
    """On a GPU: whether output and gradients of a feature of HRNet's size are the same to the bit every time."""
    torch.manual_seed(0)
    block = make_attention("psa_p", 48).to(DEVICE)
    x = torch.randn(16, 48, 96, 72, device=DEVICE).contiguous(memory_format=LAST).requires_grad_()
    gradient = torch.randn_like(x)
    first: list[torch.Tensor] = []
    for _ in range(times):
        output = block(x)
        found = [output, *torch.autograd.grad(output, [x, *block.parameters()], gradient)]
        first = first or found
        if not all(map(torch.equal, found, first)):
            return False
    return True


def main(names: list[str]) -> None:
    watch = None if DEVICE.type == "cuda" else Watch()
    for name in names:
        print(json.dumps({"case": name, "differences": differences(name)}), flush=True)
    if watch is None:
        print(json.dumps({"repeated": repeated(30)}))
    else:
        print(json.dumps({"launches": watch.launches, "races": int(watch.races)}))


if __name__ == "__main__":
    main(sys.argv[1:])
