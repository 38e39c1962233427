"""Limits of numbers are allowed themselves, and what lies beyond is named; bases and overrides in their order."""

import pytest

from psa_pose.config import load_config
from psa_pose.config.check import _RANGES, check_config
from psa_pose.config.defaults import default_config
from psa_pose.errors import ConfigError


def with_value(key, value):
    config = default_config()
    *path, last = key.split(".")
    node = config
    for part in path:
        node = node[part]
    node[last] = value
    return config


def refused(key, value) -> bool:
    try:
        check_config(with_value(key, value))
    except ConfigError as error:
        return f"{key} is" in str(error) and "must lie between" in str(error)
    return False


@pytest.mark.parametrize("key", sorted(_RANGES))
def test_limits_are_inclusive(key):
    low, high = _RANGES[key]
    assert not refused(key, low)
    assert not refused(key, high)
    assert refused(key, low - 1e-3)
    assert refused(key, high + 1e-3)
    assert refused(key, float("nan"))


def test_the_nearest_file_and_then_the_command_line_decide(tmp_path):
    (tmp_path / "far.yaml").write_text("SEED: 1\nTRAIN: {BATCH_SIZE: 3, EPOCHS: 5}\n")
    (tmp_path / "near.yaml").write_text("_BASE_: far.yaml\nSEED: 2\nTRAIN: {EPOCHS: 6}\n")
    (tmp_path / "own.yaml").write_text("_BASE_: near.yaml\nTRAIN: {EPOCHS: 7}\n")
    cfg = load_config(tmp_path / "own.yaml", ["TRAIN.LOG_EVERY", "4", "TRAIN.LOG_EVERY", "8"])
    assert (cfg.SEED, cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.EPOCHS, cfg.TRAIN.LOG_EVERY) == (2, 3, 7, 8)
    assert load_config(tmp_path / "own.yaml", ["TRAIN.EPOCHS", "9", "SEED", "3"]).TRAIN.EPOCHS == 9


@pytest.mark.parametrize("wrong", [["TRAIN.LOG_EVERY", "true"], ["TEST.FLIP", "1"], ["SEED", "1.0"], ["SEED", "'1'"]])
def test_a_value_of_another_type_stands_for_none(tmp_path, wrong):
    (tmp_path / "own.yaml").write_text("SEED: 1\n")
    with pytest.raises(ConfigError, match="must be"):
        load_config(tmp_path / "own.yaml", wrong)


@pytest.mark.parametrize("size", [[200, 256], [192, 250], [200, 250]])
def test_both_sides_of_an_input_are_halved(tmp_path, size):
    (tmp_path / "own.yaml").write_text(f"INPUT: {{SIZE: {size}}}\n")
    with pytest.raises(ConfigError, match="multiples of 32"):
        load_config(tmp_path / "own.yaml")
