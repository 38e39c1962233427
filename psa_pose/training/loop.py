"""`tools/train.py`: one visible loop, on a CPU, a GPU, or as many processes as torchrun started."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.checkpoints import checkpoint_content, save_checkpoint
from psa_pose.checkpoints.safetensors_file import save_safetensors
from psa_pose.config import dump_config
from psa_pose.data.build import report_problems
from psa_pose.data.device_decode import decode_on_device
from psa_pose.data.loader import Batch
from psa_pose.device import autocast, choose_device
from psa_pose.distributed import show_bar
from psa_pose.errors import Interrupted
from psa_pose.evaluation.pictures import picture_crops
from psa_pose.evaluation.predict_set import evaluate
from psa_pose.evaluation.result import format_table
from psa_pose.files import atomic_write
from psa_pose.predict import Predictor, model_predictor
from psa_pose.training.monitor import DataTimer, check_finite, gate_deviations
from psa_pose.training.optimizer import lr_at
from psa_pose.training.output_dir import BEST, FINAL, LAST, NOT_FINITE, epoch_file, find_checkpoint, prune_checkpoints
from psa_pose.training.resume import Progress, training_state
from psa_pose.training.setup import Run, log_summary, prepared_run
from psa_pose.visualization.draw import write_picture
from psa_pose.visualization.sheets import prediction_sheet, target_sheet


def run_train(cfg: CfgNode, resume: bool = False, overwrite: bool = False) -> Path:
    """Train as the config says; the answer is the folder with the checkpoints, the log and the pictures.

    resume: go on where the run in OUTPUT_DIR was left. overwrite: start anew over it.
    Raises a PsaPoseError for wrong data, a run that is already there, or numbers that are no longer finite, and
    Interrupted after SIGTERM or Ctrl-C, when the state is written.
    """
    device = choose_device(cfg.DEVICE)
    with distributed.process_group(device), prepared_run(cfg, device, find_checkpoint(cfg, resume, overwrite)) as run:
        _train(run)
    return Path(cfg.OUTPUT_DIR)


def _train(run: Run) -> None:
    """Epochs, each followed by what the config asks for: evaluate, log, save."""
    cfg, folder, log, progress = run.cfg, run.folder, run.log, run.progress
    if distributed.is_main():
        atomic_write(folder / "config.yaml", lambda file: file.write(dump_config(cfg).encode()))
    log_summary(run)
    steps = len(run.batches)
    done = progress.epoch * steps + progress.step
    bar = tqdm(total=cfg.TRAIN.EPOCHS * steps, initial=done, unit="step", disable=not show_bar())
    while progress.epoch < cfg.TRAIN.EPOCHS:
        _train_epoch(run, progress, bar)
        epoch, best, improved = progress.epoch + 1, progress.best, False
        if epoch % cfg.TRAIN.EVAL_EVERY == 0 or epoch == cfg.TRAIN.EPOCHS:
            # An evaluation takes minutes; who is stopped in one has lost no step.
            _save(run, replace(progress, step=steps), LAST)
            score = _evaluate(run, step=epoch * steps - 1)
            improved, best = score > best, max(score, best)
        progress = Progress(epoch, 0, best)
        names = [BEST] * improved + [epoch_file(epoch)] * (cfg.TRAIN.KEEP_EPOCHS > 0) + [LAST]
        _save(run, progress, *names)
        asked = distributed.all_reduce_max(run.stop.signal, run.device)
        if asked and epoch < cfg.TRAIN.EPOCHS:
            raise _interrupted(run, asked, f"after {epoch * steps} steps")
    bar.close()
    _save_final(run, progress)
    log.info(
        f"checkpoints last.pt and best.pt, weights final.safetensors, log.txt, metrics.jsonl, pictures and tensorboard "
        f"are in {folder}"
    )
    log.info(f"next: python tools/test.py --cfg {folder / 'config.yaml'} --checkpoint {folder / 'best.pt'}")


def _train_epoch(run: Run, progress: Progress, bar: tqdm) -> None:
    """The steps of the epoch that are not done yet."""
    cfg, epoch, steps = run.cfg, progress.epoch, len(run.batches)
    run.batches.epoch, run.batches.first = epoch, progress.step
    run.network.train()
    for module in run.frozen:
        module.eval()
    clock, persons = DataTimer(), 0
    losses: list[float] = []
    pending: list[tuple[torch.Tensor, torch.Tensor]] = []
    for step, batch in enumerate(clock.wrap(run.loader), start=epoch * steps + progress.step):
        batch = decode_on_device(batch, run.dataset, run.device)
        report_problems([p for p in batch.problems if p], cfg.DATASET.ON_ERROR, run.log.info)
        rate = lr_at(cfg, epoch, step, run.rate, steps)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        loss = forward_and_backward(run, batch)
        update_weights(run, step)
        if step == 0:
            _picture_first_batch(run, batch)
        run.records.write(step, epoch, batch.rows)
        # The loss stays on the device until a few are read at once: reading waits for the device.
        pending.append((loss, batch.rows))
        persons += len(batch.rows) * distributed.world_size()
        in_epoch = step + 1 - epoch * steps
        saves = cfg.TRAIN.SAVE_EVERY and (step + 1) % cfg.TRAIN.SAVE_EVERY == 0 and in_epoch < steps
        # Several processes agree on a stop when they meet to read; one alone need not wait for that.
        stops = run.stop.signal and distributed.world_size() == 1
        if len(pending) == cfg.TRAIN.LOG_EVERY or in_epoch == steps or saves or stops:
            read = _read_losses(run, pending, step)
            pending, losses = [], losses + read
            for number, value in enumerate(read, start=step + 1 - len(read)):
                lr = lr_at(cfg, epoch, number, run.rate, steps)
                run.log.metrics(number, train={"loss": value, "lr": lr, "epoch": epoch})
            speed = persons / clock.seconds
            bar.set_postfix_str(f"epoch {epoch + 1} loss {read[-1]:.2e} lr {rate:.1e} {speed:.0f} persons/s", False)
            bar.update(len(read))
            asked = distributed.all_reduce_max(run.stop.signal, run.device)
            if saves or asked:
                _save(run, replace(progress, step=in_epoch), LAST)
            if asked:
                raise _interrupted(run, asked, f"after {step + 1} steps")
    if losses:
        since = f" since step {progress.step}" if progress.step else ""
        run.log.info(
            f"epoch {epoch + 1}/{cfg.TRAIN.EPOCHS}{since}: loss {sum(losses) / len(losses):.3e}, lr {rate:.1e}, "
            f"{speed:.0f} persons/s, {100 * clock.share:.0f} % of the time waiting for data"
        )
        run.log.metrics(step, speed={"persons_per_second": speed, "loading_share": clock.share})


def forward_and_backward(run: Run, batch: Batch) -> torch.Tensor:
    """The batch's loss, on the device. Its gradient, with DDP the mean over processes, is in the parameters."""
    cfg, size = run.cfg, len(batch.rows)
    # Targets are made on the device, from a few coordinates per person.
    joints, visible = (t.to(run.device, non_blocking=True) for t in (batch.joints, batch.visible))
    targets, weights = run.codec.encode(joints, visible)
    run.optimizer.zero_grad(set_to_none=True)
    parts = list(zip(*(t.chunk(cfg.TRAIN.ACCUMULATE) for t in (batch.crops, targets, weights)), strict=True))
    total = torch.zeros((), device=run.device)
    for number, (crops, part_targets, part_weights) in enumerate(parts, start=1):
        with _without_exchange(run.network) if number < len(parts) else nullcontext():
            with autocast(cfg.TRAIN.PRECISION, run.device):
                outputs = run.network(run.normalize(crops))
            # The loss is a mean over persons: each part counts by its number of them.
            loss = run.loss(outputs, part_targets, part_weights) * (len(crops) / size)
            run.scaler.scale(loss).backward()
        total += loss.detach()
    return total


