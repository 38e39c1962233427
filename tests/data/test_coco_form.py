"""What stands in a user's annotation or detection file: read where it is clear, refused with the right reason else."""

import json

import numpy as np
import pytest

from psa_pose.config.skeleton import read_category
from psa_pose.data.formats.coco import ground_truth_persons, read_annotations
from psa_pose.data.formats.detections import detected_persons
from psa_pose.errors import DataError
from psa_pose.skeleton import COCO, make_skeleton

IMPORT = "tools/import_dataset.py"
NAMES = list(COCO.names)


def file_of(*annotations, categories=None, **image) -> dict:
    images = [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80} | image]
    return {
        "images": images,
        "annotations": list(annotations),
        "categories": categories or [{"id": 1, "name": "person", "keypoints": NAMES}],
    }


def person(number: int = 1, **changes) -> dict:
    keypoints = [10, 20, 2] * 17
    entry = {"id": number, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 40], "area": 500.0, "iscrowd": 0}
    return {key: value for key, value in {**entry, "keypoints": keypoints, **changes}.items() if value != "remove"}


def read(tmp_path, content, category="", skeleton=COCO):
    path = tmp_path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return read_annotations(path, skeleton, category)


def points(**changes) -> list:
    """17 keypoints with other values at x0, y0, v0, x1 ..."""
    values = [10, 20, 2] * 17
    for key, value in changes.items():
        values[3 * int(key[1:]) + "xyv".index(key[0])] = value
    return values


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"keypoints": points(v3=True)}, "has true as v of its keypoint left_ear; write 0 where it is not labelled"),
        ({"keypoints": points(v0=False)}, "has false as v of its keypoint nose"),
        ({"keypoints": points(v16=0.87)}, "has 0.87 as v of its keypoint right_ankle"),
        ({"keypoints": points(v16=3)}, "has 3 as v of its keypoint right_ankle"),
        (
            {"keypoints": points(x1=None, y1=None, v1=0)},
            "has null as x of its keypoint left_eye; write a finite number",
        ),
        ({"keypoints": points(y1=float("nan"), v1=0)}, "has NaN as y of its keypoint left_eye"),
        ({"keypoints": points(y1=float("inf"))}, "has an infinite number as y of its keypoint left_eye"),
        ({"keypoints": points(x2=10**400)}, "has an infinite number as x of its keypoint right_eye"),
        ({"keypoints": points(x2="12")}, "has the text '12' as x of its keypoint right_eye"),
        (
            {"keypoints": [[10, 20, 2]] * 17},
            f"keypoints as nested lists; COCO has one flat list x, y, v, x, y, v ...: {IMPORT}",
        ),
        ({"keypoints": [10, 20] * 17}, f"34 keypoint numbers: pairs x, y for 17 keypoints; COCO has x, y, v: {IMPORT}"),
        ({"keypoints": None}, "has null as keypoints"),
        ({"area": "remove"}, f"has no 'area', which COCO's person keypoints have; {IMPORT}"),
        ({"bbox": "remove"}, f"has no 'bbox', which COCO's person keypoints have; {IMPORT}"),
        ({"keypoints": "remove"}, f"has no 'keypoints', which COCO's person keypoints have; {IMPORT}"),
        ({"area": None}, "has null as area"),
        ({"bbox": [1, 2, None, 4]}, "has null in its bbox"),
        ({"bbox": [1, 2, 3, "4"]}, "has the text '4' in its bbox"),
        ({"image_id": "1"}, "has the text '1' as image_id; write a whole number"),
        ({"id": 1.5}, "has 1.5 as id; write a whole number"),
        ({"iscrowd": "0"}, "has the text '0' as iscrowd; write 0, or 1 for a crowd"),
        ({"category_id": "1"}, "has the text '1' as category_id"),
        ({"num_keypoints": 0}, "states 0 as num_keypoints and has 17 labelled keypoints"),
        ({"num_keypoints": 5, "keypoints": [0] * 51}, "states 5 as num_keypoints and has 0 labelled keypoints"),
    ],
)
def test_each_form_is_refused_for_its_own_reason(tmp_path, changes, says):
    with pytest.raises(DataError) as error:
        read(tmp_path, file_of(person(1, **changes)))
    assert says in str(error.value)
    assert "a.json: annotation" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": "640"}, "image 1 has the text '640' as width; write its pixels as a number"),
        ({"height": None}, "image 1 has null as height"),
        ({"height": 0}, "image 1 has 0 as height"),
        ({"id": "7"}, "image '7' has the text '7' as id; write a whole number"),
        ({"file_name": ""}, "is no name of a file"),
    ],
)
def test_images_are_refused_for_their_own_reason(tmp_path, changes, says):
    with pytest.raises(DataError) as error:
        read(tmp_path, file_of(person(), **changes))
    assert says in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_backslashes_and_a_missing_iscrowd_are_simply_read(tmp_path, encoding):
    content = file_of(person(iscrowd="remove", category_id="remove"), file_name="sub\\a.jpg")
    persons, problems = ground_truth_persons(read(tmp_path, json.dumps(content).encode(encoding)), COCO)
    assert (len(persons), problems) == (1, [])
    assert persons.image_names.tolist() == [b"sub/a.jpg"]


def test_a_skeleton_file_may_have_a_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_bytes(json.dumps(file_of(person())).encode("utf-8-sig"))
    assert read_category(tmp_path / "a.json").names == COCO.names


def test_numbers_that_are_refused_are_those_one_by_one():
    from psa_pose.data.formats.coco_form import are_numbers, is_number

    odd = [0, 1.5, -3, True, None, "1", float("nan"), float("inf"), -float("inf"), 1e9, -1e9, 10**400, [], 5e8]
    rng = np.random.default_rng(0)
    for _ in range(2000):
        values = [odd[i] for i in rng.integers(len(odd), size=rng.integers(5))]
        assert are_numbers(values) == all(map(is_number, values)), values


