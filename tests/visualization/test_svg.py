from xml.etree import ElementTree

import pytest

from psa_pose.visualization import svg


def test_differences_stand_where_the_axis_says():
    spans = {"psa_p": [(1.0, -1.0, 4.0), (-2.0, -4.0, 0.0)], "a & b": [(0.0, -0.5, 0.5), (2.0, 1.0, 3.0)]}
    root = ElementTree.fromstring(svg.differences(["head", "wrist"], spans, "percent points"))
    dots = [circle for circle in root.findall("{*}circle") if circle.get("cy") != "32"]
    ticks = {t.text: float(t.get("x")) for t in root.findall("{*}text") if t.get("text-anchor") == "middle"}
    unit = ticks["+1"] - ticks["0"]
    found = [(float(dot.get("cx")) - ticks["0"]) / unit for dot in dots]
    assert found == pytest.approx([1, -2, 0, 2], abs=0.01)
    heights = [float(dot.get("cy")) for dot in dots]
    # A label's rows lie together: both series of the head, then both of the wrist.
    assert heights[0] < heights[2] < heights[1] < heights[3]
    assert "a & b" in [text.text for text in root.findall("{*}text")]
