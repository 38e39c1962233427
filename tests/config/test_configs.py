"""Every config of the repository loads, and is what its name says."""

from pathlib import Path

import pytest
import yaml

from psa_pose.config import dump_config, load_config
from psa_pose.config.names import config_folder, config_names
from psa_pose.models import build_model
from psa_pose.models.complexity import shapes_alone
from psa_pose.paper.complexity import read_rows

ROOT = Path(__file__).parents[2]
NAMES = config_names()
COCO = [name for name in NAMES if name.startswith("coco/")]


@pytest.mark.parametrize("name", NAMES)
def test_config_loads_builds_and_says_what_it_is(name):
    cfg = load_config(name)
    assert (config_folder() / f"{name}.yaml").read_text().startswith("# ")
    if name in COCO:
        _, folder, stem = name.split("/")
        width, height = cfg.INPUT.SIZE
        assert stem.startswith(f"{folder}_")
        assert f"{height}x{width}" in stem
        attention = cfg.MODEL.ATTENTION.NAME
        assert stem.endswith(attention) or attention == "none"
        assert cfg.DATASET.TEST_DETECTIONS
    else:
        # Those of configs/coco are built where their multiply-adds are counted.
        with shapes_alone():
            build_model(cfg)


def test_the_folder_is_whole():
    assert config_folder() == ROOT / "configs"
    assert len(COCO) == 34
    # A run is named after the last part.
    assert len({name.rpartition("/")[2] for name in NAMES}) == len(NAMES)


def test_a_like_for_like_row_differs_in_one_key():
    rows = [row for number in tables() for row in read_rows(number, ROOT)[1]]
    changed = [row for row in rows if row.overrides]
    assert changed == [row for row in rows if row.like_for_like]
    for row in changed:
        (key, value), was = row.overrides, load_config(row.config).MODEL
        assert (key, value, bool(was.PRETRAINED)) in (
            ("MODEL.PRETRAINED", "", True),
            ("MODEL.PRETRAINED", "imagenet", False),
            ("MODEL.ATTENTION.SPATIAL", "fig2", bool(was.PRETRAINED)),
        )
        assert was.ATTENTION.SPATIAL == ""
        assert row.name.endswith({"": "no ImageNet", "imagenet": ", ImageNet", "fig2": "Fig. 2"}[value])
        assert not row.printed


def test_a_row_with_attention_has_its_baseline_under_the_same_protocol():
    """For every config with attention there is one without it, or a row, that starts from the same weights."""
    known = {}
    rows = [row for number in tables() for row in read_rows(number, ROOT)[1] if "MODEL.PRETRAINED" in row.overrides]
    for name, words in [*((name, ()) for name in COCO), *((row.config, row.overrides) for row in rows)]:
        cfg = load_config(name, words).clone()
        cfg.defrost()
        network = cfg.MODEL.ATTENTION.NAME
        cfg.MODEL.ATTENTION = load_config("coco/hrnet/hrnet_w32_256x192").MODEL.ATTENTION
        cfg.OUTPUT_DIR = ""
        known.setdefault(dump_config(cfg), set()).add((name, network))
    for group in known.values():
        assert any(network == "none" for _, network in group), group


def tables():
    return yaml.safe_load((ROOT / "configs/paper/tables.yaml").read_text())


def test_every_row_of_the_paper_has_its_config():
    assert list(tables()) == ["1", "2", "4", "6"]
    assert {row.config for number in tables() for row in read_rows(number, ROOT)[1]} <= set(NAMES)
