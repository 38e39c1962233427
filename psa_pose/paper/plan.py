"""From a row to the commands that train and test it, and what they are likely to cost."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yacs.config import CfgNode

from psa_pose.config import load_config
from psa_pose.errors import ConfigError
from psa_pose.models.complexity import config_complexity
from psa_pose.paper.complexity import Row
from psa_pose.training.output_dir import FINAL, LAST

# The published schedules are for four GPUs with TRAIN.BATCH_SIZE persons each; DeepLabV3+'s for one, HMSA's for eight.
PUBLISHED_GPUS = 4
_OTHER_GPUS = {"deeplabv3plus": 1, "hrnet_ocr_hmsa": 8}
# COCO's persons: to train on (no crowd, with a keypoint), and of val2017 with annotated and with detector boxes.
TRAIN_PERSONS, TEST_PERSONS, TEST_BOXES = 149_813, 6_352, 104_125


@dataclass(frozen=True)
class Plan:
    """How rows are run.

    root: what holds the folder of configs.
    out: what holds a folder per row.
    data: DATASET.ROOT; None: the configs'.
    gpus: processes.
    overrides: "KEY", "value", ... of every row.
    page: the test writes its HTML page too.
    """

    root: Path
    out: Path
    data: Path | None = None
    gpus: int = 1
    overrides: tuple[str, ...] = ()
    page: bool = True


@dataclass(frozen=True)
class Step:
    """One command.

    done: the file that it leaves when it is complete; None: it is run again.
    """

    name: str
    command: list[str]
    done: Path | None = None


@dataclass(frozen=True)
class Job:
    """Steps of one run, whose last one tests.

    folder: OUTPUT_DIR.
    cfg: as the steps load it.
    processes: of a step.
    cost: in any unit, to foresee time.
    executed: multiply-adds per image that are computed.
    extra: what tells the run apart beside its config.
    """

    name: str
    folder: Path
    cfg: CfgNode
    processes: int
    steps: list[Step]
    cost: float
    executed: int = 0
    extra: dict[str, str] = field(default_factory=dict)


def row_job(plan: Plan, row: Row) -> Job:
    """The commands of a row. Raises ConfigError for overrides that its config cannot take."""
    folder, file = plan.out / row.folder, row.file(plan.root)
    keys = [*row.overrides, *batch_keys(plan, row.load(plan.root)), *common_keys(plan, folder)]
    cfg = load_config(file, keys)
    executed = config_complexity(cfg).executed
    steps = run_steps(plan, file, folder, keys)
    return Job(row.name, folder, cfg, plan.gpus, steps, float(executed * cfg.TRAIN.EPOCHS), executed)


def run_steps(plan: Plan, file: Path, folder: Path, keys: Sequence[str]) -> list[Step]:
    """The commands that train a config, or go on with it, and test it; folder: its OUTPUT_DIR.

    The weights after the last epoch are tested: the best ones were chosen by their AP on the split that is tested.
    """
    train = [*_launch(plan, "train"), "--cfg", str(file), "--resume", *keys]
    return [Step("train", train, folder / FINAL), test_step(plan, file, folder / LAST, keys)]


def test_step(plan: Plan, file: Path, checkpoint: Path, keys: Sequence[str]) -> Step:
    """The command that tests a checkpoint under both box protocols."""
    page = [] if plan.page else ["--no-report"]
    words = ["--cfg", str(file), "--checkpoint", str(checkpoint), *page, *keys]
    return Step("test", [*_launch(plan, "test"), *words])


def common_keys(plan: Plan, folder: Path) -> list[str]:
    """The overrides of every command; those of the user come last and win."""
    data = ["DATASET.ROOT", str(plan.data)] if plan.data else []
    return ["OUTPUT_DIR", str(folder), *data, *plan.overrides]


def _launch(plan: Plan, command: str) -> list[str]:
    """The start of a command: itself, or as many of it as there are GPUs."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={plan.gpus}"] if plan.gpus > 1 else []
    return [sys.executable, *torchrun, "-m", "psa_pose", command]


def batch_keys(plan: Plan, cfg: CfgNode) -> list[str]:
    """TRAIN.BATCH_SIZE and TRAIN.ACCUMULATE with the effective batch that was published for four GPUs.

    On one or two, a batch is computed in parts of the published size, so that BatchNorm sees as many persons.
    """
    if "TRAIN.BATCH_SIZE" in plan.overrides:
        return []
    published = _OTHER_GPUS.get(cfg.MODEL.NAME, PUBLISHED_GPUS)
    effective = published * cfg.TRAIN.BATCH_SIZE
    if plan.gpus < 1 or effective % plan.gpus:
        raise ConfigError(
            f"--gpus {plan.gpus} cannot share the published batch of {effective} persons; use 1, 2, 4 or 8, or give "
            "TRAIN.BATCH_SIZE"
        )
    parts = published // plan.gpus if published % plan.gpus == 0 else 1
    return ["TRAIN.BATCH_SIZE", str(effective // plan.gpus), "TRAIN.ACCUMULATE", str(parts)]


def gpu_hours(job: Job, tflops: float) -> float:
    """An estimate for COCO: multiply-adds x persons, forward and backward counted as three forward passes.

    tflops: 10^12 operations per second that a GPU really does; a multiply-add is two.
    """
    cfg = job.cfg
    views = 2 if cfg.TEST.FLIP else 1
    evaluations = -(-cfg.TRAIN.EPOCHS // cfg.TRAIN.EVAL_EVERY)
    tested = views * (TEST_PERSONS * (evaluations + 1) + TEST_BOXES)
    passes = 3 * TRAIN_PERSONS * cfg.TRAIN.EPOCHS + tested
    return 2 * job.executed * passes / (tflops * 1e12) / 3600
