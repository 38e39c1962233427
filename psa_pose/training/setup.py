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
from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.codecs import Codec
from psa_pose.codecs.build import build_codec
from psa_pose.config.skeleton import build_skeleton
from psa_pose.data.build import TestSet, build_test_sets, build_train_set
from psa_pose.data.dataset import CropDataset
from psa_pose.data.device_decode import batch_maker
from psa_pose.data.loader import ShuffledBatches, make_loader
from psa_pose.device import check_device
from psa_pose.errors import ConfigError, closest
from psa_pose.models import build_model
from psa_pose.predict import Normalization
from psa_pose.run_log import RunLog
from psa_pose.skeleton import Skeleton
from psa_pose.training.ema import ModelEma
from psa_pose.training.interrupt import Interrupt
from psa_pose.training.monitor import RecordLog
from psa_pose.training.optimizer import Loss, base_lr, build_loss, build_optimizer, load_optimizer
from psa_pose.training.output_dir import LAST, clean_output_dir
from psa_pose.training.pretrained import load_pretrained
from psa_pose.training.resume import Progress, changed_keys, restore_state, trained_weights


@dataclass(frozen=True)
class Run:
    """All that a training run works with. network is the model as it is called: compiled, wrapped for many processes.

    frozen: modules that stay in evaluation mode. average: of the weights, or None. rate: learning rate after warm-up.
    progress: where the run began.
    """

    cfg: CfgNode
    folder: Path
    log: RunLog
    device: torch.device
    skeleton: Skeleton
    spec: ModelSpec
    codec: Codec
    model: nn.Module
    network: nn.Module
    frozen: list[nn.Module]
    average: ModelEma | None
    normalize: Normalization
    loss: Loss
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    rate: float
    dataset: CropDataset
    batches: ShuffledBatches
    loader: DataLoader
    test_set: TestSet
    records: RecordLog
    stop: Interrupt
    progress: Progress


@contextmanager
def prepared_run(cfg: CfgNode, device: torch.device, checkpoint: dict[str, Any] | None) -> Iterator[Run]:
    """Build everything. What can be wrong with the config, the data or the checkpoint is found here, before a step."""
    folder, source, said = Path(cfg.OUTPUT_DIR), Path(cfg.OUTPUT_DIR) / LAST, list[str]()
    torch.manual_seed(cfg.SEED)
    check_device(cfg, device)
    make = batch_maker(cfg.LOADER.DEVICE_DECODE, device)
    codec, skeleton, spec = build_codec(cfg), build_skeleton(cfg), ModelSpec.of_config(cfg)
    model = build_model(cfg).to(device)
    dataset = build_train_set(cfg, skeleton, codec.grid, said.append)
    test_set = build_test_sets(cfg, skeleton, codec.grid, said.append, "ground_truth")[0]
    images = dataset.persons.image if cfg.LOADER.GROUP_IMAGES else None
    rank, world = distributed.rank(), distributed.world_size()
    batches = ShuffledBatches(len(dataset), cfg.TRAIN.BATCH_SIZE, cfg.SEED, rank, world, images)
    if checkpoint is None:
        load_pretrained(cfg, model, said.append)
    if cfg.TRAIN.SYNC_BATCHNORM and distributed.world_size() > 1:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    frozen = freeze(cfg, model)
    optimizer = build_optimizer(cfg, model)
    scaler = torch.amp.GradScaler(device.type, enabled=cfg.TRAIN.PRECISION == "fp16")
    average = ModelEma(model, cfg.TRAIN.EMA) if cfg.TRAIN.EMA else None
    progress = None
    if checkpoint is not None:
        spec.check(checkpoint, source)
        said.append(load_weights(model, trained_weights(checkpoint), source))
        if average:
            load_weights(average.model, checkpoint["model"], source)
        load_optimizer(cfg, optimizer, checkpoint["optimizer"], source)
        progress = restore_state(checkpoint, batches, scaler, source)
        said += [f"changed since {source} was written: {key}" for key in changed_keys(checkpoint, cfg)]
    # No process reads the folder any more, and none writes to it yet.
    distributed.barrier()
    if distributed.is_main() and folder.exists():
        clean_output_dir(folder, progress, len(batches))
    done = progress.epoch * len(batches) + progress.step if progress else None
    with RunLog(folder, done) as log, Interrupt() as stop:
        distributed.barrier()
        for message in said:
            log.info(message)
        records = RecordLog(folder, dataset, cfg.TRAIN.LOG_RECORDS)
        try:
            yield Run(
                cfg=cfg,
                folder=folder,
                log=log,
                device=device,
                skeleton=skeleton,
                spec=spec,
                codec=codec,
                model=model,
                network=wrap(cfg, model, device),
                frozen=frozen,
                average=average,
                normalize=Normalization.of(cfg.INPUT.MEAN, cfg.INPUT.STD, device, cfg.MODEL.CHANNELS_LAST),
                loss=build_loss(cfg),
                optimizer=optimizer,
                scaler=scaler,
                rate=base_lr(cfg, cfg.TRAIN.BATCH_SIZE * distributed.world_size()),
                dataset=dataset,
                batches=batches,
                loader=make_loader(dataset, batches, cfg.LOADER.WORKERS, device.type == "cuda", make),
                test_set=test_set,
                records=records,
                stop=stop,
                progress=progress or Progress(),
            )
        finally:
            records.close()