# Categories.

PERSON5 = {"id": 5, "name": "worker", "keypoints": NAMES}
DOG = {"id": 1, "name": "dog"}


def test_the_category_with_keypoints_is_the_person_whatever_its_id(tmp_path):
    dog = {"id": 8, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    annotations = read(tmp_path, file_of(person(category_id=5), dog, categories=[DOG, PERSON5]))
    assert (annotations.category, annotations.other_categories) == (5, 1)
    persons, problems = ground_truth_persons(annotations, COCO)
    assert (persons.annotation_ids.tolist(), problems) == ([1], [])


def test_without_names_the_category_of_those_who_have_keypoints_is_the_person(tmp_path):
    categories = [{"id": 5, "name": "worker"}, DOG]
    dog = {"id": 8, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "keypoints": []}
    assert read(tmp_path, file_of(person(category_id=5), dog, categories=categories)).category == 5
    with pytest.raises(DataError, match=r"of 2 categories \(1, 5\) have keypoints; say which .* DATASET.CATEGORY"):
        read(tmp_path, file_of(person(category_id=5), person(2), categories=categories))


def test_two_categories_with_keypoints_need_a_word(tmp_path):
    two = file_of(person(category_id=5), person(2), person(3), categories=[PERSON5, {**DOG, "keypoints": NAMES}])
    with pytest.raises(DataError) as error:
        read(tmp_path, two)
    assert "2 categories with keypoints: 5 (worker), 1 (dog); say which are the persons with DATASET.CATEGORY" in str(
        error.value
    )
    for word, number, ids in (("dog", 1, [2, 3]), ("5", 5, [1])):
        annotations = read(tmp_path, two, word)
        assert (annotations.category, [a["id"] for a in annotations.content["annotations"]]) == (number, ids)
        assert read_category(tmp_path / "a.json", word).name == {"dog": "dog", "5": "worker"}[word]
    with pytest.raises(DataError, match=r"no category 'cat', as DATASET.CATEGORY says; did you mean"):
        read(tmp_path, two, "cat")


def test_annotations_of_another_category_than_the_one_with_keypoints(tmp_path):
    with pytest.raises(DataError, match=r"all 2 annotations are of category 2; 5 \(worker\), which has the keypoints"):
        read(tmp_path, file_of(person(category_id=2), person(2, category_id=2), categories=[PERSON5]))


def test_names_of_the_file_and_of_the_skeleton_agree(tmp_path):
    spelled = [name.replace("left_", "L").replace("right_", "R").upper() for name in NAMES]
    spelled = ["L " + n[1:] if n[0] == "L" else "R " + n[1:] if n[0] == "R" else n for n in spelled]
    assert read(tmp_path, file_of(person(), categories=[{"id": 1, "keypoints": spelled}])).category == 1
    turned = [NAMES[0], NAMES[2], NAMES[1], *NAMES[3:]]
    for names, says in (
        (turned, "in another order: its keypoint 2 is 'right_eye', the skeleton's 'left_eye'"),
        (["beak", *NAMES[1:]], "without 'beak'"),
        (NAMES[:16], "with 17, not 16, keypoints"),
    ):
        with pytest.raises(DataError) as error:
            read(tmp_path, file_of(person(), categories=[{"id": 1, "keypoints": names}]))
        assert says in str(error.value)
        assert "DATASET.SKELETON 'annotations' takes those of the file" in str(error.value)
    own = make_skeleton({"names": turned}, "here")
    assert read(tmp_path, file_of(person(), categories=[{"id": 1, "keypoints": turned}]), skeleton=own).category == 1


# Detections.


def found(tmp_path, entries, category_id=1, least=0.0):
    category = {"id": category_id, "name": "person", "keypoints": NAMES}
    annotations = read(tmp_path, file_of(person(category_id=category_id), categories=[category]))
    (tmp_path / "d.json").write_text(json.dumps(entries))
    return detected_persons(tmp_path / "d.json", annotations, COCO, least)[0]


BOX = {"image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 40], "score": 0.5}


def test_detections_are_of_the_persons_category(tmp_path):
    assert len(found(tmp_path, [BOX, BOX | {"category_id": 5}, BOX | {"category_id": 5}], 5)) == 2
    with pytest.raises(DataError, match=r"d.json: all 12 boxes are of category 2; 1 is read, the persons'"):
        found(tmp_path, [BOX | {"category_id": 2}] * 12)
    with pytest.raises(DataError, match=r"all 1 boxes are of category 1; 5 is read"):
        found(tmp_path, [BOX], 5)
    with pytest.raises(DataError, match=r"all 1 boxes score below TEST.BOX_SCORE, 0.9; lower it"):
        found(tmp_path, [BOX], least=0.9)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"score": "0.5"}, "entry 1 has the text '0.5' as score; write a number from 0 to 1"),
        ({"score": float("nan")}, "entry 1 has NaN as score"),
        ({"image_id": "1"}, "entry 1 has the text '1' as image_id"),
        ({"category_id": None}, "entry 1 has null as category_id"),
        ({"bbox": [1, 2, 3, None]}, "entry 1 has null in its bbox"),
        ({"bbox": {"x": 1}}, "entry 1 has a bbox that is not four numbers"),
    ],
)
def test_each_detection_is_refused_for_its_own_reason(tmp_path, changes, says):
    with pytest.raises(DataError) as error:
        found(tmp_path, [BOX, BOX | changes])
    assert says in str(error.value)
