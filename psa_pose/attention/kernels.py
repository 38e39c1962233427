"""Triton kernels of psa_p, see fused.py: five passes over the feature, and what lies between them for each image.

x (B, C, N) in any layout is seen through its three strides: sb, sc, sn. A pass has one program for each image and each of
S parts of BLOCK_N positions. What it sums over positions it writes for its part, (B, S, C) or (B, S), and the next kernel
adds the parts. In the same way a product with weights (C / 2, C) is shared out to P programs, (B, P, C). BLOCK_C is at
least C. Sums are in float32, and their order is always the same.

A kernel never writes where it reads: a program's warps do not wait for each other.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Read at once where parts or images are added; at least 16, because some are added by tl.dot.
ROWS = tl.constexpr(16)


@triton.jit
def _part(N, BLOCK_N: tl.constexpr):
    """Image, part, the part's positions and which of them are there."""
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    return tl.program_id(0).to(tl.int64), tl.program_id(1), n, n < N


@triton.jit
def _tile(x, image, n, c, N, C, sb, sc, sn):
    """(BLOCK_N, BLOCK_C) of an image's feature, 0 outside."""
    inside = (n[:, None] < N) & (c[None, :] < C)
    return tl.load(x + image * sb + n[:, None] * sn + c[None, :] * sc, mask=inside, other=0).to(tl.float32)


@triton.jit
def _store_tile(x, tile, image, n, c, N, C, sb, sc, sn):
    inside = (n[:, None] < N) & (c[None, :] < C)
    tl.store(x + image * sb + n[:, None] * sn + c[None, :] * sc, tile.to(x.dtype.element_ty), mask=inside)


@triton.jit
def _row(of, row, c, C):
    """A row (C)."""
    return tl.load(of + row * C + c, mask=c < C, other=0)


@triton.jit
def _added(parts, image, count, c, C, BLOCK_C: tl.constexpr):
    """The sum of an image's parts (count, C)."""
    total = tl.zeros([BLOCK_C], tl.float32)
    for start in range(0, count, ROWS):
        s = start + tl.arange(0, ROWS)
        inside = (s[:, None] < count) & (c[None, :] < C)
        total += tl.sum(tl.load(parts + (image * count + s[:, None]) * C + c[None, :], mask=inside, other=0), 0)
    return total


@triton.jit
def _few_added(parts, image, c, C, P: tl.constexpr):
    """The same of few parts."""
    total = _row(parts, image * P, c, C)
    for part in tl.static_range(1, P):
        total += _row(parts, image * P + part, c, C)
    return total


@triton.jit
def _log_sum(tops, sums, image, S):
    """The logarithm of a softmax's denominator, from the parts' largest logits and sums of exponentials."""
    top = -float("inf")
    total = 0.0
    for start in range(0, S, 64):
        s = start + tl.arange(0, 64)
        high = tl.load(tops + image * S + s, mask=s < S, other=-float("inf"))
        part = tl.load(sums + image * S + s, mask=s < S, other=0)
        higher = tl.maximum(top, tl.max(high, 0))
        total = total * tl.exp(top - higher) + tl.sum(part * tl.exp(high - higher), 0)
        top = higher
    return top + tl.log(total)


@triton.jit
def _share(logits, log_sum, image, n, there, N):
    """softmax of an image's logits at positions; 0 outside."""
    return tl.exp(tl.load(logits + image * N + n, mask=there, other=-float("inf")) - log_sum)


