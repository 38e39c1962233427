"""Every config file of the repository loads, and is what its name says."""

from pathlib import Path

import pytest
import torch
import yaml

from psa_pose.config import load_config
from psa_pose.models import build_model

CONFIGS = Path(__file__).parents[2] / "configs"
TABLES = CONFIGS / "coco/paper_tables.yaml"
FILES = sorted(path for path in CONFIGS.rglob("*.yaml") if path != TABLES)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_config_loads_builds_and_says_what_it_is(path):
    cfg = load_config(path)
    assert path.read_text().startswith("# ")
    if path.parent.name == "coco":
        width, height = cfg.INPUT.SIZE
        assert f"{height}x{width}" in path.stem
        attention = cfg.MODEL.ATTENTION.NAME
        assert path.stem.endswith(attention) or attention == "none"
        assert cfg.DATASET.TEST_DETECTIONS
    with torch.device("meta"):
        build_model(cfg)


def test_every_row_of_the_paper_has_its_config():
    tables = yaml.safe_load(TABLES.read_text())
    named = {row["config"] for table in tables.values() for row in table["rows"]}
    assert list(tables) == ["1", "2", "4", "6"]
    assert named <= {path.stem for path in FILES}
