"""Which boxes and keypoints of a file are found wrong, against plain comparisons."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from psa_pose.dataset_tools.check_files import check_annotation_file
from psa_pose.skeleton import make_skeleton

TWO = make_skeleton({"name": "two", "names": ["left_eye", "right_eye"]}, "two")
WIDTH, HEIGHT = 100, 60
place = st.sampled_from([-30, -12, -10, -3, -2, -1, 0, 5, 20, 50, 58, 59, 60, 61, 62, 90, 99, 100, 101, 102, 130])
side = st.sampled_from([1, 2, 10, 12, 41, 42, 60, 62, 101, 104])


@settings(max_examples=150, deadline=None)
@given(place, place, side, side, st.tuples(place, place), st.sampled_from([0, 1]), st.sampled_from([0, 50.0]))
def test_a_box_and_points_at_every_border(tmp_path_factory, x, y, w, h, point, crowd, area):
    row = {
        "id": 3, "image_id": 7, "category_id": 1, "iscrowd": crowd, "bbox": [x, y, w, h], "area": area,
        "keypoints": [*point, 2, 20, 20, 1], "num_keypoints": 2,
    }  # fmt: skip
    person = {**row, "id": 4, "iscrowd": 0, "bbox": [10, 10, 80, 40], "area": 1500, "keypoints": [20, 20, 2, 30, 30, 2]}
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": [row, person],
        "categories": [{"id": 1, "name": "person", "keypoints": list(TWO.names)}],
    }
    path = tmp_path_factory.mktemp("check") / "a.json"
    path.write_text(json.dumps(content))
    findings, counts = check_annotation_file(path, None, TWO)
    words = ("box outside", "reaches out", "keypoints outside", "no area:")
    found = {(f.level, word) for f in findings for word in words if word in f.text}
    # A point at (0, 0) and a crowd are questions of their own.
    if crowd:
        assert found == set()
        return
    expected = set()
    if x >= WIDTH or y >= HEIGHT or x + w <= 0 or y + h <= 0:
        expected.add(("error", "box outside"))
    elif x < -1 or y < -1 or x + w > WIDTH + 1 or y + h > HEIGHT + 1:
        expected.add(("warning", "reaches out"))
    if not (-1 <= point[0] <= WIDTH + 1 and -1 <= point[1] <= HEIGHT + 1):
        expected.add(("warning", "keypoints outside"))
    if not area:
        expected.add(("error", "no area:"))
    assert found == expected
    assert "2 persons with keypoints" in counts[0]


def test_medium_and_large_persons_are_counted_with_their_borders(tmp_path):
    for area, missing in (
        (32**2 - 1, {"medium", "large"}),
        (32**2, {"large"}),
        (96**2, set()),
        (96**2 + 1, {"medium"}),
    ):
        row = {
            "id": 3, "image_id": 7, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 300, 300], "area": area,
            "keypoints": [9, 9, 2, 20, 20, 1], "num_keypoints": 2,
        }  # fmt: skip
        content = {
            "images": [{"id": 7, "file_name": "a.jpg", "width": 400, "height": 400}], "annotations": [row],
            "categories": [{"id": 1, "name": "person", "keypoints": list(TWO.names)}],
        }  # fmt: skip
        (tmp_path / "a.json").write_text(json.dumps(content))
        findings, _ = check_annotation_file(tmp_path / "a.json", None, TWO)
        assert {size for size in ("medium", "large") for f in findings if f"no person is {size}" in f.text} == missing
