"""`tools/train.py`: one visible loop, on a CPU, a GPU, or as many processes as torchrun started."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm
from yacs.config import CfgNode

from psa_pose import __version__, distributed
from psa_pose.checkpoints import load_checkpoint, load_weights, plain_state, save_checkpoint, write_whole
from psa_pose.codecs import Codec
from psa_pose.codecs.build import build_codec
from psa_pose.config import dump_config
from psa_pose.data.build import TestSet, build_test_sets, build_train_set, report_problems
from psa_pose.data.loader import ShuffledBatches, make_loader
from psa_pose.engine.evaluate import evaluate, model_predictor, picture_crops, show_bar
from psa_pose.engine.log import RunLog
from psa_pose.engine.optim import build_loss, build_optimizer, learning_rate
from psa_pose.engine.test import check_same_input
from psa_pose.errors import ConfigError, PsaPoseError
from psa_pose.evaluation.report import format_table
from psa_pose.models import build_model
from psa_pose.predict import Normalization
from psa_pose.skeleton import COCO
from psa_pose.visualization.draw import write_picture
from psa_pose.visualization.sheets import prediction_sheet, target_sheet


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
        distributed.barrier()
        with RunLog(folder, append=before is not None) as log:
            _train(cfg, folder, device, before, log)
    return folder


def _train(cfg: CfgNode, folder: Path, device: torch.device, before: dict[str, Any] | None, log: RunLog) -> None:
    # Everything that can be wrong with the config or the data is found here, before the first step.
    torch.manual_seed(cfg.SEED)
    codec = build_codec(cfg)
    model = build_model(cfg).to(device)
    dataset = build_train_set(cfg, COCO, codec.grid, log.say)
    test_set = build_test_sets(cfg, COCO, codec.grid, log.say, "ground_truth")[0]
    batches = ShuffledBatches(
        len(dataset), cfg.TRAIN.BATCH_SIZE, cfg.SEED, distributed.rank(), distributed.world_size()
    )
    loader = make_loader(dataset, batches, cfg.LOADER.WORKERS, pin_memory=device.type == "cuda")
    normalize = Normalization.of(cfg.INPUT.MEAN, cfg.INPUT.STD, device)
    loss_of = build_loss(cfg)
    optimizer = build_optimizer(cfg, model)
    first_epoch, best = 0, -1.0
    if before is not None:
        check_same_input(cfg, before, folder / "last.pt")
        log.say(load_weights(model, before["model"], folder / "last.pt"))
        optimizer.load_state_dict(before["optimizer"])
        first_epoch, best = before["epoch"], before["best"]
    network: nn.Module = model
    if distributed.world_size() > 1:
        network = DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
    if distributed.is_main():
        write_whole(folder / "config.yaml", lambda file: file.write(dump_config(cfg).encode()))
    _introduce(cfg, model, dataset, test_set, device, log)

    bar = tqdm(
        total=cfg.TRAIN.EPOCHS * len(batches), initial=first_epoch * len(batches), unit="step", disable=not show_bar()
    )
    for epoch in range(first_epoch, cfg.TRAIN.EPOCHS):
        batches.epoch = epoch
        network.train()
        started, persons, epoch_loss = time.perf_counter(), 0, 0.0
        pending: list[torch.Tensor] = []
        for number, batch in enumerate(loader):
            step = epoch * len(batches) + number
            report_problems([p for p in batch.problems if p], cfg.DATASET.ON_ERROR, log.say)
            # Targets are made on the device, from a few coordinates per person.
            joints = batch.joints.to(device, non_blocking=True)
            visible = batch.visible.to(device, non_blocking=True)
            targets, weights = codec.encode(joints, visible)
            loss = loss_of(network(normalize(batch.crops)), targets, weights)
            rate = learning_rate(cfg, epoch, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            # The loss stays on the device until a few are read at once: reading waits for the device.
            pending.append(loss.detach())
            persons += len(batch.rows) * distributed.world_size()
            if step == 0 and distributed.is_main():
                crops = picture_crops(batch, targets, cfg.INPUT.CHANNEL_ORDER)
                write_picture(folder / "pictures" / "train_crops.png", target_sheet(crops, COCO))
            if len(pending) == cfg.TRAIN.LOG_EVERY or number == len(batches) - 1:
                losses = _read_losses(pending, step)
                pending, epoch_loss = [], epoch_loss + sum(losses)
                speed = persons / (time.perf_counter() - started)
                for back, value in enumerate(losses):
                    log.metrics(step - len(losses) + 1 + back, train={"loss": value, "lr": rate, "epoch": epoch})
                bar.set_postfix_str(
                    f"epoch {epoch + 1} loss {losses[-1]:.2e} lr {rate:.1e} {speed:.0f} persons/s", False
                )
                bar.update(len(losses))
        mean_loss = epoch_loss / len(batches)
        log.say(f"epoch {epoch + 1}/{cfg.TRAIN.EPOCHS}: loss {mean_loss:.3e}, lr {rate:.1e}, {speed:.0f} persons/s")
        log.metrics(step, speed={"persons_per_second": speed})

        improved = False
        if (epoch + 1) % cfg.TRAIN.EVAL_EVERY == 0 or epoch + 1 == cfg.TRAIN.EPOCHS:
            ap = _evaluate(cfg, model, codec, normalize, test_set, step, folder, log)
            improved, best = ap > best, max(ap, best)
        if distributed.is_main():
            content = checkpoint_content(cfg, model, optimizer, epoch + 1, best)
            save_checkpoint(folder / "last.pt", content)
            if improved:
                save_checkpoint(folder / "best.pt", content)
    bar.close()
    log.say(f"checkpoints last.pt and best.pt, log.txt, metrics.jsonl, pictures and tensorboard are in {folder}")
    log.say(f"next: python tools/test.py --cfg {folder / 'config.yaml'} --checkpoint {folder / 'best.pt'}")


def _read_losses(pending: list[torch.Tensor], step: int) -> list[float]:
    """The losses of the last steps, averaged over processes; one that is not finite ends the run."""
    losses = distributed.mean(torch.stack(pending)).tolist()
    if not all(map(math.isfinite, losses)):
        raise PsaPoseError(
            f"the loss is not finite in one of the {len(losses)} steps up to step {step}; "
            "lower TRAIN.OPTIMIZER.LR or lengthen TRAIN.SCHEDULE.WARMUP_STEPS"
        )
    return losses


def _evaluate(
    cfg: CfgNode,
    model: nn.Module,
    codec: Codec,
    normalize: Normalization,
    test_set: TestSet,
    step: int,
    folder: Path,
    log: RunLog,
) -> float:
    """AP of the model as it stands, with its table in the log and its picture in the folder."""
    # Each process's BatchNorm has its own running statistics; the main one's are those that are saved.
    distributed.share_buffers(model)
    predictor = model_predictor(model, codec, normalize, COCO, cfg.TEST.FLIP)
    outcome = evaluate(cfg, test_set, predictor, COCO, cfg.TEST.FLIP, log.say)
    log.say(format_table([outcome.evaluation]))
    log.metrics(step, test={test_set.protocol: outcome.evaluation.stats})
    if distributed.is_main() and outcome.crops:
        sheet = prediction_sheet(outcome.crops, COCO, cfg.TEST.KEYPOINT_SCORE)
        write_picture(folder / "pictures" / "predictions.png", sheet)
        log.picture(step, "predictions", sheet)
    return outcome.evaluation.stats["AP"]


def checkpoint_content(
    cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int, best: float
) -> dict[str, Any]:
    """Weights, what is needed to go on, and what must be known to use them: plain values and tensors only.

    epoch: number of complete epochs. best: highest AP so far, -1 before the first evaluation.
    """
    trained_input = {key: cfg.INPUT[key] for key in ("SIZE", "PADDING", "CHANNEL_ORDER", "MEAN", "STD")}
    return {
        "model": plain_state(model),
        "optimizer": optimizer.state_dict(),
        "epoch": epoch,
        "best": best,
        "input": {key: list(v) if isinstance(v, tuple) else v for key, v in trained_input.items()},
        "skeleton": {"name": COCO.name, "names": list(COCO.names)},
        "config": dump_config(cfg),
        "versions": {
            "psa_pose": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
    }


def _introduce(
    cfg: CfgNode, model: nn.Module, dataset: Any, test_set: TestSet, device: torch.device, log: RunLog
) -> None:
    processes, batch = distributed.world_size(), cfg.TRAIN.BATCH_SIZE
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    attention = cfg.MODEL.ATTENTION.NAME
    log.say(f"model {cfg.MODEL.NAME}, attention {attention}, codec {cfg.CODEC.NAME}: {parameters:.3f} M parameters")
    log.say(f"training on {len(dataset):,} persons, testing on {len(test_set.dataset):,} of {test_set.split}")
    log.say(
        f"effective batch {batch * processes} ({batch} persons x {processes} processes) on {device.type}, "
        f"{cfg.TRAIN.OPTIMIZER.NAME}, learning rate {cfg.TRAIN.OPTIMIZER.LR:g} (not scaled by the batch)"
    )
