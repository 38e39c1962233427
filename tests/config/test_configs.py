"""Every config file of the repository loads, and is what its name says."""

from pathlib import Path

import pytest
import torch
import yaml

from psa_pose.config import dump_config, load_config
from psa_pose.models import build_model

CONFIGS = Path(__file__).parents[2] / "configs"
TABLES = CONFIGS / "coco/paper_tables.yaml"
LISTS = (TABLES, CONFIGS / "coco/published.yaml")
FILES = sorted(path for path in CONFIGS.rglob("*.yaml") if path not in LISTS)
# End of the name of a like-for-like config -> the only key in which it differs from the config without it.
LIKE_FOR_LIKE = {"_scratch": "PRETRAINED", "_imagenet": "PRETRAINED", "_fig2": "SPATIAL"}


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_config_loads_builds_and_says_what_it_is(path):
    cfg = load_config(path)
    assert path.read_text().startswith("# ")
    if path.parent.name == "coco":
        width, height = cfg.INPUT.SIZE
        assert f"{height}x{width}" in path.stem
        attention = cfg.MODEL.ATTENTION.NAME
        assert without_suffix(path.stem)[0].endswith(attention) or attention == "none"
        assert cfg.DATASET.TEST_DETECTIONS
    else:
        # Those of configs/coco are built where their multiply-adds are counted.
        with torch.device("meta"):
            build_model(cfg)


def without_suffix(name):
    for suffix in LIKE_FOR_LIKE:
        if name.endswith(suffix):
            return name.removesuffix(suffix), suffix
    return name, ""


def test_a_like_for_like_config_differs_in_one_key():
    found = [(path, *without_suffix(path.stem)) for path in FILES]
    found = [(path, base, suffix) for path, base, suffix in found if suffix]
    for path, base, suffix in found:
        texts = [dump_config(load_config(path.with_name(f"{name}.yaml"))) for name in (path.stem, base)]
        ours, theirs = ({line for line in text.splitlines() if "OUTPUT_DIR" not in line} for text in texts)
        changed = [next(iter(lines)).split(":")[1].strip() for lines in (ours - theirs, theirs - ours)]
        assert {line.split(":")[0].strip() for line in ours ^ theirs} == {LIKE_FOR_LIKE[suffix]}, path.stem
        wanted = {"_scratch": "''", "_imagenet": "imagenet", "_fig2": "fig2"}[suffix]
        assert changed[0] == wanted, path.stem
        assert (changed[1] == "''") == (suffix != "_scratch"), path.stem
        assert path.read_text().startswith("# Not in the paper: "), path.stem
    named = [row["config"] for table in tables().values() for row in table.get("like_for_like", [])]
    assert set(named) == {path.stem for path, _, _ in found}


def test_a_row_with_attention_has_its_baseline_under_the_same_protocol():
    """For every +PSA row there is the same config without it, started from the same weights."""
    known = {}
    for path in FILES:
        if path.parent.name == "coco":
            cfg = load_config(path).clone()
            cfg.defrost()
            network = cfg.MODEL.ATTENTION.NAME
            cfg.MODEL.ATTENTION = load_config(CONFIGS / "coco/hrnet_w32_256x192.yaml").MODEL.ATTENTION
            cfg.OUTPUT_DIR = ""
            known.setdefault(dump_config(cfg), set()).add((path.stem, network))
    for group in known.values():
        assert any(network == "none" for _, network in group), group


def tables():
    return yaml.safe_load(TABLES.read_text())


def test_every_row_of_the_paper_has_its_config():
    named = {row["config"] for table in tables().values() for row in table["rows"]}
    assert list(tables()) == ["1", "2", "4", "6"]
    assert named <= {path.stem for path in FILES}
