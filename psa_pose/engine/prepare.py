"""A training run before its first step: everything built, loaded and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.checkpoints import load_weights
from psa_pose.codecs import Codec
from psa_pose.codecs.build import build_codec
from psa_pose.config.skeleton import build_skeleton
from psa_pose.data.build import TestSet, build_test_sets, build_train_set
from psa_pose.data.dataset import CropDataset
from psa_pose.data.device_crops import batch_maker
from psa_pose.data.loader import ShuffledBatches, make_loader
from psa_pose.engine.log import RunLog
from psa_pose.engine.optim import Loss, base_rate, build_loss, build_optimizer, load_optimizer
from psa_pose.engine.pretrained import load_pretrained
from psa_pose.engine.recipe import MovingAverage, check_device, freeze, wrap
from psa_pose.engine.state import LAST, Progress, changed_keys, clear_folder, restore_state, trained_weights
from psa_pose.engine.stop import StopRequest
from psa_pose.engine.test import check_same_input
from psa_pose.engine.watch import RecordLog
from psa_pose.models import build_model
from psa_pose.predict import Normalization
from psa_pose.skeleton import Skeleton


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
    codec: Codec
    model: nn.Module
    network: nn.Module
    frozen: list[nn.Module]
    average: MovingAverage | None
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
    stop: StopRequest
    progress: Progress


@contextmanager
def prepared_run(cfg: CfgNode, device: torch.device, before: dict[str, Any] | None) -> Iterator[Run]:
    """Build everything. What can be wrong with the config, the data or the checkpoint is found here, before a step."""
    folder, source, said = Path(cfg.OUTPUT_DIR), Path(cfg.OUTPUT_DIR) / LAST, list[str]()
    torch.manual_seed(cfg.SEED)
    check_device(cfg, device)
    make = batch_maker(cfg.LOADER.DEVICE_DECODE, device)
    codec, skeleton = build_codec(cfg), build_skeleton(cfg)
    model = build_model(cfg).to(device)
    dataset = build_train_set(cfg, skeleton, codec.grid, said.append)
    test_set = build_test_sets(cfg, skeleton, codec.grid, said.append, "ground_truth")[0]
    images = dataset.persons.image if cfg.LOADER.GROUP_IMAGES else None
    rank, world = distributed.rank(), distributed.world_size()
    batches = ShuffledBatches(len(dataset), cfg.TRAIN.BATCH_SIZE, cfg.SEED, rank, world, images)
    if before is None:
        load_pretrained(cfg, model, said.append)
    if cfg.TRAIN.SYNC_BATCHNORM and distributed.world_size() > 1:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    frozen = freeze(cfg, model)
    optimizer = build_optimizer(cfg, model)
    scaler = torch.amp.GradScaler(device.type, enabled=cfg.TRAIN.PRECISION == "fp16")
    average = MovingAverage(model, cfg.TRAIN.EMA) if cfg.TRAIN.EMA else None
    progress = None
    if before is not None:
        check_same_input(cfg, skeleton, before, source)
        said.append(load_weights(model, trained_weights(before), source))
        if average:
            load_weights(average.model, before["model"], source)
        load_optimizer(cfg, optimizer, before["optimizer"], source)
        progress = restore_state(before, batches, scaler, source)
        said += [f"changed since {source} was written: {key}" for key in changed_keys(before, cfg)]
    # No process reads the folder any more, and none writes to it yet.
    distributed.barrier()
    if distributed.is_main() and folder.exists():
        clear_folder(folder, progress, len(batches))
    done = progress.epoch * len(batches) + progress.step if progress else None
    with RunLog(folder, done) as log, StopRequest() as stop:
        distributed.barrier()
        for message in said:
            log.say(message)
        records = RecordLog(folder, dataset, cfg.TRAIN.LOG_RECORDS)
        try:
            yield Run(
                cfg=cfg,
                folder=folder,
                log=log,
                device=device,
                skeleton=skeleton,
                codec=codec,
                model=model,
                network=wrap(cfg, model, device),
                frozen=frozen,
                average=average,
                normalize=Normalization.of(cfg.INPUT.MEAN, cfg.INPUT.STD, device, cfg.MODEL.CHANNELS_LAST),
                loss=build_loss(cfg),
                optimizer=optimizer,
                scaler=scaler,
                rate=base_rate(cfg, cfg.TRAIN.BATCH_SIZE * distributed.world_size()),
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


def introduce(run: Run) -> None:
    cfg, processes, batch = run.cfg, distributed.world_size(), run.cfg.TRAIN.BATCH_SIZE
    parameters = sum(p.numel() for p in run.model.parameters()) / 1e6
    run.log.say(
        f"model {cfg.MODEL.NAME}, attention {cfg.MODEL.ATTENTION.NAME}, codec {cfg.CODEC.NAME}: "
        f"{parameters:.3f} M parameters"
    )
    run.log.say(run.skeleton.describe())
    run.log.say(
        f"training on {run.batches.persons:,} persons, testing on {len(run.test_set.dataset):,} of {run.test_set.split}"
    )
    rule = f"scaled from {cfg.TRAIN.OPTIMIZER.LR:g} at batch {cfg.TRAIN.OPTIMIZER.SCALE_LR_FROM}"
    run.log.say(
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
        run.log.say("recipe: " + ", ".join(f"{what} {value}" for what, value in on.items() if value))
    if run.progress != Progress():
        where = f"after {run.progress.epoch} epochs and {run.progress.step} of {len(run.batches)} steps"
        best = f"best score so far {100 * run.progress.best:.1f}" if run.progress.best >= 0 else "not evaluated yet"
        run.log.say(f"going on {where}; {best}")