def log_summary(run: Run) -> None:
    cfg, processes, batch = run.cfg, distributed.world_size(), run.cfg.TRAIN.BATCH_SIZE
    parameters = sum(p.numel() for p in run.model.parameters()) / 1e6
    run.log.info(
        f"model {cfg.MODEL.NAME}, attention {cfg.MODEL.ATTENTION.NAME}, codec {cfg.CODEC.NAME}: "
        f"{parameters:.3f} M parameters"
    )
    run.log.info(run.skeleton.describe())
    run.log.info(
        f"training on {run.batches.persons:,} persons, testing on {len(run.test_set.dataset):,} of {run.test_set.split}"
    )
    rule = f"scaled from {cfg.TRAIN.OPTIMIZER.LR:g} at batch {cfg.TRAIN.OPTIMIZER.SCALE_LR_FROM}"
    run.log.info(
        f"effective batch {batch * processes} ({batch} persons x {processes} processes) on {run.device.type}, "
        f"{cfg.TRAIN.OPTIMIZER.NAME}, learning rate {run.rate:g} "
        f"({rule if cfg.TRAIN.OPTIMIZER.SCALE_LR_FROM else 'not scaled by the batch'})"
    )
    on = {
        "precision": cfg.TRAIN.PRECISION if cfg.TRAIN.PRECISION != "fp32" else "",
        "batches in parts": cfg.TRAIN.ACCUMULATE if cfg.TRAIN.ACCUMULATE > 1 else 0,
        "gradient norm up to": cfg.TRAIN.CLIP_GRAD_NORM,
        "moving average": cfg.TRAIN.EMA,
        "frozen": cfg.TRAIN.FREEZE,
        "frozen BatchNorm statistics": cfg.TRAIN.FREEZE_BATCHNORM,
        "compiled": cfg.TRAIN.COMPILE,
        "BatchNorm over all processes": cfg.TRAIN.SYNC_BATCHNORM and processes > 1,
    }
    if any(on.values()):
        run.log.info("recipe: " + ", ".join(f"{what} {value}" for what, value in on.items() if value))
    if run.progress != Progress():
        where = f"after {run.progress.epoch} epochs and {run.progress.step} of {len(run.batches)} steps"
        best = f"best score so far {100 * run.progress.best:.1f}" if run.progress.best >= 0 else "not evaluated yet"
        run.log.info(f"going on {where}; {best}")


def wrap(cfg: CfgNode, model: nn.Module, device: torch.device) -> nn.Module:
    """What is called in training: the model, compiled and distributed where that is asked for. Shares its weights."""
    network: nn.Module = torch.compile(model) if cfg.TRAIN.COMPILE else model  # type: ignore[assignment]
    if distributed.world_size() == 1:
        return network
    # DDP gives every process the main one's BatchNorm statistics before each forward: those it saves are all there are.
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=devices)


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
