"""Experiment trackers (TRAIN.TRACKER): the figures of a run, sent to Weights & Biases or MLflow."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from psa_pose.errors import ConfigError, PsaPoseError
from psa_pose.files import read_json, write_json

PROJECT = "psa_pose"
"""What the project, or the experiment, is called there."""

RUN_FILE = "tracker.json"
"""In the folder of a run: by which id each tracker knows it, so that a run that goes on is the same one there."""


class TrackerError(PsaPoseError):
    """A tracker that does not take what it is sent."""


class Tracker(Protocol):
    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures by name, such as train/loss. Raises TrackerError where they cannot be sent."""

    def close(self) -> None: ...


def open_tracker(name: str, folder: Path, config: str, go_on: bool) -> Tracker:
    """The tracker of that name, with a run called as the folder is.

    config: YAML, kept beside the figures. go_on: with the run that the folder had there before.
    Raises ConfigError where its package is not installed, or it does not start.
    """
    known = read_json(folder / RUN_FILE, "file of run ids") if go_on and (folder / RUN_FILE).exists() else {}
    try:
        tracker, run_id = TRACKERS[name](folder, config, known.get(name, ""))
    except ImportError:
        raise ConfigError(
            f'TRAIN.TRACKER is {name!r} but its package is not installed; pip install "psa_pose[{name}]", or write '
            "TRAIN.TRACKER none"
        ) from None
    write_json(folder / RUN_FILE, {name: run_id})
    return tracker


class _Wandb:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        # Its own steps may not go back, as those of a run that goes on from a checkpoint do.
        self._run.log({"step": step, **figures})

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            for name, value in figures.items():
                # It takes no other signs in a name than these: PCK@0.2 becomes PCK_0.2.
                self._client.log_metric(self._run_id, re.sub(r"[^\w\-. /]", "_", name), value, step=step)
        except MlflowException as error:
            raise TrackerError(f"mlflow does not take the figures of step {step} ({_first_line(error)})") from None

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


def _open_wandb(folder: Path, config: str, run_id: str) -> tuple[Tracker, str]:
    import wandb
    import yaml

    run_id = run_id or uuid.uuid4().hex[:8]
    try:
        run = wandb.init(
            project=PROJECT, name=folder.name, dir=str(folder), id=run_id, resume="allow", config=yaml.safe_load(config)
        )
    except wandb.Error as error:
        raise ConfigError(
            f"TRAIN.TRACKER 'wandb' does not start ({_first_line(error)}); run `wandb login`, or set WANDB_MODE=offline"
        ) from None
    run.define_metric("*", step_metric="step")
    return _Wandb(run), run_id


def _open_mlflow(folder: Path, config: str, run_id: str) -> tuple[Tracker, str]:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient()
        if run_id:
            client.update_run(run_id, "RUNNING")
        else:
            found = client.get_experiment_by_name(PROJECT)
            experiment = found.experiment_id if found else client.create_experiment(PROJECT)
            run_id = client.create_run(experiment, run_name=folder.name).info.run_id
            client.log_text(run_id, config, "config.yaml")
    except MlflowException as error:
        raise ConfigError(
            f"TRAIN.TRACKER 'mlflow' does not start ({_first_line(error)}); check MLFLOW_TRACKING_URI"
        ) from None
    return _Mlflow(client, run_id), run_id


TRACKERS: dict[str, Callable[[Path, str, str], tuple[Tracker, str]]] = {"wandb": _open_wandb, "mlflow": _open_mlflow}
"""Name -> what opens it: folder, config as YAML, id of the run to go on with or "" -> the tracker and the run's id."""


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