def _without_exchange(network: nn.Module) -> Any:
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


def update_weights(run: Run, step: int) -> None:
    """The optimiser's step, and what the config asks for around it. step: over the whole run, from 0."""
    if run.cfg.TRAIN.CLIP_GRAD_NORM:
        run.scaler.unscale_(run.optimizer)
        nn.utils.clip_grad_norm_(run.model.parameters(), run.cfg.TRAIN.CLIP_GRAD_NORM)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    if run.average:
        run.average.update(run.model, step)


def _read_losses(run: Run, pending: list[tuple[torch.Tensor, torch.Tensor]], step: int) -> list[float]:
    """The losses of the steps up to this one, averaged over processes; one that is not finite ends the run."""
    losses = distributed.all_reduce_mean(torch.stack([loss for loss, _ in pending])).tolist()
    rows, first = [rows for _, rows in pending], step + 1 - len(pending)
    ids = run.dataset.persons.annotation_ids
    check_finite(run.model, first, losses, rows, ids, run.folder / NOT_FINITE)
    return losses


def _save(run: Run, progress: Progress, *names: str) -> None:
    """Write the state under each name. Every process calls it, the main one writes."""
    model = run.average.model if run.average else run.model
    training = training_state(progress, run.batches, run.model if run.average else None, run.scaler)
    if distributed.is_main():
        run.log.flush()
        where = (progress.epoch, progress.best)
        content = checkpoint_content(run.cfg, run.spec, model, run.optimizer, *where, training)
        for name in names:
            save_checkpoint(run.folder / name, content)
        prune_checkpoints(run.folder, run.cfg.TRAIN.KEEP_EPOCHS)


