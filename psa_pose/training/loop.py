"""`tools/train.py`: one visible loop, on a CPU, a GPU, or as many processes as torchrun started, for every task."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import Any

from tqdm import tqdm

from psa_pose import distributed
from psa_pose.checkpoints import checkpoint_content
from psa_pose.checkpoints.safetensors_file import save_safetensors
from psa_pose.config import dump_config
from psa_pose.data.loader import DataTimer
from psa_pose.device import backends, prefetch
from psa_pose.distributed import progress_bar
from psa_pose.errors import Interrupted, PsaPoseError
from psa_pose.files import atomic_write
from psa_pose.run_log import report_problems, write_metrics_csv
from psa_pose.task import Task
from psa_pose.training.monitor import StepRecord, Told, check_finite, gate_deviations
from psa_pose.training.output_dir import BEST, FINAL, LAST, NOT_FINITE, epoch_file, find_checkpoint
from psa_pose.training.resume import Progress, training_state
from psa_pose.training.setup import Run, log_summary, prepared_run
from psa_pose.training.step import train_step


def run_train(task: Task, resume: bool = False, overwrite: bool = False) -> Path:
    """The folder with the checkpoints, the log and the pictures of a training as the task's config says.

    resume: go on where the run in OUTPUT_DIR was left. overwrite: start anew over it.
    Raises a PsaPoseError for wrong data, a run that is already there, or numbers that are no longer finite, and
    Interrupted after SIGTERM or Ctrl-C, when the state is written.
    """
    checkpoint = find_checkpoint(task.cfg, resume, overwrite)
    with distributed.process_group(task.device), prepared_run(task, checkpoint) as run:
        _train(run)
    return Path(task.cfg.OUTPUT_DIR)


def _train(run: Run) -> None:
    """Epochs, each followed by what the config asks for: evaluate, log, save."""
    cfg, folder, log, progress = run.cfg, run.folder, run.log, run.progress
    if distributed.is_main():
        atomic_write(folder / "config.yaml", lambda file: file.write(dump_config(cfg).encode()))
    log_summary(run)
    bar = progress_bar(total=run.total_steps, initial=run.first_step, unit="step")
    while progress.epoch < run.epochs and not _out_of_patience(run, progress):
        _train_epoch(run, progress, bar)
        epoch, best, improved, stale = progress.epoch + 1, progress.best, False, progress.stale
        if epoch % cfg.TRAIN.EVAL_EVERY == 0 or epoch == run.epochs:
            # An evaluation takes minutes; who is stopped in one has lost no step.
            save_run(run, replace(progress, step=run.steps_of(progress.epoch)), LAST)
            score = _evaluate(run, run.end_of(progress.epoch) - 1)
            improved, best = score > best, max(score, best)
            stale = 0 if improved else stale + 1
            if distributed.is_main():
                write_metrics_csv(folder)
        progress = Progress(epoch, 0, best, stale)
        names = [LAST] + [BEST] * improved + [epoch_file(epoch)] * (cfg.TRAIN.KEEP_EPOCHS > 0)
        save_run(run, progress, *names)
        signal = distributed.all_reduce_max(run.interrupt.signal, run.task.device)
        if signal and epoch < run.epochs:
            raise _interrupted(run, signal, f"after {run.end_of(epoch - 1)} steps")
    bar.close()
    _save_final(run, progress)
    log.info(
        f"checkpoints last.pt and best.pt, weights final.safetensors, log.txt, metrics.jsonl, metrics.csv, pictures "
        f"and tensorboard are in {folder}"
    )
    words = ["psa-pose", "test", "--cfg", folder / "config.yaml", "--checkpoint", folder / BEST]
    log.info(f"next: {shlex.join(map(str, words))}")


def _out_of_patience(run: Run, progress: Progress) -> bool:
    """Whether TRAIN.PATIENCE evaluations brought no better score. Every process has the same scores."""
    patience = run.cfg.TRAIN.PATIENCE
    if not patience or progress.stale < patience:
        return False
    run.log.info(
        f"stopped after {progress.epoch} of {run.epochs} epochs: {progress.stale} evaluations without a better score "
        f"than {100 * progress.best:.1f} (TRAIN.PATIENCE is {patience})"
    )
    return True


def _train_epoch(run: Run, progress: Progress, bar: tqdm) -> None:
    """The steps of the epoch that are not done yet."""
    cfg, task, epoch, end = run.cfg, run.task, progress.epoch, run.end_of(progress.epoch)
    start = epoch * run.steps_per_epoch
    run.batches.epoch, run.batches.first, run.batches.end = epoch, progress.step, run.steps_of(epoch)
    run.state.train_mode()
    run.waiting.start()
    timer, samples, losses = DataTimer(), 0, list[float]()
    pending, problems, signal = list[StepRecord](), list[str](), 0
    batches = prefetch(timer.wrap(run.loader), lambda batch: task.to_device(batch, run.dataset), task.device)
    for step, batch in enumerate(batches, start=start + progress.step):
        # An unusable sample is blank and counts for nothing: it can wait until the processes meet.
        problems += [problem for problem in batch.problems if problem]
        lr = run.lr_at(step)
        loss, targets = train_step(task, run.state, batch, step, lr)
        run.waiting.lap()
        if step == 0 and distributed.is_main():
            run.log.picture(0, "train_crops", task.picture(batch, targets))
        if step == run.first_step:
            # The optimiser's state is there from the first step on.
            prepare_saves(run)
        run.records.write(step, epoch, batch.rows)
        # The loss stays on the device until a few are told to the other processes at once.
        pending.append(StepRecord(step, lr, loss, batch.rows))
        samples += len(batch.rows) * distributed.world_size()
        saves = cfg.TRAIN.SAVE_EVERY and (step + 1) % cfg.TRAIN.SAVE_EVERY == 0 and step + 1 < end
        # Several processes agree on a stop when they meet; one alone need not wait for that.
        stops = distributed.world_size() == 1 and (run.interrupt.signal or problems)
        now = step + 1 == end or saves or stops
        if len(pending) == cfg.TRAIN.LOG_EVERY or now:
            known, signal = _log_point(run, pending, problems, epoch, bool(now))
            losses += known
            bar.update(len(pending))
            pending, problems, speed = [], [], samples / timer.seconds
            last = f"loss {losses[-1]:.2e} " if losses else ""
            bar.set_postfix_str(f"epoch {epoch + 1} {last}lr {lr:.1e} {speed:.0f} {task.unit}/s", False)
            if saves or signal:
                save_run(run, replace(progress, step=step + 1 - start), LAST)
            if signal:
                raise _interrupted(run, signal, f"after {step + 1} steps")
    if losses:
        since = f" since step {progress.step}" if progress.step else ""
        finite = [loss for loss in losses if math.isfinite(loss)]
        if not finite:
            raise PsaPoseError(f"no loss of epoch {epoch + 1} is finite in fp16; write TRAIN.PRECISION bf16 or fp32")
        run.log.info(
            f"epoch {epoch + 1}/{run.epochs}{since}: loss {sum(finite) / len(finite):.3e}, lr {lr:.1e}, "
            f"{speed:.0f} {task.unit}/s, {100 * timer.share:.0f} % of the time waiting for data"
        )
        run.log.metrics(step, speed={f"{task.unit}_per_second": speed, "loading_share": timer.share})


def _log_point(
    run: Run, pending: list[StepRecord], problems: list[str], epoch: int, now: bool
) -> tuple[list[float], int]:
    """Tell the other processes of some steps. The answer: the losses that came meanwhile, and the signal by which any
    process was asked to stop; 0: none was.

    now: wait for these steps' own, as before a save; where they are not deferred they are waited for anyway.
    """
    exchange = run.exchange
    answers = [exchange.receive()]
    exchange.send(pending, problems, run.interrupt.signal)
    if now or not exchange.deferred or (answers[0] and answers[0].signal):
        answers.append(exchange.receive())
    told = [answer for answer in answers if answer]
    try:
        for answer in told:
            _log_losses(run, answer, epoch)
    except PsaPoseError as error:
        error.agreed = True
        raise
    return [loss for answer in told for loss in answer.losses], max((answer.signal for answer in told), default=0)


def _log_losses(run: Run, told: Told, epoch: int) -> None:
    """Log what all processes say of some steps; unusable samples and numbers that are not finite may end the run."""
    if told.any_problem:
        problems = [problem for some in distributed.all_gather(told.problems) for problem in some]
        report_problems(problems, run.cfg.DATASET.ON_ERROR, run.log.info)
    check_finite(told, run.dataset.ids, run.folder / NOT_FINITE, run.state.scaler.is_enabled())
    for record, loss in zip(told.records, told.losses, strict=True):
        known = loss if math.isfinite(loss) else None
        run.log.metrics(record.step, train={"loss": known, "lr": record.lr, "epoch": epoch})


def _evaluate(run: Run, step: int) -> float:
    """The score of the model as it stands, with its table in the log and its picture in the folder."""
    task, model, log = run.task, run.state.evaluated, run.log

    def stop() -> None:
        # Each process by itself: all of them are sent the signal, and those that wait for one are ended by torchrun.
        if run.interrupt.signal:
            raise _interrupted(run, run.interrupt.signal, "in an evaluation")

    # Each process's BatchNorm has its own running statistics; the main one's are those that are saved.
    distributed.broadcast_buffers(model)
    with backends(run.cfg, task.device, training=False):
        result = task.evaluate(model, run.test_set, stop, log.info)
    log.info(task.table([result]))
    log.metrics(step, test={run.test_set.protocol: result.stats})
    if distributed.is_main():
        gates = gate_deviations(task, model, run.test_set.dataset)
        if gates:
            log.metrics(step, gates=gates)
        if result.picture is not None:
            log.picture(step, "predictions", result.picture)
    return result.score


def save_run(run: Run, progress: Progress, *names: str) -> None:
    """Write the state, as it is now, under each name. Every process calls it, the main one writes."""
    # Who goes on from this file has the main process's statistics of BatchNorm in every process.
    distributed.broadcast_buffers(run.state.model)
    content = _content(run, progress)
    if distributed.is_main():
        run.saver.save(content, *names)


def prepare_saves(run: Run) -> None:
    """Begin to make the memory for what is saved. Every process calls it, after the first step."""
    content = _content(run, run.progress)
    if distributed.is_main():
        run.saver.prepare(content)


def _content(run: Run, progress: Progress) -> dict[str, Any]:
    """A checkpoint's content, its tensors where they are. Every process calls it: each has its own generators."""
    state, where = run.state, (progress.epoch, progress.best)
    training = training_state(progress, run.batches, state.model if state.ema else None, state.scaler)
    return checkpoint_content(run.cfg, run.task.spec(), state.evaluated, state.optimizer, *where, training)


def _save_final(run: Run, progress: Progress) -> None:
    """The weights as they are at the end, for other programs. Every checkpoint is on the disk before."""
    run.saver.wait()
    if distributed.is_main():
        model = run.state.evaluated
        content = checkpoint_content(run.cfg, run.task.spec(), model, None, progress.epoch, progress.best)
        save_safetensors(run.folder / FINAL, content)


def _interrupted(run: Run, signal: int, where: str) -> Interrupted:
    run.saver.wait()
    message = (
        f"stopped by {Signals(signal).name} {where}; the state is in {run.folder / LAST}: go on with the same command "
        "and --resume (or AUTO_RESUME true)"
    )
    run.log.info(message)
    return Interrupted(message, signal)
