import numpy as np
import pytest

from psa_pose.errors import DataError
from psa_pose.segmentation.cityscapes_classes import CITYSCAPES, EVALUATED, LABELS, label_ids, train_ids
from psa_pose.segmentation.classes import VOC, read_classes


def test_the_tables_are_those_of_the_data_sets(segmentation_golden):
    tables = segmentation_golden("labels.json")
    for row in tables["voc2012"][: len(VOC)]:
        assert (VOC.names[row["id"]], list(VOC.colors[row["id"]])) == (row["name"], row["colour"])
    rows = [row for row in tables["cityscapes"] if row["id"] >= 0]
    keys = ("id", "train_id", "name", "category", "has_instances", "ignored", "colour")
    ours = [(r.id, r.train_id, r.name, r.category, r.has_instances, r.ignored, list(r.color)) for r in LABELS]
    assert [tuple(row[key] for key in keys) for row in rows] == ours


def test_train_ids_and_label_ids_are_inverse():
    assert len(CITYSCAPES) == len(EVALUATED) == 19
    np.testing.assert_array_equal(train_ids()[label_ids()[:19]], np.arange(19))
    assert label_ids()[255] == 0
    assert (train_ids() == 255).sum() == 34 - 19


def test_palette_has_a_colour_for_each_class_and_the_void():
    palette = VOC.palette()
    assert palette.shape == (256, 3)
    np.testing.assert_array_equal(palette[:21], VOC.colors)
    assert palette[255].tolist() == [224, 224, 192]


def test_class_list_of_ones_own(tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text("classes:\n  - ground\n  - {name: person, color: [1, 2, 3]}\n")
    classes = read_classes(path)
    assert classes.names == ("ground", "person")
    assert classes.colors == ((0, 0, 0), (1, 2, 3))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("classes: [a, a]", "more than once"),
        ("classes: []", "1 to 254"),
        ("names: [a]", "no list"),
        ("- a", "no list"),
        ("classes: [{color: [1, 2, 3]}]", "class 0 has no name"),
        ("classes: [{name: a, color: [1, 2]}]", "colour"),
        ("classes: [{name: a, color: [1, 2, 300]}]", "colour"),
        ("classes: [a, 3]", "class 1 has no name"),
        ("classes: [", "not YAML"),
        ("!!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_wrong_class_lists_are_named(tmp_path, text, reason):
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=reason) as caught:
        read_classes(path)
    assert str(path) in str(caught.value)


def test_missing_class_list_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_classes(tmp_path / "classes.yaml")
