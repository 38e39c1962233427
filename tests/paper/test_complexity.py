"""The complexity columns of the paper's tables: recomputed, printed, and explained where they differ."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from psa_pose.config import load_config
from psa_pose.config.names import config_names
from psa_pose.errors import ConfigError
from psa_pose.models.complexity import GI, Complexity, config_complexity
from psa_pose.paper import complexity, plan
from psa_pose.paper.complexity import Row, complexity_row, format_rows, mismatches, read_rows, row_complexity
from psa_pose.paper.reproduce import Options, print_markdown

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def counted_once():
    """Many tests ask what the same networks cost."""
    with pytest.MonkeyPatch.context() as patch:
        counted = {}

        def once(cfg):
            model = cfg.MODEL.clone()
            model.defrost()
            model.PRETRAINED = ""
            key = (model.dump(), cfg.CODEC.NAME, cfg.INPUT.SIZE)
            if key not in counted:
                counted[key] = config_complexity(cfg)
            return counted[key]

        for module in (complexity, plan):
            patch.setattr(module, "config_complexity", once)
        yield once


# Config -> parameters in millions and multiply-adds / 2^30, recomputed with the official networks and released modules.
RECOMPUTED = {
    "simple_baseline_r50_256x192": (34.000, 8.991),
    "simple_baseline_r101_256x192": (52.992, 12.378),
    "simple_baseline_r152_256x192": (68.635, 15.765),
    "hrnet_w32_256x192": (28.536, 7.120),
    "hrnet_w48_256x192": (63.596, 14.614),
    "simple_baseline_r50_384x288": (34.000, 20.230),
    "simple_baseline_r50_384x288_psa_s": (36.131, 20.866),
    "simple_baseline_r50_384x288_psa_channel": (35.261, 20.445),
    "simple_baseline_r50_384x288_psa_spatial": (35.257, 20.652),
    "simple_baseline_r50_384x288_psa_p": (36.518, 20.866),
    "simple_baseline_r50_384x288_psa_s_plain": (36.518, 20.866),
    "simple_baseline_r152_384x288": (68.635, 35.470),
    "simple_baseline_r152_384x288_psa_p": (75.226, 37.456),
    "hrnet_w32_384x288": (28.536, 16.020),
    "hrnet_w32_384x288_psa_p": (31.364, 17.061),
    "hrnet_w48_384x288": (63.596, 32.882),
    "hrnet_w48_384x288_psa_p": (69.951, 35.214),
    "udp_w48_256x192_psa_p": (69.984, 15.723),
    "udp_w48_384x288_psa_p": (69.984, 35.374),
    "udp_w48_384x288_psa_s": (69.009, 35.373),
}

# Config -> the same of those that were not recomputed elsewhere, as they are here.
COUNTED = {
    "cpn_r50_256x192": (27.009, 6.152),
    "cpn_r50_256x192_ohkm": (27.009, 6.152),
    "dark_w32_256x192": (28.536, 7.120),
    "dark_w48_384x288": (63.596, 32.882),
    "hourglass_256x192": (23.661, 14.303),
    "simple_baseline_r101_384x288": (52.992, 27.850),
    "simple_baseline_r50_384x288_cbam": (34.320, 20.234),
    "simple_baseline_r50_384x288_dual": (35.576, 20.758),
    "simple_baseline_r50_384x288_efficient": (36.524, 21.074),
    "simple_baseline_r50_384x288_global_context": (34.323, 20.233),
    "simple_baseline_r50_384x288_non_local": (36.524, 21.074),
    "simple_baseline_r50_384x288_squeeze_excitation": (34.161, 20.230),
    "udp_w48_256x192": (63.596, 14.614),
    "udp_w48_384x288": (63.596, 32.882),
}


@pytest.fixture(scope="module")
def rows(counted_once):
    numbers = ("1", "2", "4", "6")
    return {n: [row_complexity(row, ROOT) for row in read_rows(n, ROOT)[1] if not row.like_for_like] for n in numbers}


def test_figures_of_every_config_are_the_recomputed_ones(rows, counted_once):
    counted = {}
    for table in rows.values():
        for row in table:
            counted[network(ROOT / row["config"])] = (row["params"], row["macs"])
    golden = RECOMPUTED | COUNTED
    # Like-for-like rows: other weights to start from, or another form of the spatial gate, change neither figure.
    changed = {(row.config, row.overrides) for n in rows for row in read_rows(n, ROOT)[1] if row.overrides}
    assert len(changed) == 24
    names = [name for name in config_names() if name.startswith("coco/")]
    assert {Path(name).name for name in names} == golden.keys()
    for name, words in [*((name, ()) for name in names), *changed]:
        key = network(name, words)
        if key not in counted:
            found = counted_once(load_config(name, words))
            counted[key] = (found.params, found.macs)
        millions, gi = golden[Path(name).name]
        params, macs = counted[key]
        assert params / 1e6 == pytest.approx(millions, abs=0.00051), (name, words)
        assert macs / GI == pytest.approx(gi, abs=0.00051), (name, words)


def network(config, overrides=()):
    """What of a config decides its figures: to count each network once."""
    cfg = load_config(config, overrides).clone()
    cfg.defrost()
    cfg.MODEL.PRETRAINED = ""
    return f"{cfg.MODEL} {cfg.INPUT.SIZE} {cfg.CODEC.NAME == 'udp_offset'}"


def test_every_printed_figure_is_reproduced_or_explained(rows):
    wrong = [(n, row["name"], mismatches(row)) for n, table in rows.items() for row in table if mismatches(row)]
    assert all(row["note"] for table in rows.values() for row in table if mismatches(row))
    assert [row for row in wrong if row[0] == "2"] == [
        ("2", "SimpleBaseline R50", ["Flops"]),
        ("2", "SimpleBaseline R152", ["Flops"]),
    ]
    assert [row for row in wrong if row[0] == "6"] == [("6", "SimpleBaseline R50", ["Flops"])]
    assert {name: what for n, name, what in wrong if "PSA" in name} == {
        "UDP W48 + PSA(p) 256x192": ["mPara"],
        "UDP W48 + PSA(p) 384x288": ["mPara"],
        "UDP W48 + PSA(s) 384x288": ["mPara"],
    }


def test_psa_as_executed_costs_almost_nothing(rows):
    plain, *others = rows["6"]
    added = {row["name"]: row["macs_reassociated"] / plain["macs"] - 1 for row in others}
    assert 0 < added["PSA(p)"] < 0.001
    assert added["NL"] > 0.5


def test_mark_and_note():
    right = complexity_row(Row("a", "a", {"mPara": 34.0, "Flops": 20.0}), Complexity(34_000_000, 20 * GI, 20 * GI))
    wrong = complexity_row(Row("b", "b", {"mPara": 34.0}, "a reason"), Complexity(34_060_000, 20 * GI, 20 * GI))
    assert (mismatches(right), mismatches(wrong)) == ([], ["mPara"])
    text = format_rows([right, wrong])
    assert "34.0*" in text
    assert "20.0*" not in text
    assert "(1) b: a reason" in text


def test_unknown_table_and_wrong_place(tmp_path):
    with pytest.raises(ConfigError, match=r"'7'.*1, 2, 3, 4, 5, 6"):
        read_rows("7", ROOT)
    with pytest.raises(ConfigError, match="install psa_pose again"):
        read_rows("2", tmp_path)


def run_tool(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [tool, *map(str, arguments)])
    runpy.run_path(str(ROOT / "tools" / tool), run_name="__main__")


def test_the_command_prints_and_writes_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_tool("complexity.py", monkeypatch, "--table", "6", "--json", "rows.json")
    assert "36.518" in capsys.readouterr().out
    written = json.loads((tmp_path / "rows.json").read_text())
    assert [row["name"] for row in written][:2] == ["SimpleBaseline R50", "A^ch"]
    assert written[3].keys() >= {"name", "config", "params", "macs", "macs_reassociated", "printed", "note"}
    assert written[3]["printed"]["Flops"] == 20.9


def test_the_command_takes_a_config_and_measures_it(tmp_path, monkeypatch, capsys):
    config = ROOT / "configs/synthetic/quickstart.yaml"
    arguments = ("--measure", "--batch", 1, "--rounds", 1, "--json", tmp_path / "r.json", "MODEL.WIDTH", "8")
    run_tool("complexity.py", monkeypatch, "--cfg", config, *arguments)
    assert "MiB" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "r.json").read_text())
    assert row["time_ms"] > 0
    assert 0.1 < row["memory_mib"] < 20


@pytest.mark.parametrize("table", ["2", "4", "6"])
def test_the_model_page_has_the_table(table, tmp_path):
    said = []
    print_markdown(plan.Plan(ROOT, tmp_path), Options(table, like_for_like=True), said.append)
    text = "".join(said).strip()
    assert text in (ROOT / "configs/README.md").read_text(), f"print it anew: reproduce.py --table {table} ..."
