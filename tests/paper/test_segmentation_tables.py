"""Tables 3 and 5: the sizes that are printed, and where they do not come out."""

from pathlib import Path

import pytest

from psa_pose.config import load_config
from psa_pose.files import read_json
from psa_pose.models.complexity import GI
from psa_pose.paper.complexity import flops, format_rows, mismatches, read_rows, row_complexity
from psa_pose.paper.plan import Plan
from psa_pose.paper.reproduce import Options, reproduce_table

ROOT = Path(__file__).parents[2]

# Millions of parameters, Flops of the table's own rule.
TABLE_3 = {
    "DeepLabV3+ MobileNet": (5.2257, 16.913),
    "DeepLabV3+ R50": (39.7618, 62.530),
    "DeepLabV3+ R50 + PSA": (42.2806, 65.188),
    "DeepLabV3+ R101": (58.7540, 83.212),
    "DeepLabV3+ R101 + PSA": (63.5053, 87.696),
    "DeepLabV3+ MobileNet + PSA, outputs": (5.396, 17.067),
    "DeepLabV3+ MobileNet + PSA, inputs": (5.2295, 17.057),
}
TABLE_5 = {
    "HRNetV2-W48": (65.859, 696.18),
    "HRNetV2-W48 + OCR": (70.373, 1206.37),
    "HRNetV2-W48 + OCR(MA)": (72.143, 7467.6),
    "HRNetV2-OCR + PSA(p)": (78.499, 7699.7),
    "OCR + PSA(p), one scale": (76.728, 1250.58),
    "OCR + PSA(s), one scale": (75.757, 1250.58),
    "OCR(MA), scales 0.5 and 1": (72.143, 1778.0),
    "PSA(p), scales 0.5 and 1": (78.499, 1833.3),
    "PSA(s), scales 0.5 and 1": (77.528, 1833.3),
}


@pytest.fixture(scope="module")
def rows():
    return {
        number: {row.name: row_complexity(row, ROOT) for row in read_rows(number, ROOT)[1] if not row.like_for_like}
        for number in ("3", "5")
    }


@pytest.mark.parametrize(("number", "sizes"), [("3", TABLE_3), ("5", TABLE_5)])
def test_sizes_are_those_of_the_published_networks(rows, number, sizes):
    for name, (millions, gigas) in sizes.items():
        row = rows[number][name]
        assert row["params"] / 1e6 == pytest.approx(millions, abs=6e-4), name
        assert flops(row, "macs") == pytest.approx(gigas, abs=6e-2 if gigas > 1000 else 6e-3), name
    if number == "5":
        assert flops(row, "macs") == row["macs"] / GI


def test_what_does_not_come_out_is_marked_and_explained(rows):
    wrong = {name: mismatches(row) for name, row in rows["3"].items() if mismatches(row)}
    assert wrong == {"DeepLabV3+ MobileNet": ["mPara"], "DeepLabV3+ MobileNet + PSA": ["mPara", "Flops"]}
    assert all(rows["3"][name]["note"] for name in wrong)
    text = format_rows(list(rows["3"].values()))
    assert "17.1*" in text
    assert "2 x elements" in text


def test_reassociated_psa_adds_next_to_nothing(rows):
    for number, base, psa in (
        ("3", "DeepLabV3+ R50", "DeepLabV3+ R50 + PSA"),
        ("3", "DeepLabV3+ R101", "DeepLabV3+ R101 + PSA"),
        ("5", "HRNetV2-W48 + OCR", "OCR + PSA(p), one scale"),
        ("5", "HRNetV2-W48 + OCR(MA)", "HRNetV2-OCR + PSA(p)"),
    ):
        plain, gated = (flops(rows[number][name], "macs_reassociated") for name in (base, psa))
        assert 1 < gated / plain < 1.005, psa


def test_fair_pairs_are_trained_alike():
    found = {row.name: row for number in ("3", "5") for row in read_rows(number, ROOT)[1]}
    pairs = {
        "DeepLabV3+ MobileNet, 39,000 steps": "DeepLabV3+ MobileNet + PSA",
        "DeepLabV3+ R50, 39,000 steps": "DeepLabV3+ R50 + PSA",
        "DeepLabV3+ R101, 39,000 steps": "DeepLabV3+ R101 + PSA",
        "HRNetV2-W48 + OCR(MA), 228 epochs": "HRNetV2-OCR + PSA(p)",
    }
    assert set(pairs) == {name for name, row in found.items() if row.like_for_like}
    for plain, psa in pairs.items():
        a, b = (load_config(found[name].config, found[name].overrides).clone() for name in (plain, psa))
        assert a.MODEL.ATTENTION.NAME == "none"
        for cfg in (a, b):
            cfg.defrost()
            cfg.OUTPUT_DIR = ""
            cfg.MODEL.ATTENTION.NAME, cfg.MODEL.ATTENTION.WHERE = "", ""
        assert a == b


@pytest.mark.slow
@pytest.mark.parametrize(("table", "name"), [("3", "DeepLabV3+ MobileNet + PSA"), ("5", "HRNetV2-OCR + PSA(s)")])
def test_a_trial_takes_a_step_and_tests_a_picture(table, name, tmp_path):
    said = []
    reproduce_table(Plan(ROOT, tmp_path), Options(table, [name], smoke=True), said.append)
    (row,) = (row for row in read_json(tmp_path / f"table_{table}.json", "table")["rows"] if row["name"] == name)
    assert row["status"] == "complete"
    assert all("miou" in evaluation["stats"] for evaluation in row["ours"].values())
    assert "the table is in" in said[-1]
