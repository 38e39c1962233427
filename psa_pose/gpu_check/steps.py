"""A training step by itself: without stops of the host, with few launches, safe in fp16, in one graph."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from psa_pose.benchmark.launches import count_launches
from psa_pose.benchmark.train import StartedRun, start_run
from psa_pose.gpu_check.bench import Bench
from psa_pose.gpu_check.lines import Line, at_most, holds, left_out
from psa_pose.gpu_check.processes.jobs import relative_losses

STEPS, WARM_UP = 20, 3
W32_PSA = "coco/hrnet/hrnet_w32_384x288_psa_p"
W48_PSA = "coco/hrnet/hrnet_w48_384x288_psa_p"
WITHOUT = ("MODEL.ATTENTION.NAME", "none")
GRAPHS = ("GPU.CUDA_GRAPHS", True)
# A GPU's kernels do not add up in the same order twice.
CAPTURED_LIMIT = 1e-3


def start(bench: Bench, stack: ExitStack, config: str, *words: object) -> StartedRun:
    """A run whose batches are made in this process: for steps on few batches."""
    return start_run(bench.config(config, "LOADER.WORKERS", 0, *words), stack)


def sync_lines(bench: Bench) -> Iterator[Line]:
    """Twenty whole steps, with EMA and clipping, in which any synchronisation of the host is an error."""
    ways = {"bf16": (), "fp16": (), "bf16, CUDA graphs": GRAPHS}
    for way, own in ways.items():
        name = f"{STEPS} steps, {way}, EMA and clipping: no synchronisation of the host"
        if not bench.gpu:
            yield left_out(name, "no GPU")
            continue
        words = ["TRAIN.PRECISION", way[:4], "TRAIN.EMA", 0.999, "TRAIN.CLIP_GRAD_NORM", 1.0, *own]
        with ExitStack() as stack:
            started = start(bench, stack, W32_PSA, *words)
            batches = [started.batch() for _ in range(WARM_UP + STEPS)]
            where = first_synchronisation(started, batches)
        yield holds(name, not where, where or "none", "none")


def first_synchronisation(started: StartedRun, batches: Sequence[Any]) -> str:
    """Where the host first waits for the GPU in steps on these batches, after WARM_UP of them; "": nowhere."""
    for batch in batches[:WARM_UP]:
        started.step_on(batch)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[WARM_UP:]:
            started.step_on(batch)
    except RuntimeError as error:
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "psa_pose" in frame.filename]
        return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}: {str(error).splitlines()[0][:120]}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""


def launch_lines(bench: Bench) -> Iterator[Line]:
    """Launches of a whole training step of W48 with psa_p in units of those without."""
    for way, words in {"": (), ", CUDA graphs": GRAPHS}.items():
        name = f"launches per step, W48{way}, psa_p / plain"
        if not bench.gpu:
            yield left_out(name, "no GPU; on a CPU psa_p has no kernels of its own")
            continue
        with ExitStack() as stack:
            counts = [launches(bench, stack, *words, *own) for own in ((), WITHOUT)]
        note = f"{counts[0]:,} against {counts[1]:,} launches that the driver was asked for"
        yield at_most(name, counts[0] / counts[1], 1.5, note=note)


def captured_lines(bench: Bench) -> Iterator[Line]:
    """Losses of steps that CUDA graphs replay against those of steps whose kernels are launched one by one."""
    name = f"{STEPS} steps, fp32, CUDA graphs against launches one by one"
    if not bench.gpu:
        yield left_out(name, "no GPU")
        return
    # Adam divides by the size of gradients: in the first steps it makes every rounding difference a whole step.
    exact = ("GPU.TF32_CONV", False, "GPU.CUDNN_BENCHMARK", False, "TRAIN.OPTIMIZER.NAME", "sgd")
    with ExitStack() as stack:
        plain, graphs = (start(bench, stack, W32_PSA, *exact, *words) for words in ((), GRAPHS))
        batches = [plain.batch() for _ in range(STEPS)]
        for started in (plain, graphs):
            for batch in batches:
                started.step_on(batch)
        found, expected = (torch.stack(started.losses).tolist() for started in (graphs, plain))
    yield at_most(name, relative_losses(found, expected), CAPTURED_LIMIT, note="losses, relative")


def launches(bench: Bench, stack: ExitStack, *words: object) -> int:
    """Launches of a step of W48 with psa_p; they do not depend on the size of crops and batches."""
    started = start(bench, stack, W48_PSA, "INPUT.SIZE", [64, 64], "TRAIN.BATCH_SIZE", 2, *words)
    batch = started.batch()
    return count_launches(lambda: started.step_on(batch), bench.device)


def infinity_lines(bench: Bench) -> Iterator[Line]:
    """An infinite gradient in fp16: its step is skipped, the scale halved, and the next step moves the weights."""
    name = "an infinite gradient in fp16 is skipped"
    if not bench.gpu:
        yield left_out(name, "training in fp16 needs a GPU")
        return
    with ExitStack() as stack:
        started = start(bench, stack, W32_PSA, "TRAIN.PRECISION", "fp16")
        found = after_infinity(started, started.batch())
    yield holds(name, found == "skipped", found, "skipped")


def after_infinity(started: StartedRun, batch: Any) -> str:
    """What became of a step with an infinite gradient: "skipped", or what went wrong."""
    state = started.run.state
    started.step_on(batch)
    weight = next(p for p in state.model.parameters() if p.requires_grad)
    before, scale = [p.detach().clone() for p in state.model.parameters()], state.scaler.get_scale()
    hook = weight.register_hook(lambda gradient: torch.full_like(gradient, float("inf")))
    started.step_on(batch)
    hook.remove()
    if not all(map(torch.equal, before, state.model.parameters())):
        return "weights were changed"
    if state.scaler.get_scale() >= scale:
        return "the scale stayed"
    started.step_on(batch)
    if torch.equal(before[0], next(state.model.parameters())):
        return "the next step was skipped too"
    if not all(p.isfinite().all() for p in state.model.parameters()):
        return "weights are not finite after the next step"
    return "skipped"


def graph_lines(bench: Bench) -> Iterator[Line]:
    """torch.compile takes the network with psa_p as one graph."""
    config = W32_PSA if bench.gpu else "synthetic/quickstart"
    with ExitStack() as stack:
        started = start(bench, stack, config, "TRAIN.BATCH_SIZE", 2)
        breaks, reason = graph_breaks(started)
    yield at_most(f"graph breaks of {config.rpartition('/')[2]}", breaks, 0, note=reason)


def graph_breaks(started: StartedRun) -> tuple[int, str]:
    """How often torch.compile leaves the graph of a training forward pass, and the first reason."""
    task = started.run.task
    images = task.images(task.to_device(started.batch(), started.run.dataset))
    explained = torch._dynamo.explain(started.run.state.model)(images)
    torch._dynamo.reset()
    return explained.graph_break_count, str(explained.break_reasons[0])[:200] if explained.break_reasons else ""
