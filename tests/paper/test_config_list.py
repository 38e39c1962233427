"""The list of configs: names, inputs, parameters, and the published figures as the configs state them."""

import re
from pathlib import Path

import pytest

from psa_pose.__main__ import main
from psa_pose.config import load_config
from psa_pose.config.names import config_names
from psa_pose.errors import ConfigError
from psa_pose.models import build_model
from psa_pose.models.complexity import meta_model, shapes_alone
from psa_pose.paper.complexity import read_rows
from psa_pose.paper.config_list import ConfigRow, format_configs, list_configs, published

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows():
    return {row.name: row for row in list_configs()}


def test_every_config_is_listed_with_what_it_is(rows):
    assert list(rows) == config_names()
    boxes = "74.4 AP with the 56.4-AP detector's boxes, 76.5 AP with ground-truth boxes"
    name = "coco/hrnet/hrnet_w32_256x192"
    assert rows[name] == ConfigRow(name, (192, 256), 28_536_113, boxes)
    assert rows["coco/udp/udp_w48_384x288_psa_p"].published == "79.5 AP, captioned test-dev, box protocol in doubt"
    assert rows["mpii/hrnet_w32_256x256"].published.endswith("takes at 0.11 (valid, flip test)")
    assert rows["synthetic/quickstart"].published == ""
    # The network is that of the config, its joints too.
    with shapes_alone():
        model = build_model(load_config("mpii/hrnet_w32_256x256"))
    assert rows["mpii/hrnet_w32_256x256"].params == sum(p.numel() for p in model.parameters()) == 28_536_113 - 33


def test_figures_begin_as_the_tables_print_them(rows):
    """But for the rows whose baselines another paper measured with other boxes, as the configs say."""
    differ = set()
    for number in ("2", "4", "6"):
        for row in (row for row in read_rows(number, ROOT)[1] if not row.like_for_like):
            told = re.match(r"([\d.]+) AP", rows[row.config].published)
            if float(told[1]) != row.printed["AP"]:
                differ.add(row.name)
    assert differ == {"HRNet-W48 256x192", "UDP W48 384x288"}


def test_a_word_chooses_and_a_wrong_one_is_answered(rows):
    chosen = list_configs("R50_384x288_PSA")
    assert [row.name.rpartition("288_")[2] for row in chosen] == [
        *("psa_channel", "psa_p", "psa_s", "psa_s_plain", "psa_spatial"),
    ]
    lines = format_configs(chosen).splitlines()
    assert lines[3].split()[:3] == ["coco/simple_baseline/simple_baseline_r50_384x288_psa_p", "384x288", "36.518"]
    with pytest.raises(ConfigError, match=r"has 'quikstart' in its name; did you mean synthetic/quickstart\?"):
        list_configs("quikstart")


def test_only_the_first_lines_tell():
    assert published("# A. Expected: 1.5 AP (x). More 2.5 AP.\nSEED: 1\n# Expected: 3 AP.\n") == "1.5 AP (x)"
    assert published("# A. Expected on val, single\n# scale (arXiv 1): 80.1 mIoU.\n") == "80.1 mIoU (val, single scale)"
    assert published("SEED: 1\n# Expected: 3 AP.\n") == ""


def test_a_network_of_shapes_alone_draws_no_weights():
    cfg = load_config("synthetic/quickstart")
    model = meta_model(cfg)
    assert all(p.is_meta for p in model.parameters())
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert shapes == {name: p.shape for name, p in build_model(cfg).named_parameters()}


def test_the_command_lists_what_a_word_chooses(capsys):
    main(["configs", "dark_w32"])
    assert "coco/dark/dark_w32_256x192  256x192  28.536" in capsys.readouterr().out