def _save_final(run: Run, progress: Progress) -> None:
    """The weights as they are at the end, for other programs."""
    if distributed.is_main():
        model = run.average.model if run.average else run.model
        content = checkpoint_content(run.cfg, run.spec, model, None, progress.epoch, progress.best)
        save_safetensors(run.folder / FINAL, content)


def _interrupted(run: Run, asked: int, where: str) -> Interrupted:
    message = (
        f"stopped by {Signals(asked).name} {where}; the state is in {run.folder / LAST}: go on with the same command "
        "and --resume (or AUTO_RESUME true)"
    )
    run.log.info(message)
    return Interrupted(message, asked)


def _unless_stopped(run: Run, predictor: Predictor) -> Predictor:
    """The predictor, which ends the evaluation where the run is asked to stop: it begins anew after a resume."""

    def predict(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # Each process by itself: all of them are sent the signal, and those that wait for one are ended by torchrun.
        if run.stop.signal:
            raise _interrupted(run, run.stop.signal, "in an evaluation")
        return predictor(batch)

    return predict


def _evaluate(run: Run, step: int) -> float:
    """AP or PCKh of the model as it stands, with its table in the log and its picture in the folder."""
    cfg, skeleton = run.cfg, run.skeleton
    model = run.average.model if run.average else run.model
    # Each process's BatchNorm has its own running statistics; the main one's are those that are saved.
    distributed.broadcast_buffers(model)
    predictor = model_predictor(model, run.codec, run.normalize, skeleton, cfg.TEST.FLIP, cfg.TEST.PRECISION)
    outcome = evaluate(cfg, run.test_set, _unless_stopped(run, predictor), skeleton, cfg.TEST.FLIP, run.log.info)
    run.log.info(format_table([outcome.evaluation]))
    run.log.metrics(step, test={run.test_set.protocol: outcome.evaluation.stats})
    if distributed.is_main():
        gates = gate_deviations(model, run.test_set.dataset, run.normalize)
        if gates:
            run.log.metrics(step, gates=gates)
    if distributed.is_main() and outcome.crops:
        sheet = prediction_sheet(outcome.crops, skeleton, cfg.TEST.KEYPOINT_SCORE)
        write_picture(run.folder / "pictures" / "predictions.png", sheet)
        run.log.picture(step, "predictions", sheet)
    return outcome.evaluation.score


def _picture_first_batch(run: Run, batch: Batch) -> None:
    """The augmented crops of the run's first batch beside their targets."""
    if distributed.is_main():
        targets, _ = run.codec.encode(batch.joints, batch.visible)
        crops = picture_crops(batch, targets, run.cfg.INPUT.CHANNEL_ORDER)
        sheet = target_sheet(crops, run.skeleton)
        write_picture(run.folder / "pictures" / "train_crops.png", sheet)
        run.log.picture(0, "train_crops", sheet)
