"""A training run before its first step: everything built, loaded and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.checkpoints import load_weights
from psa_pose.config import dump_config
from psa_pose.cuda_graphs import CudaGraphs
from psa_pose.data.loader import ShuffledBatches, loader_workers, make_loader
from psa_pose.device import backends, check_device, cuda_graphs, describe_computing
from psa_pose.errors import ConfigError, closest
from psa_pose.run_log import RecordLog, RunLog
from psa_pose.task import Task, TestSet, TrainSet
from psa_pose.threads import ThreadWaiting
from psa_pose.training.ema import ModelEma
from psa_pose.training.interrupt import Interrupt
from psa_pose.training.monitor import Exchange
from psa_pose.training.optimizer import Schedule, base_lr, build_optimizer, build_schedule, load_optimizer, total_steps
from psa_pose.training.output_dir import LAST, clean_output_dir
from psa_pose.training.resume import Progress, changed_keys, restore_state, trained_weights
from psa_pose.training.saver import Saver
from psa_pose.training.step import NormCounters, TrainState


@dataclass(frozen=True)
class Run:
    """All that a training run works with.

    folder: OUTPUT_DIR.
    state: what a step changes.
    lr_at: step over the whole run -> learning rate.
    total_steps: length of the run.
    batches, loader: which samples of `dataset`, in which order, and what brings them.
    test_set: what the best checkpoint is chosen on.
    waiting: how threads wait on a CPU, chosen on the run's own steps.
    progress: where the run begins.
    """

    task: Task
    folder: Path
    log: RunLog
    state: TrainState
    lr_at: Schedule
    total_steps: int
    dataset: TrainSet
    batches: ShuffledBatches
    loader: DataLoader
    test_set: TestSet
    records: RecordLog
    interrupt: Interrupt
    saver: Saver
    waiting: ThreadWaiting
    exchange: Exchange
    progress: Progress

    @property
    def cfg(self) -> CfgNode:
        return self.task.cfg

    @property
    def steps_per_epoch(self) -> int:
        return len(self.batches)

    @property
    def first_step(self) -> int:
        """The first one that is not done yet, from 0."""
        return self.progress.epoch * self.steps_per_epoch + self.progress.step

    @property
    def epochs(self) -> int:
        """The last one may be cut short by TRAIN.STEPS."""
        return -(-self.total_steps // self.steps_per_epoch)

    def end_of(self, epoch: int) -> int:
        """Steps of the run that are done when the epoch, counted from 0, is."""
        return min((epoch + 1) * self.steps_per_epoch, self.total_steps)

    def steps_of(self, epoch: int) -> int:
        """Steps of one epoch."""
        return self.end_of(epoch) - epoch * self.steps_per_epoch


@contextmanager
def prepared_run(task: Task, checkpoint: dict[str, Any] | None) -> Iterator[Run]:
    """Everything built. What can be wrong with the config, the data or the checkpoint is found here, before a step.

    checkpoint: of the run to go on with; None starts anew.
    """
    cfg, folder, said = task.cfg, Path(task.cfg.OUTPUT_DIR), list[str]()
    torch.manual_seed(cfg.SEED)
    # Until it is set MKL may take fewer; an evaluation sets it, and a run that goes on must not differ by that.
    torch.set_num_threads(torch.get_num_threads())
    check_device(cfg, task.device)
    make_batch = task.batch_maker()
    model = task.build_model()
    dataset = task.train_set(said.append)
    (test_set,) = task.test_sets(said.append, annotated=True)
    groups = dataset.groups if cfg.LOADER.GROUP_IMAGES else None
    rank, world = distributed.rank(), distributed.world_size()
    batches = ShuffledBatches(len(dataset), cfg.TRAIN.BATCH_SIZE, cfg.SEED, rank, world, groups)
    if checkpoint is None and cfg.MODEL.PRETRAINED:
        # The tables of foreign layouts are loaded by those who use them.
        from psa_pose.training.pretrained import load_pretrained

        load_pretrained(cfg, model, task.spec(), said.append)
    state = build_state(task, model)
    progress = None if checkpoint is None else _restore(task, state, batches, checkpoint, folder / LAST, said)
    # No process reads the folder any more, and none writes to it yet.
    distributed.barrier()
    if distributed.is_main() and folder.exists():
        clean_output_dir(folder, progress, len(batches))
    done = progress.epoch * len(batches) + progress.step if progress else None
    workers = loader_workers(cfg.LOADER.WORKERS)
    with RunLog(folder, done, cfg.TRAIN.TRACKER, dump_config(cfg)) as log, Interrupt() as interrupt:
        distributed.barrier()
        for message in said:
            log.info(message)
        with (
            RecordLog(folder, dataset.ids, cfg.TRAIN.LOG_RECORDS) as records,
            ThreadWaiting(task.device, log.info) as waiting,
            Saver(folder, cfg.TRAIN.KEEP_EPOCHS, log) as saver,
            backends(cfg, task.device, training=True),
        ):
            yield Run(
                task=task,
                folder=folder,
                log=log,
                state=state,
                lr_at=build_schedule(cfg, base_lr(cfg, cfg.TRAIN.BATCH_SIZE * world), len(batches)),
                total_steps=total_steps(cfg, len(batches)),
                dataset=dataset,
                batches=batches,
                loader=make_loader(dataset, batches, workers, task.device.type == "cuda", make_batch),
                test_set=test_set,
                records=records,
                interrupt=interrupt,
                exchange=Exchange(state.model, task.device),
                saver=saver,
                waiting=waiting,
                progress=progress or Progress(),
            )


def build_state(task: Task, model: nn.Module) -> TrainState:
    """The model as the config wants it trained: frozen, averaged, compiled, over several processes."""
    cfg, device = task.cfg, task.device
    if cfg.TRAIN.SYNC_BATCHNORM and distributed.world_size() > 1:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    frozen = freeze(cfg, model)
    return TrainState(
        model=model,
        network=wrap(cfg, model, device),
        frozen=frozen,
        optimizer=build_optimizer(cfg, task.parameter_groups(model)),
        scaler=torch.amp.GradScaler(device.type, enabled=cfg.TRAIN.PRECISION == "fp16"),
        ema=ModelEma(model, cfg.TRAIN.EMA) if cfg.TRAIN.EMA else None,
        counters=NormCounters(model),
    )


def _restore(
    task: Task,
    state: TrainState,
    batches: ShuffledBatches,
    checkpoint: dict[str, Any],
    source: Path,
    said: list[str],
) -> Progress:
    """Where the run goes on, with all of its state as it was. source: of the checkpoint. said: for the log."""
    task.spec().check(checkpoint, source)
    said.append(load_weights(state.model, trained_weights(checkpoint), source))
    if state.ema:
        load_weights(state.ema.model, checkpoint["model"], source)
    load_optimizer(task.cfg, state.optimizer, checkpoint["optimizer"], source)
    progress = restore_state(checkpoint, batches, state.scaler, source)
    said += [f"changed since {source} was written: {key}" for key in changed_keys(checkpoint, task.cfg)]
    return progress


def log_summary(run: Run) -> None:
    """Say what is trained on what, and how."""
    cfg, task, processes, batch = run.cfg, run.task, distributed.world_size(), run.cfg.TRAIN.BATCH_SIZE
    parameters = sum(p.numel() for p in run.state.model.parameters()) / 1e6
    network, *others = task.describe()
    run.log.info(f"{network}: {parameters:.3f} M parameters")
    for line in others:
        run.log.info(line)
    run.log.info(
        f"training on {len(run.dataset):,} {task.unit}, testing on {len(run.test_set.dataset):,} of "
        f"{run.test_set.split}"
    )
    rule = f"scaled from {cfg.TRAIN.OPTIMIZER.LR:g} at batch {cfg.TRAIN.OPTIMIZER.SCALE_LR_FROM}"
    run.log.info(
        f"effective batch {batch * processes} ({batch} {task.unit} x {processes} processes) on {task.device.type}, "
        f"{cfg.TRAIN.OPTIMIZER.NAME}, learning rate {base_lr(cfg, batch * processes):g} "
        f"({rule if cfg.TRAIN.OPTIMIZER.SCALE_LR_FROM else 'not scaled by the batch'})"
    )
    run.log.info(describe_computing(cfg, task.device, cfg.TRAIN.PRECISION, training=True))
    run.log.info(f"{run.loader.num_workers} loader workers per process")
    if processes > 1:
        options = ", ".join(f"{name} {value}" for name, value in distributed.ddp_options(cfg.TRAIN.ACCUMULATE).items())
        run.log.info(f"DistributedDataParallel: {options}")
    recipe = _recipe(cfg, processes)
    if recipe:
        run.log.info(f"recipe: {recipe}")
    if run.progress != Progress():
        where = f"after {run.progress.epoch} epochs and {run.progress.step} of {run.steps_per_epoch} steps"
        best = f"best score so far {100 * run.progress.best:.1f}" if run.progress.best >= 0 else "not evaluated yet"
        run.log.info(f"going on {where}; {best}")


def _recipe(cfg: CfgNode, processes: int) -> str:
    """What is on beside plain training."""
    on = {
        "batches in parts": cfg.TRAIN.ACCUMULATE if cfg.TRAIN.ACCUMULATE > 1 else 0,
        "gradient norm up to": cfg.TRAIN.CLIP_GRAD_NORM,
        "moving average": cfg.TRAIN.EMA,
        "frozen": cfg.TRAIN.FREEZE,
        "frozen BatchNorm statistics": cfg.TRAIN.FREEZE_BATCHNORM,
        "BatchNorm over all processes": cfg.TRAIN.SYNC_BATCHNORM and processes > 1,
    }
    return ", ".join(f"{what} {value}" for what, value in on.items() if value)


def wrap(cfg: CfgNode, model: nn.Module, device: torch.device) -> nn.Module:
    """What is called in training: the model, compiled, captured, distributed where that is asked for; its weights."""
    graphs = cuda_graphs(cfg, device)
    network = CudaGraphs(model, cfg.TRAIN.COMPILE) if graphs else model
    if distributed.world_size() > 1:
        devices = [device.index] if device.type == "cuda" else None
        network = DistributedDataParallel(network, device_ids=devices, **distributed.ddp_options(cfg.TRAIN.ACCUMULATE))
    # DDP is compiled too, so that gradients travel while the backward pass still runs.
    if cfg.TRAIN.COMPILE and not graphs:
        return torch.compile(network, dynamic=False)  # type: ignore[return-value]
    return network


def freeze(cfg: CfgNode, model: nn.Module) -> list[nn.Module]:
    """Stop the gradient of the modules that TRAIN.FREEZE names; the answer: modules that stay in evaluation mode.

    Raises ConfigError for a prefix of no module, and where nothing is left to train.
    """
    modules = dict(model.named_modules())
    frozen: list[nn.Module] = []
    for prefix in filter(None, map(str.strip, cfg.TRAIN.FREEZE.split(","))):
        if prefix not in modules:
            raise ConfigError(f"TRAIN.FREEZE names {prefix!r}, no module of this network; {_near(prefix, modules)}")
        frozen.append(modules[prefix].requires_grad_(False))
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError(f"TRAIN.FREEZE {cfg.TRAIN.FREEZE!r} leaves nothing to train; name fewer modules")
    if cfg.TRAIN.FREEZE_BATCHNORM:
        frozen += [module for module in modules.values() if isinstance(module, _BatchNorm)]
    return frozen


def _near(prefix: str, modules: dict[str, nn.Module]) -> str:
    """The nearest module's name among the siblings of what was typed."""
    parent = prefix.rpartition(".")[0]
    siblings = [name for name in modules if name and name.rpartition(".")[0] == parent]
    return closest(prefix, siblings or [name for name in modules if name and "." not in name])
