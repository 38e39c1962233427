"""Triton kernels of psa_p's forward pass, see fused.py, and the parts that those of its gradient share with them.

x (B, C, N) in any layout is seen through its three strides: sb, sc, sn. A pass has one program for each image and each
of S parts of BLOCK_N positions. What it sums over positions it writes for its part, (B, S, C) or (B, S), and the next
kernel adds the parts. In the same way a product with weights (C / 2, C) is shared out to P programs, (B, P, C). BLOCK_C
is at least C. Sums are in float32, and their order is always the same.

No kernel reads what it writes: neither programs nor a program's warps wait for each other.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Read at once where parts or images are added; at least 16, because some are added by tl.dot.
ROWS = tl.constexpr(16)


@triton.jit
def part_of(N, BLOCK_N: tl.constexpr):
    """Image, part, the part's positions and which of them are there."""
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    return tl.program_id(0).to(tl.int64), tl.program_id(1), n, n < N


@triton.jit
def load_tile(x, image, n, c, N, C, sb, sc, sn):
    """(BLOCK_N, BLOCK_C) of an image's feature, 0 outside."""
    inside = (n[:, None] < N) & (c[None, :] < C)
    return tl.load(x + image * sb + n[:, None] * sn + c[None, :] * sc, mask=inside, other=0).to(tl.float32)


@triton.jit
def store_tile(x, tile, image, n, c, N, C, sb, sc, sn):
    inside = (n[:, None] < N) & (c[None, :] < C)
    tl.store(x + image * sb + n[:, None] * sn + c[None, :] * sc, tile.to(x.dtype.element_ty), mask=inside)


@triton.jit
def load_row(of, row, c, C):
    """A row (C)."""
    return tl.load(of + row * C + c, mask=c < C, other=0)


@triton.jit
def load_rows(of, row, there, c, C):
    """Rows (C); 0 for those that are not there."""
    return tl.load(of + row[:, None] * C + c[None, :], mask=there[:, None] & (c[None, :] < C), other=0)


@triton.jit
def added(parts, image, count, c, C, BLOCK_C: tl.constexpr):
    """The sum of an image's parts (count, C)."""
    total = tl.zeros([BLOCK_C], tl.float32)
    for start in range(0, count, ROWS):
        s = start + tl.arange(0, ROWS)
        total += tl.sum(load_rows(parts, image * count + s, s < count, c, C), 0)
    return total


@triton.jit
def few_added(parts, image, c, C, P: tl.constexpr):
    """The same of few parts."""
    total = load_row(parts, image * P, c, C)
    for part in tl.static_range(1, P):
        total += load_row(parts, image * P + part, c, C)
    return total


@triton.jit
def log_sum_of(tops, sums, image, S):
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
def share_of(logits, log_sum, image, n, there, N):
    """softmax of an image's logits at positions; 0 outside."""
    return tl.exp(tl.load(logits + image * N + n, mask=there, other=-float("inf")) - log_sum)


@triton.jit
def through(
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
    """The channel gate's logits query . x_n. Of a part: the sums of x, and of x weighted by exp(logit - largest)."""
    image, part, n, there = part_of(N, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    tile = load_tile(x, image, n, c, N, C, sb, sc, sn)
    logit = tl.sum(tile * load_row(query, 0, c, C)[None, :], 1)
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

    value, query, key_value: (C / 2, C); expand: (C, C / 2). outer (2, B, C): context and mean. inner (2, B, C / 2):
    value . context and query . mean.
    """
    image, part = tl.program_id(0).to(tl.int64), tl.program_id(2)
    c = tl.arange(0, BLOCK_C)
    half = C // 2
    if tl.program_id(1) == 0:
        log_sum = log_sum_of(tops, sums, image, S)
        context = tl.zeros([BLOCK_C], tl.float32)
        for start in range(0, S, ROWS):
            s = start + tl.arange(0, ROWS)
            weight = tl.exp(tl.load(tops + image * S + s, mask=s < S, other=-float("inf")) - log_sum)
            context += tl.sum(load_rows(contexts, image * S + s, s < S, c, C) * weight[:, None], 0)
        if part == 0:
            tl.store(log_sums + image, log_sum)
            tl.store(outer + image * C + c, context, mask=c < C)
        row = inner + image * half
        answer = through(value, C, 1, context, expand, 1, half, row, c, C, P, BLOCK_C, BLOCK_J)
        tl.store(channels + (image * P + part) * C + c, answer, mask=c < C)
    else:
        mean = added(totals, image, S, c, C, BLOCK_C) / N
        if part == 0:
            tl.store(outer + (B + image) * C + c, mean, mask=c < C)
        row = inner + (B + image) * half
        answer = through(query, C, 1, mean, key_value, C, 1, row, c, C, P, BLOCK_C, BLOCK_J)
        tl.store(keys + (image * P + part) * C + c, answer, mask=c < C)


@triton.jit(do_not_specialize=["S"])
def look(
    x, keys, logits, tops, sums, sb, sc, sn, C, N, S, P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr
):
    """The spatial gate's logits key . x_n, and of a part the largest and the sum of exponentials."""
    image, part, n, there = part_of(N, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    tile = load_tile(x, image, n, c, N, C, sb, sc, sn)
    logit = tl.sum(tile * few_added(keys, image, c, C, P)[None, :], 1)
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
    """y = x (sigmoid(channels) + sigmoid(softmax(logits))). log_sums (2, B): of both gates' softmaxes."""
    image, part, n, there = part_of(N, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    tile = load_tile(x, image, n, c, N, C, sb, sc, sn)
    log_sum = log_sum_of(tops, sums, image, S)
    if part == 0:
        tl.store(log_sums + B + image, log_sum)
    channel = tl.sigmoid(few_added(channels, image, c, C, P))
    spatial = tl.sigmoid(share_of(logits, log_sum, image, n, there, N))
    store_tile(y, tile * (channel[None, :] + spatial[:, None]), image, n, c, N, C, yb, yc, yn)
