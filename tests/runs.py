"""Whole trainings and tests from a config, and what they leave."""

import json
from pathlib import Path

from psa_pose.evaluation.test import run_test as test_task
from psa_pose.tasks import build_task
from psa_pose.training.loop import run_train as train_task


def run_train(cfg, **options) -> Path:
    """The folder of a finished training."""
    return train_task(build_task(cfg), **options)


def run_test(cfg, checkpoint=None, *arguments, **options):
    """The evaluation of every protocol."""
    return [result.evaluation for result in test_task(build_task(cfg), checkpoint, *arguments, **options)]


def json_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
