"""psa_p on a GPU in few passes: Eq. 2, 3 and 4 re-associated, as Triton kernels, and their gradient.

Forward there are four kernels and backward four, where PyTorch's operators take 47. The feature is read three times and
written once; backward it and the gradient are read twice, and the answer is written once. What lies between is kept in
float32, whatever the precision of the feature.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from psa_pose.device import no_triton

# Numbers of a tile: of passes over one feature, and over it and a gradient.
TILE, TILE_BACK = 16384, 8192
# A tile of 16 positions and all channels has to stay in a GPU's registers.
WIDEST = 512
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def can_fuse(x: Tensor) -> bool:
    """Whether `fused_psa_p` takes x (B, C, H, W), and nobody wants its operators, as a compiler or an export does."""
    if not x.is_cuda or type(x) is not Tensor or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return x.shape[1] <= WIDEST and x.dtype in DTYPES and not no_triton(x.device)


def fused_psa_p(x: Tensor, channel: tuple[Tensor, Tensor, Tensor], spatial: tuple[Tensor, Tensor]) -> Tensor:
    """x (B, C, H, W) of any layout on a GPU -> the same shape, dtype and layout.

    channel: the weights of its gate's query (1, C, 1, 1), value (C/2, C, 1, 1) and expand (C, C/2, 1, 1), float32.
    spatial: of query and value, (C/2, C, 1, 1) each.
    """
    weights = [weight.contiguous() for weight in (*channel, *spatial)]
    # Triton launches on the current GPU, which need not be that of x.
    with torch.cuda.device_of(x):
        return _Fused.apply(x.flatten(2), *weights).view(x.shape)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, query: Tensor, value: Tensor, expand: Tensor, *spatial: Tensor) -> Tensor:
        # Imported where they run: Triton is no requirement.
        from psa_pose.attention import kernels

        batch, channels, n = x.shape
        tile, row = _tile(x, TILE), _row(x)
        parts, shares = _divided(n, tile["BLOCK_N"]), row["P"]
        logits = x.new_empty((2, batch, n), dtype=torch.float32)
        tops, sums = x.new_empty((2, 2, batch, parts), dtype=torch.float32)
        contexts, totals = x.new_empty((2, batch, parts, channels), dtype=torch.float32)
        inner = x.new_empty((2, batch, channels // 2), dtype=torch.float32)
        outer = x.new_empty((2, batch, channels), dtype=torch.float32)
        gates = x.new_empty((2, batch, shares, channels), dtype=torch.float32)
        log_sums = x.new_empty((2, batch), dtype=torch.float32)
        answer = torch.empty_like(x)
        grid, sizes = (batch, parts), (channels, n, parts)
        kernels.pool[grid](x, query, logits, tops, sums, contexts, totals, *x.stride(), *sizes, **tile)
        kernels.gates[batch, 2, shares](
            tops, sums, contexts, totals, value, expand, *spatial, log_sums, inner, outer, *gates, batch, *sizes, **row
        )
        kernels.look[grid](x, gates[1], logits[1], tops[1], sums[1], *x.stride(), *sizes, P=shares, **tile)
        kernels.scale[grid](
            x, answer, gates[0], logits[1], tops[1], sums[1], log_sums,
            batch, *x.stride(), *answer.stride(), *sizes, P=shares, **tile,
        )  # fmt: skip
        ctx.save_for_backward(x, query, value, expand, *spatial, logits, inner, outer, gates, log_sums)
        return answer

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        from psa_pose.attention import kernels_back

        x, query, value, expand, spatial_query, spatial_value, logits, inner, outer, gates, log_sums = ctx.saved_tensors
        batch, channels, n = x.shape
        tile, row = _tile(x, TILE_BACK), _row(x)
        parts, shares = _divided(n, tile["BLOCK_N"]), row["P"]
        slope = x.new_empty((batch, n), dtype=torch.float32)
        dots = x.new_empty((batch, parts), dtype=torch.float32)
        for_channel, sloped, shared = x.new_empty((3, batch, parts, channels), dtype=torch.float32)
        inner_slopes, outer_slopes, gates_slopes = map(torch.empty_like, (inner, outer, gates))
        totals = x.new_empty((batch,), dtype=torch.float32)
        weights = x.new_empty((4, channels // 2 * channels), dtype=torch.float32)
        answer, query_slope = torch.empty_like(x), torch.empty_like(query)
        grid, sizes, strides = (batch, parts), (channels, n, parts), (*x.stride(), *gradient.stride())
        kernels_back.slopes[grid](
            x, gradient, logits[1], log_sums, slope, dots, for_channel, sloped, shared, batch, *strides, *sizes, **tile
        )
        kernels_back.gates_back[batch, 2, shares](
            for_channel, sloped, shared, dots, gates[0], value, expand, spatial_query, spatial_value,
            totals, inner_slopes, outer_slopes, *gates_slopes, batch, channels, parts, **row,
        )  # fmt: skip
        # What slopes are summed from is used: its first part takes those of the query.
        kernels_back.scale_back[grid](
            x, gradient, answer, *gates, query, outer, *gates_slopes, *logits, log_sums, slope, totals, for_channel,
            batch, *strides, *answer.stride(), *sizes, P=shares, **tile,
        )  # fmt: skip
        blocks = max(_divided(channels // 2, row["BLOCK_J"]), _divided(channels, 16))
        kernels_back.weights_back[blocks, 5](
            inner, outer, inner_slopes, outer_slopes, for_channel, weights, query_slope, batch, channels, parts,
            BLOCK_C=row["BLOCK_C"], BLOCK_J=row["BLOCK_J"], num_warps=row["num_warps"],
        )  # fmt: skip
        like = (value, expand, spatial_query, spatial_value)
        return answer, query_slope, *(w.view(of.shape) for w, of in zip(weights, like, strict=True))


def _tile(x: Tensor, numbers: int) -> dict[str, int]:
    """Constants of a pass over x (B, C, N): all channels, and as many positions as `numbers` leaves, at least 16."""
    wide = _wide(x)
    return {"BLOCK_N": max(numbers // wide, 16), "BLOCK_C": wide, "num_warps": 4}


def _row(x: Tensor) -> dict[str, int]:
    """Constants of what is done for each image: P programs for each product with weights."""
    wide = _wide(x)
    return {"P": max(1, min(4, wide // 64)), "BLOCK_C": wide, "BLOCK_J": max(16, min(32, 4096 // wide)), "num_warps": 8}


def _wide(x: Tensor) -> int:
    """The power of two that holds the channels."""
    return max(1 << (x.shape[1] - 1).bit_length(), 16)


def _divided(whole: int, by: int) -> int:
    """The number of blocks, the last of which may be smaller."""
    return -(-whole // by)
