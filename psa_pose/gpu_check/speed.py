"""Speed: steps with PSA and without, steps against the published way, and the loader that feeds them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn

from psa_pose.benchmark.measure import Work, alternate, ratio
from psa_pose.benchmark.train import StartedRun, compare_training, start_run
from psa_pose.device import autocast, backends
from psa_pose.gpu_check.bench import FASTEST, Bench
from psa_pose.gpu_check.lines import Line, at_least, at_most, left_out
from psa_pose.gpu_check.steps import WITHOUT, start

PRECISIONS = {"fp32": (), "bf16": FASTEST}
COMPILED = "bf16, compiled"


def psa_lines(bench: Bench) -> Iterator[Line]:
    """A step with psa_p in units of one without."""
    for name, config in bench.psa_pairs.items():
        for precision, words in PRECISIONS.items():
            title = f"step time, {name}, {precision}, psa_p / plain"
            if not bench.gpu:
                yield left_out(title, "no GPU; a CPU's ratio says nothing of it")
                continue
            slower, milliseconds = psa_ratio(bench, config, *words)
            yield at_most(title, slower, 1.10, note=f"{milliseconds:.0f} ms with; the paper's inference: 1.055")


def psa_ratio(bench: Bench, config: str, *words: object) -> tuple[float, float]:
    """How many times as long a step with psa_p takes as one without, on one batch; its milliseconds."""
    with ExitStack() as stack:
        runs = {name: start(bench, stack, config, *words, *more) for name, more in (("psa", ()), ("plain", WITHOUT))}
        seconds = alternate({name: _on_one_batch(run) for name, run in runs.items()}, bench.rounds, bench.device)
    return ratio(seconds["psa"], seconds["plain"]), 1e3 * statistics.median(seconds["psa"])


def _on_one_batch(started: StartedRun) -> Work:
    batch = started.batch()
    return lambda: started.step_on(batch)


def persons_lines(bench: Bench) -> Iterator[Line]:
    """Persons per second of each network in units of the published way's, in the same precision, on the same batch."""
    for network in bench.networks:
        for way, words in PRECISIONS.items():
            yield _against_published(bench, network, way, words)


def compiled_lines(bench: Bench, network: str) -> Iterator[Line]:
    """The same of a compiled network, for which the first step takes minutes."""
    if network in bench.networks:
        yield _against_published(bench, network, COMPILED, (*FASTEST, "TRAIN.COMPILE", True))
    else:
        yield left_out(_name(network, COMPILED), "no GPU; on a CPU it takes minutes")


def _against_published(bench: Bench, network: str, way: str, words: tuple) -> Line:
    config, own = bench.networks[network]
    faster, ours, theirs = persons_per_second(bench, config, *own, *words)
    note = f"{ours:,.0f} and {theirs:,.0f} persons/s, {bench.batch} persons a step"
    return at_least(_name(network, way), faster, 1.0, note=note)


def _name(network: str, way: str) -> str:
    return f"persons/s of {network}, {way} / the published way"


def persons_per_second(bench: Bench, config: str, *words: object) -> tuple[float, float, float]:
    """How many times as fast our step is as the published one on one batch; persons per second of both.

    Theirs has the targets made beforehand, as their loaders do it, and the network in the same precision.
    """
    with ExitStack() as stack:
        started = start(bench, stack, config, *words)
        works = {"ours": _on_one_batch(started), "theirs": published_work(bench, started)}
        seconds = alternate(works, bench.rounds, bench.device)
    rates = {name: bench.batch / statistics.median(found) for name, found in seconds.items()}
    return ratio(seconds["theirs"], seconds["ours"]), rates["ours"], rates["theirs"]


def published_work(bench: Bench, started: StartedRun) -> Work:
    """A published step on the run's next batch: normalised images and targets in pinned memory, plain Adam."""
    run, task = started.run, started.run.task
    batch = task.to_device(started.batch(), run.dataset)
    loaded = [tensor.cpu().contiguous() for tensor in (task.images(batch), *task.targets(batch))]
    if bench.gpu:
        loaded = [tensor.pin_memory() for tensor in loaded]
    model = task.build_model().to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    precision = run.cfg.TRAIN.PRECISION

    def work() -> None:
        images, targets, weights = (tensor.to(bench.device, non_blocking=True) for tensor in loaded)
        with backends(run.cfg, bench.device, training=True), autocast(precision, bench.device):
            train_published(model, optimizer, images, targets, weights)

    return work


def train_published(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, targets: Tensor, weights: Tensor
) -> tuple[float, float]:
    """One training step as the published codes write it: the loss and the accuracy of the batch.

    The loss is taken joint by joint, and it and the accuracy are read after every step. images (B, 3, H, W), targets
    (B, K, h, w) and weights (B, K) are what their loaders make, on the model's device. Half the mean square, as theirs.
    """
    outputs = model(images)
    total = torch.zeros((), device=images.device)
    for joint in range(targets.shape[1]):
        weight = weights[:, joint, None]
        found, wanted = outputs[:, joint].reshape(len(images), -1), targets[:, joint].reshape(len(images), -1)
        total = total + 0.5 * nn.functional.mse_loss(found * weight, wanted * weight)
    loss = total / targets.shape[1]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item(), heatmap_accuracy(outputs.detach().float().cpu().numpy(), targets.cpu().numpy())


def heatmap_accuracy(maps: np.ndarray, targets: np.ndarray, threshold: float = 0.5) -> float:
    """Share of joints whose maximum lies near the target's: within `threshold` of a tenth of the map's sides."""
    sides = np.array([maps.shape[3], maps.shape[2]]) / 10
    near = []
    for person_maps, person_targets in zip(maps, targets, strict=True):
        for map_, target in zip(person_maps, person_targets, strict=True):
            wanted = np.array(np.unravel_index(target.argmax(), target.shape))[::-1]
            found = np.array(np.unravel_index(map_.argmax(), map_.shape))[::-1]
            if (wanted > 1).all():
                near.append(np.linalg.norm((found - wanted) / sides) < threshold)
    return float(np.mean(near)) if near else 0.0


def loader_lines(bench: Bench) -> Iterator[Line]:
    """The loader alone in units of what a step needs, and the share of the time that steps wait for it."""
    name, (config, own) = next(item for item in bench.networks.items() if item[0] in ("W32", "small"))
    cfg = bench.config(config, *own, *(FASTEST if bench.gpu else ()))
    with ExitStack() as stack:
        started = start_run(cfg, stack)
        work = _on_one_batch(started)
        needed = bench.batch / statistics.median(alternate({"": work}, bench.rounds, bench.device)[""])
    with ExitStack() as stack:
        offered = loader_rate(start_run(cfg, stack))
    note = f"{offered:,.0f} against {needed:,.0f} persons/s of {name}; {bench.workers} workers, files in memory"
    yield at_least("the loader alone / the step", offered / needed, 1.2, note=note)
    row = compare_training({name: cfg}, 10 * bench.rounds if bench.gpu else 8)[0]
    note = f"{name}, {row['images_per_s']:,.0f} persons/s, {row['step_ms']:.1f} ms a step"
    yield at_most("time waiting for data", 100 * row["loading_share"], 5, "%", note)


def loader_rate(started: StartedRun, seconds: float = 5.0) -> float:
    """Persons per second of a run's loader with nobody at work, once what it has fetched ahead is used up."""
    workers = started.run.cfg.LOADER.WORKERS
    for _ in range(1 + 2 * workers):
        started.batch()
    begun, persons = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        persons += len(started.batch().rows)
    return persons / (time.perf_counter() - begun)
