"""`tools/train.py`: one visible loop, on a CPU, a GPU, or as many processes as torchrun started."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.checkpoints import load_checkpoint, load_weights, save_checkpoint, write_whole
from psa_pose.codecs import Codec
from psa_pose.codecs.build import build_codec
from psa_pose.config import dump_config
from psa_pose.data.build import TestSet, build_test_sets, build_train_set, report_problems
from psa_pose.data.loader import Batch, ShuffledBatches, make_loader
from psa_pose.engine.content import checkpoint_content
from psa_pose.engine.evaluate import evaluate, model_predictor, picture_crops, show_bar
from psa_pose.engine.log import RunLog
from psa_pose.engine.optim import Loss, build_loss, build_optimizer, learning_rate
from psa_pose.engine.pretrained import load_pretrained
from psa_pose.engine.test import check_same_input
from psa_pose.errors import CheckpointError, ConfigError, PsaPoseError
from psa_pose.evaluation.report import format_table
from psa_pose.models import build_model
from psa_pose.predict import Normalization
from psa_pose.skeleton import COCO
from psa_pose.visualization.draw import write_picture
from psa_pose.visualization.sheets import prediction_sheet, target_sheet


@dataclass(frozen=True)
class Run:
    """All that a training run works with. network is the model, wrapped where there are several processes."""

    cfg: CfgNode
    folder: Path
    log: RunLog
    device: torch.device
    codec: Codec
    model: nn.Module
    network: nn.Module
    normalize: Normalization
    loss: Loss
    optimizer: torch.optim.Optimizer
    batches: ShuffledBatches
    loader: DataLoader
    test_set: TestSet


def run_train(cfg: CfgNode, resume: bool = False, overwrite: bool = False) -> Path:
    """Train as the config says; the answer is the folder with the checkpoints, the log and the pictures.

    resume: go on after the last complete epoch of the run in OUTPUT_DIR. overwrite: start anew over it.
    Raises a PsaPoseError for wrong data, a run that is already there, or a loss that is no longer finite.
    """
    device = distributed.choose_device(cfg.DEVICE)
    folder = Path(cfg.OUTPUT_DIR)
    with distributed.process_group(device):
        last = folder / "last.pt"
        if last.exists() and not (resume or overwrite):
            raise ConfigError(
                f"{folder} holds a run; go on with --resume, replace it with --overwrite, or set OUTPUT_DIR"
            )
        before = load_checkpoint(last) if resume and last.exists() else None
        if before is not None and before["optimizer"] is None:
            raise CheckpointError(
                f"checkpoint {last} was converted, not trained here: there is no run to go on with; move it, write "
                "MODEL.PRETRAINED with its path, and train without --resume"
            )
        distributed.barrier()
        with RunLog(folder, append=before is not None) as log:
            _train(_prepare(cfg, folder, device, before, log), before)
    return folder


def _prepare(cfg: CfgNode, folder: Path, device: torch.device, before: dict[str, Any] | None, log: RunLog) -> Run:
    """Build everything. What can be wrong with the config, the data or the checkpoint is found here, before a step."""
    torch.manual_seed(cfg.SEED)
    codec = build_codec(cfg)
    model = build_model(cfg).to(device)
    dataset = build_train_set(cfg, COCO, codec.grid, log.say)
    batches = ShuffledBatches(
        len(dataset), cfg.TRAIN.BATCH_SIZE, cfg.SEED, distributed.rank(), distributed.world_size()
    )
    if before is None:
        load_pretrained(cfg, model, log.say)
    optimizer = build_optimizer(cfg, model)
    if before is not None:
        check_same_input(cfg, before, folder / "last.pt")
        log.say(load_weights(model, before["model"], folder / "last.pt"))
        optimizer.load_state_dict(before["optimizer"])
    network: nn.Module = model
    if distributed.world_size() > 1:
        network = DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
    return Run(
        cfg=cfg,
        folder=folder,
        log=log,
        device=device,
        codec=codec,
        model=model,
        network=network,
        normalize=Normalization.of(cfg.INPUT.MEAN, cfg.INPUT.STD, device, cfg.MODEL.CHANNELS_LAST),
        loss=build_loss(cfg),
        optimizer=optimizer,
        batches=batches,
        loader=make_loader(dataset, batches, cfg.LOADER.WORKERS, pin_memory=device.type == "cuda"),
        test_set=build_test_sets(cfg, COCO, codec.grid, log.say, "ground_truth")[0],
    )


def _train(run: Run, before: dict[str, Any] | None) -> None:
    """Epochs, each followed by what the config asks for: evaluate, log, save."""
    cfg, folder, log = run.cfg, run.folder, run.log
    first_epoch, best = (before["epoch"], before["best"]) if before else (0, -1.0)
    if distributed.is_main():
        write_whole(folder / "config.yaml", lambda file: file.write(dump_config(cfg).encode()))
    _introduce(run)
    steps = len(run.batches)
    bar = tqdm(total=cfg.TRAIN.EPOCHS * steps, initial=first_epoch * steps, unit="step", disable=not show_bar())
    for epoch in range(first_epoch, cfg.TRAIN.EPOCHS):
        _train_epoch(run, epoch, bar)
        improved = False
        if (epoch + 1) % cfg.TRAIN.EVAL_EVERY == 0 or epoch + 1 == cfg.TRAIN.EPOCHS:
            ap = _evaluate(run, step=(epoch + 1) * steps - 1)
            improved, best = ap > best, max(ap, best)
        if distributed.is_main():
            content = checkpoint_content(cfg, run.model, run.optimizer, epoch + 1, best)
            save_checkpoint(folder / "last.pt", content)
            if improved:
                save_checkpoint(folder / "best.pt", content)
    bar.close()
    log.say(f"checkpoints last.pt and best.pt, log.txt, metrics.jsonl, pictures and tensorboard are in {folder}")
    log.say(f"next: python tools/test.py --cfg {folder / 'config.yaml'} --checkpoint {folder / 'best.pt'}")


def _train_epoch(run: Run, epoch: int, bar: tqdm) -> None:
    cfg, device = run.cfg, run.device
    run.batches.epoch = epoch
    run.network.train()
    started, persons = time.perf_counter(), 0
    losses: list[float] = []
    pending: list[torch.Tensor] = []
    for step, batch in enumerate(run.loader, start=epoch * len(run.batches)):
        report_problems([p for p in batch.problems if p], cfg.DATASET.ON_ERROR, run.log.say)
        # Targets are made on the device, from a few coordinates per person.
        joints, visible = (t.to(device, non_blocking=True) for t in (batch.joints, batch.visible))
        targets, weights = run.codec.encode(joints, visible)
        loss = run.loss(run.network(run.normalize(batch.crops)), targets, weights)
        rate = learning_rate(cfg, epoch, step)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        run.optimizer.step()
        # The loss stays on the device until a few are read at once: reading waits for the device.
        pending.append(loss.detach())
        persons += len(batch.rows) * distributed.world_size()
        if step == 0:
            _picture_first_batch(run, batch, targets)
        if len(pending) == cfg.TRAIN.LOG_EVERY or step + 1 == (epoch + 1) * len(run.batches):
            read = _read_losses(pending, step)
            pending, losses = [], losses + read
            for number, value in enumerate(read, start=step + 1 - len(read)):
                run.log.metrics(number, train={"loss": value, "lr": learning_rate(cfg, epoch, number), "epoch": epoch})
            speed = persons / (time.perf_counter() - started)
            bar.set_postfix_str(f"epoch {epoch + 1} loss {read[-1]:.2e} lr {rate:.1e} {speed:.0f} persons/s", False)
            bar.update(len(read))
    mean_loss = sum(losses) / len(losses)
    run.log.say(f"epoch {epoch + 1}/{cfg.TRAIN.EPOCHS}: loss {mean_loss:.3e}, lr {rate:.1e}, {speed:.0f} persons/s")
    run.log.metrics(step, speed={"persons_per_second": speed})


def _read_losses(pending: list[torch.Tensor], step: int) -> list[float]:
    """The losses of the last steps, averaged over processes; one that is not finite ends the run."""
    losses = distributed.mean(torch.stack(pending)).tolist()
    if not all(map(math.isfinite, losses)):
        raise PsaPoseError(
            f"the loss is not finite in one of the {len(losses)} steps up to step {step}; "
            "lower TRAIN.OPTIMIZER.LR or lengthen TRAIN.SCHEDULE.WARMUP_STEPS"
        )
    return losses


def _evaluate(run: Run, step: int) -> float:
    """AP of the model as it stands, with its table in the log and its picture in the folder."""
    # Each process's BatchNorm has its own running statistics; the main one's are those that are saved.
    distributed.share_buffers(run.model)
    flip = run.cfg.TEST.FLIP
    predictor = model_predictor(run.model, run.codec, run.normalize, COCO, flip)
    outcome = evaluate(run.cfg, run.test_set, predictor, COCO, flip, run.log.say)
    run.log.say(format_table([outcome.evaluation]))
    run.log.metrics(step, test={run.test_set.protocol: outcome.evaluation.stats})
    if distributed.is_main() and outcome.crops:
        sheet = prediction_sheet(outcome.crops, COCO, run.cfg.TEST.KEYPOINT_SCORE)
        write_picture(run.folder / "pictures" / "predictions.png", sheet)
        run.log.picture(step, "predictions", sheet)
    return outcome.evaluation.stats["AP"]


def _picture_first_batch(run: Run, batch: Batch, targets: torch.Tensor) -> None:
    if distributed.is_main():
        crops = picture_crops(batch, targets, run.cfg.INPUT.CHANNEL_ORDER)
        write_picture(run.folder / "pictures" / "train_crops.png", target_sheet(crops, COCO))


def _introduce(run: Run) -> None:
    cfg, processes, batch = run.cfg, distributed.world_size(), run.cfg.TRAIN.BATCH_SIZE
    parameters = sum(p.numel() for p in run.model.parameters()) / 1e6
    run.log.say(
        f"model {cfg.MODEL.NAME}, attention {cfg.MODEL.ATTENTION.NAME}, codec {cfg.CODEC.NAME}: "
        f"{parameters:.3f} M parameters"
    )
    run.log.say(
        f"training on {run.batches.persons:,} persons, testing on {len(run.test_set.dataset):,} of {run.test_set.split}"
    )
    run.log.say(
        f"effective batch {batch * processes} ({batch} persons x {processes} processes) on {run.device.type}, "
        f"{cfg.TRAIN.OPTIMIZER.NAME}, learning rate {cfg.TRAIN.OPTIMIZER.LR:g} (not scaled by the batch)"
    )
