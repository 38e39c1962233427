"""The model page's tables are those that the configs give."""

from pathlib import Path

import pytest

from psa_pose.paper.plan import Plan
from psa_pose.paper.reproduce import Options, print_markdown

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("table", ["2", "4", "6"])
def test_the_page_has_the_table(table, tmp_path):
    said = []
    print_markdown(Plan(ROOT, tmp_path), Options(table, like_for_like=True), said.append)
    text = "".join(said).strip()
    assert text in (ROOT / "configs/README.md").read_text(), f"print it anew: reproduce.py --table {table} ..."
