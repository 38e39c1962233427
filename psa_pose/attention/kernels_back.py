"""Triton kernels of psa_p's gradient; kernels.py says how they are shared out."""

from __future__ import annotations

import triton
import triton.language as tl

from psa_pose.attention.kernels import (
    ROWS,
    added,
    few_added,
    load_row,
    load_rows,
    load_tile,
    part_of,
    share_of,
    store_tile,
    through,
)


@triton.jit(do_not_specialize=["B", "S"])
def slopes(
    x, gradient, logits, log_sums, slope, dots, for_channel, sloped, shared,
    B, sb, sc, sn, gb, gc, gn, C, N, S, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradients of the gates: for_channel (B, S, C), the channel gate's; slope (B, N), that of the spatial softmax w.

    dots (B, S) is the sum of w slope, sloped (B, S, C) that of w slope x, and shared that of w x.
    """
    image, part, n, there = part_of(N, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    tile = load_tile(x, image, n, c, N, C, sb, sc, sn)
    product = tile * load_tile(gradient, image, n, c, N, C, gb, gc, gn)
    weight = share_of(logits, tl.load(log_sums + B + image), image, n, there, N)
    gate = tl.sigmoid(weight)
    along = tl.sum(product, 1) * gate * (1 - gate)
    tl.store(slope + image * N + n, along, mask=there)
    row = image * S + part
    tl.store(dots + row, tl.sum(along * weight, 0))
    tl.store(for_channel + row * C + c, tl.sum(product, 0), mask=c < C)
    tl.store(sloped + row * C + c, tl.sum(tile * (along * weight)[:, None], 0), mask=c < C)
    tl.store(shared + row * C + c, tl.sum(tile * weight[:, None], 0), mask=c < C)


@triton.jit(do_not_specialize=["B", "S"])
def gates_back(
    for_channel, sloped, shared, dots, channels, value, expand, query, key_value,
    totals, inner_slopes, outer_slopes, contexts, means,
    B, C, S, P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_J: tl.constexpr,
):  # fmt: skip
    """Back through both gates: gradients of context and mean, in parts (B, P, C).

    inner_slopes (2, B, C / 2): of what `gates` keeps as inner. outer_slopes (2, B, C): of the channel gate's logits and
    of the key. totals (B): the sum of dots.
    """
    image, part = tl.program_id(0).to(tl.int64), tl.program_id(2)
    c = tl.arange(0, BLOCK_C)
    half = C // 2
    if tl.program_id(1) == 0:
        gate = tl.sigmoid(few_added(channels, image, c, C, P))
        gradient = added(for_channel, image, S, c, C, BLOCK_C) * gate * (1 - gate)
        if part == 0:
            tl.store(outer_slopes + image * C + c, gradient, mask=c < C)
        row = inner_slopes + image * half
        answer = through(expand, 1, half, gradient, value, C, 1, row, c, C, P, BLOCK_C, BLOCK_J)
        tl.store(contexts + (image * P + part) * C + c, answer, mask=c < C)
    else:
        total = 0.0
        for start in range(0, S, 64):
            s = start + tl.arange(0, 64)
            total += tl.sum(tl.load(dots + image * S + s, mask=s < S, other=0), 0)
        gradient = added(sloped, image, S, c, C, BLOCK_C) - total * added(shared, image, S, c, C, BLOCK_C)
        if part == 0:
            tl.store(totals + image, total)
            tl.store(outer_slopes + (B + image) * C + c, gradient, mask=c < C)
        row = inner_slopes + (B + image) * half
        answer = through(key_value, C, 1, gradient, query, C, 1, row, c, C, P, BLOCK_C, BLOCK_J)
        tl.store(means + (image * P + part) * C + c, answer, mask=c < C)


@triton.jit(do_not_specialize=["B", "S"])
def scale_back(
    x, gradient, answer, channels, keys, query, outer, contexts, means,
    query_logits, logits, log_sums, slope, totals, queries,
    B, sb, sc, sn, gb, gc, gn, ab, ac, an, C, N, S, P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """answer: the gradient of x, by way of the product, both gates' logits, the context and the mean.

    queries (B, S, C): the gradient of query.
    """
    image, part, n, there = part_of(N, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    tile = load_tile(x, image, n, c, N, C, sb, sc, sn)
    onward = load_tile(gradient, image, n, c, N, C, gb, gc, gn)
    weight = share_of(logits, tl.load(log_sums + B + image), image, n, there, N)
    channel = tl.sigmoid(few_added(channels, image, c, C, P))
    onward *= channel[None, :] + tl.sigmoid(weight)[:, None]
    for_key = weight * (tl.load(slope + image * N + n, mask=there, other=0) - tl.load(totals + image))
    onward += for_key[:, None] * few_added(keys, image, c, C, P)[None, :]
    context = few_added(contexts, image, c, C, P)
    attention = share_of(query_logits, tl.load(log_sums + image), image, n, there, N)
    beyond = tl.sum(context * load_row(outer, image, c, C), 0)
    for_query = attention * (tl.sum(tile * context[None, :], 1) - beyond)
    onward += for_query[:, None] * load_row(query, 0, c, C)[None, :]
    onward += attention[:, None] * context[None, :]
    onward += (few_added(means, image, c, C, P) / N)[None, :]
    store_tile(answer, onward, image, n, c, N, C, ab, ac, an)
    tl.store(queries + (image * S + part) * C + c, tl.sum(tile * for_query[:, None], 0), mask=c < C)


@triton.jit(do_not_specialize=["B", "S"])
def weights_back(
    inner, outer, inner_slopes, outer_slopes, queries, weights, query,
    B, C, S, BLOCK_C: tl.constexpr, BLOCK_J: tl.constexpr,
):  # fmt: skip
    """Gradients of value, expand (C, C / 2), query and key_value, (C / 2, C) each, and the channel gate's query (C)."""
    half = C // 2
    which = tl.program_id(1)
    if which == 4:
        own = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        whole = tl.zeros([ROWS], tl.float32)
        for start in range(0, B * S, 128):
            row = start + tl.arange(0, 128)
            whole += tl.sum(load_rows(queries, row, row < B * S, own, C), 0)
        tl.store(query + own, whole, mask=own < C)
    else:
        c = tl.arange(0, BLOCK_C)
        j = tl.program_id(0) * BLOCK_J + tl.arange(0, BLOCK_J)
        total = tl.zeros([BLOCK_J, BLOCK_C], tl.float32)
        for start in range(0, B, ROWS):
            b = start + tl.arange(0, ROWS)
            row = which // 2 * B + b
            if which % 2 == 0:
                left, right = load_rows(inner_slopes, row, b < B, j, half), load_rows(outer, row, b < B, c, C)
            else:
                left, right = load_rows(inner, row, b < B, j, half), load_rows(outer_slopes, row, b < B, c, C)
            total += tl.dot(tl.trans(left), right, input_precision="ieee")
        s_j = tl.where(which == 1, 1, C)
        s_c = tl.where(which == 1, half, 1)
        at = weights + which * half * C + j[:, None] * s_j + c[None, :] * s_c
        tl.store(at, total, mask=(j[:, None] < half) & (c[None, :] < C))