@triton.jit
def _through(
    first, fj, fc, vector, second, sj, sc, kept, c, C, P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_J: tl.constexpr
):
    """This program's part of second . (first . vector): (C), by way of (C / 2), which is kept.

    first, second: weights, seen as (C / 2, C) through their strides.
    """
    answer = tl.zeros([BLOCK_C], tl.float32)
    own = tl.cdiv(C // 2, P)
    begin = tl.program_id(2) * own
    end = tl.minimum(begin + own, C // 2)
    for start in range(begin, end, BLOCK_J):
        j = start + tl.arange(0, BLOCK_J)
        inside = (j[:, None] < end) & (c[None, :] < C)
        before = tl.load(first + j[:, None] * fj + c[None, :] * fc, mask=inside, other=0)
        behind = tl.load(second + j[:, None] * sj + c[None, :] * sc, mask=inside, other=0)
        half = tl.sum(before * vector[None, :], 1)
        tl.store(kept + j, half, mask=j < end)
        answer += tl.sum(behind * half[:, None], 0)
    return answer


@triton.jit(do_not_specialize=["S"])
def pool(
    x, query, logits, tops, sums, contexts, totals, sb, sc, sn, C, N, S, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr
):
    """The channel gate's logits query . x_n; of a part: x summed with weights exp(logit - the part's largest), and x summed."""
    image, part, n, there = _part(N, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    tile = _tile(x, image, n, c, N, C, sb, sc, sn)
    logit = tl.sum(tile * _row(query, 0, c, C)[None, :], 1)
    tl.store(logits + image * N + n, logit, mask=there)
    logit = tl.where(there, logit, -float("inf"))
    top = tl.max(logit, 0)
    weight = tl.exp(logit - top)
    row = image * S + part
    tl.store(tops + row, top)
    tl.store(sums + row, tl.sum(weight, 0))
    tl.store(contexts + row * C + c, tl.sum(tile * weight[:, None], 0), mask=c < C)
    tl.store(totals + row * C + c, tl.sum(tile, 0), mask=c < C)


@triton.jit(do_not_specialize=["B", "S"])
def gates(
    tops, sums, contexts, totals, value, expand, query, key_value, log_sums, inner, outer, channels, keys,
    B, C, N, S, P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_J: tl.constexpr,
):  # fmt: skip
    """The channel gate's logits (B, P, C), in parts, and what the spatial gate multiplies x with, `keys` (B, P, C).

    value, query, key_value: (C / 2, C); expand: (C, C / 2). inner (2, B, C / 2): value . context and query . mean. outer
    (2, B, C): context and mean.
    """
    image, part = tl.program_id(0).to(tl.int64), tl.program_id(2)
    c = tl.arange(0, BLOCK_C)
    half = C // 2
    if tl.program_id(1) == 0:
        log_sum = _log_sum(tops, sums, image, S)
        context = tl.zeros([BLOCK_C], tl.float32)
        for start in range(0, S, ROWS):
            s = start + tl.arange(0, ROWS)
            weight = tl.exp(tl.load(tops + image * S + s, mask=s < S, other=-float("inf")) - log_sum)
            inside = (s[:, None] < S) & (c[None, :] < C)
            row = tl.load(contexts + (image * S + s[:, None]) * C + c[None, :], mask=inside, other=0)
            context += tl.sum(row * weight[:, None], 0)
        if part == 0:
            tl.store(log_sums + image, log_sum)
            tl.store(outer + image * C + c, context, mask=c < C)
        row = inner + image * half
        answer = _through(value, C, 1, context, expand, 1, half, row, c, C, P, BLOCK_C, BLOCK_J)
        tl.store(channels + (image * P + part) * C + c, answer, mask=c < C)
    else:
        mean = _added(totals, image, S, c, C, BLOCK_C) / N
        if part == 0:
            tl.store(outer + (B + image) * C + c, mean, mask=c < C)
        row = inner + (B + image) * half
        answer = _through(query, C, 1, mean, key_value, C, 1, row, c, C, P, BLOCK_C, BLOCK_J)
        tl.store(keys + (image * P + part) * C + c, answer, mask=c < C)


@triton.jit(do_not_specialize=["S"])
def look(
    x, keys, logits, tops, sums, sb, sc, sn, C, N, S, P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr
):
    """The spatial gate's logits key . x_n, and of a part the largest and the sum of exponentials."""
    image, part, n, there = _part(N, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    tile = _tile(x, image, n, c, N, C, sb, sc, sn)
    logit = tl.sum(tile * _few_added(keys, image, c, C, P)[None, :], 1)
    tl.store(logits + image * N + n, logit, mask=there)
    logit = tl.where(there, logit, -float("inf"))
    top = tl.max(logit, 0)
    tl.store(tops + image * S + part, top)
    tl.store(sums + image * S + part, tl.sum(tl.exp(logit - top), 0))


@triton.jit(do_not_specialize=["B", "S"])
def scale(
    x, y, channels, logits, tops, sums, log_sums,
    B, sb, sc, sn, yb, yc, yn, C, N, S, P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """y = x (sigmoid(channels) + sigmoid(softmax(logits))). log_sums (2, B): of the channel gate's softmax and of this."""
    image, part, n, there = _part(N, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    tile = _tile(x, image, n, c, N, C, sb, sc, sn)
    log_sum = _log_sum(tops, sums, image, S)
    if part == 0:
        tl.store(log_sums + B + image, log_sum)
    channel = tl.sigmoid(_few_added(channels, image, c, C, P))
    spatial = tl.sigmoid(_share(logits, log_sum, image, n, there, N))
    _store_tile(y, tile * (channel[None, :] + spatial[:, None]), image, n, c, N, C, yb, yc, yn)


@triton.jit(do_not_specialize=["B", "S"])
def slopes(
    x, gradient, logits, log_sums, slope, dots, for_channel, sloped, shared,
    B, sb, sc, sn, gb, gc, gn, C, N, S, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradients of the gates, as sums of x * gradient: the channel gate's, and `slope` (B, N), that of the spatial softmax.

    With w, the softmax: dots is the sum of w slope, sloped (B, S, C) that of w slope x, and shared that of w x.
    """
    image, part, n, there = _part(N, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    tile = _tile(x, image, n, c, N, C, sb, sc, sn)
    product = tile * _tile(gradient, image, n, c, N, C, gb, gc, gn)
    weight = _share(logits, tl.load(log_sums + B + image), image, n, there, N)
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

    inner_slopes (2, B, C / 2): of what `gates` keeps as inner. outer_slopes (2, B, C): of the channel gate's logits and of
    the key. totals (B): the sum of dots.
    """
    image, part = tl.program_id(0).to(tl.int64), tl.program_id(2)
    c = tl.arange(0, BLOCK_C)
    half = C // 2
    if tl.program_id(1) == 0:
        gate = tl.sigmoid(_few_added(channels, image, c, C, P))
        gradient = _added(for_channel, image, S, c, C, BLOCK_C) * gate * (1 - gate)
        if part == 0:
            tl.store(outer_slopes + image * C + c, gradient, mask=c < C)
        row = inner_slopes + image * half
        answer = _through(expand, 1, half, gradient, value, C, 1, row, c, C, P, BLOCK_C, BLOCK_J)
        tl.store(contexts + (image * P + part) * C + c, answer, mask=c < C)
    else:
        total = 0.0
        for start in range(0, S, 64):
            s = start + tl.arange(0, 64)
            total += tl.sum(tl.load(dots + image * S + s, mask=s < S, other=0), 0)
        gradient = _added(sloped, image, S, c, C, BLOCK_C) - total * _added(shared, image, S, c, C, BLOCK_C)
        if part == 0:
            tl.store(totals + image, total)
            tl.store(outer_slopes + (B + image) * C + c, gradient, mask=c < C)
        row = inner_slopes + (B + image) * half
        answer = _through(key_value, C, 1, gradient, query, C, 1, row, c, C, P, BLOCK_C, BLOCK_J)
        tl.store(means + (image * P + part) * C + c, answer, mask=c < C)


@triton.jit(do_not_specialize=["B", "S"])
def scale_back(
    x, gradient, answer, channels, keys, query, outer, contexts, means,
    query_logits, logits, log_sums, slope, totals, queries,
    B, sb, sc, sn, gb, gc, gn, ab, ac, an, C, N, S, P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """The gradient of x: through the product, both gates' logits, the context and the mean. queries (B, S, C): of query."""
    image, part, n, there = _part(N, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    tile = _tile(x, image, n, c, N, C, sb, sc, sn)
    onward = _tile(gradient, image, n, c, N, C, gb, gc, gn)
    weight = _share(logits, tl.load(log_sums + B + image), image, n, there, N)
    channel = tl.sigmoid(_few_added(channels, image, c, C, P))
    onward *= channel[None, :] + tl.sigmoid(weight)[:, None]
    for_key = weight * (tl.load(slope + image * N + n, mask=there, other=0) - tl.load(totals + image))
    onward += for_key[:, None] * _few_added(keys, image, c, C, P)[None, :]
    context = _few_added(contexts, image, c, C, P)
    attention = _share(query_logits, tl.load(log_sums + image), image, n, there, N)
    beyond = tl.sum(context * _row(outer, image, c, C), 0)
    for_query = attention * (tl.sum(tile * context[None, :], 1) - beyond)
    onward += for_query[:, None] * _row(query, 0, c, C)[None, :]
    onward += attention[:, None] * context[None, :]
    onward += (_few_added(means, image, c, C, P) / N)[None, :]
    _store_tile(answer, onward, image, n, c, N, C, ab, ac, an)
    tl.store(queries + (image * S + part) * C + c, tl.sum(tile * for_query[:, None], 0), mask=c < C)


@triton.jit(do_not_specialize=["B", "S"])
def weights_back(
    inner, outer, inner_slopes, outer_slopes, queries, weights, query, B, C, S, BLOCK_C: tl.constexpr, BLOCK_J: tl.constexpr
):
    """Gradients of value, expand (C, C / 2), query and key_value, (C / 2, C) each, and of the channel gate's query (C)."""
    half = C // 2
    which = tl.program_id(1)
    if which == 4:
        own = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        whole = tl.zeros([ROWS], tl.float32)
        for start in range(0, B * S, 128):
            row = start + tl.arange(0, 128)
            inside = (row[:, None] < B * S) & (own[None, :] < C)
            whole += tl.sum(tl.load(queries + row[:, None] * C + own[None, :], mask=inside, other=0), 0)
        tl.store(query + own, whole, mask=own < C)
    else:
        c = tl.arange(0, BLOCK_C)
        j = tl.program_id(0) * BLOCK_J + tl.arange(0, BLOCK_J)
        gate = which // 2 * B
        total = tl.zeros([BLOCK_J, BLOCK_C], tl.float32)
        for start in range(0, B, ROWS):
            b = start + tl.arange(0, ROWS)
            at_j = (gate + b[None, :]) * half + j[:, None]
            at_c = (gate + b[:, None]) * C + c[None, :]
            inside_j, inside_c = (b[None, :] < B) & (j[:, None] < half), (b[:, None] < B) & (c[None, :] < C)
            if which % 2 == 0:
                left = tl.load(inner_slopes + at_j, mask=inside_j, other=0)
                right = tl.load(outer + at_c, mask=inside_c, other=0)
            else:
                left = tl.load(inner + at_j, mask=inside_j, other=0)
                right = tl.load(outer_slopes + at_c, mask=inside_c, other=0)
            total += tl.dot(left, right, input_precision="ieee")
        s_j = tl.where(which == 1, 1, C)
        s_c = tl.where(which == 1, half, 1)
        at = weights + which * half * C + j[:, None] * s_j + c[None, :] * s_c
        tl.store(at, total, mask=(j[:, None] < half) & (c[None, :] < C))
