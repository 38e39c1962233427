"""DATASET.SKELETON in all its forms."""

import json

import pytest

from psa_pose.config import dump_config, load_config
from psa_pose.config.skeleton import build_skeleton
from psa_pose.errors import PsaPoseError
from psa_pose.skeleton import MPII

CATEGORY = {"id": 1, "name": "bird", "keypoints": ["beak", "left_wing", "right_wing"], "skeleton": [[1, 2], [1, 3]]}


@pytest.fixture
def load(tmp_path):
    """A function: the value of DATASET.SKELETON and overrides -> config, with the data in a folder of its own."""
    (tmp_path / "data").mkdir()
    (tmp_path / "own.yaml").write_text("# own\n")

    def make(word, *overrides):
        words = ["DATASET.ROOT", str(tmp_path / "data"), "DATASET.SKELETON", word]
        return load_config(tmp_path / "own.yaml", [*words, "DATASET.TEST_ANNOTATIONS", "a.json", *overrides])

    return make


def test_a_word_a_file_or_the_annotations(load, tmp_path):
    cfg = load("mpii")
    assert build_skeleton(cfg) is MPII
    assert cfg.MODEL.NUM_JOINTS == 16
    (tmp_path / "data/bird.yaml").write_text("names: [beak, left_wing, right_wing]\nsigmas: 0.1\nupper_body: [beak]\n")
    bird = build_skeleton(load("bird.yaml"))
    assert (bird.name, bird.flip, bird.sigmas) == ("bird", (("left_wing", "right_wing"),), (0.1, 0.1, 0.1))
    (tmp_path / "data/a.json").write_text(json.dumps({"categories": [{"id": 2, "name": "x"}, CATEGORY]}))
    cfg = load("annotations")
    found = build_skeleton(cfg)
    assert (found.name, found.names, found.flip) == ("bird", bird.names, bird.flip)
    assert found.limbs == (("beak", "left_wing"), ("beak", "right_wing"))
    assert load_dumped(cfg, tmp_path) == cfg
    assert cfg.MODEL.NUM_JOINTS == 3


def load_dumped(cfg, folder):
    (folder / "dumped.yaml").write_text(dump_config(cfg))
    return load_config(folder / "dumped.yaml")


@pytest.mark.parametrize(
    ("word", "content", "overrides", "says"),
    [
        ("coko", "", [], "no path of a .yaml file either; did you mean 'coco'? Valid: coco, mpii, lsp, annotations"),
        ("mpii", "", ["MODEL.NUM_JOINTS", "17"], "is 17 but the skeleton mpii (DATASET.SKELETON) has 16 keypoints"),
        ("gone.yaml", "", [], "gone.yaml cannot be read"),
        ("s.yaml", "[1", [], "s.yaml is not valid YAML"),
        ("s.yaml", "- 1", [], "must hold `key: value` lines"),
        ("s.yaml", "\x00", [], "s.yaml is not valid YAML"),
        ("s.yaml", "limbs: []", [], "names must be a list"),
        ("annotations", "{", [], "a.json is not valid JSON"),
        ("annotations", "[]", [], "has no category that names keypoints"),
        (
            "annotations",
            json.dumps({"categories": [CATEGORY, CATEGORY]}),
            [],
            "has 2 categories with keypoints: 1 (bird), 1 (bird); say which are the persons with DATASET.CATEGORY",
        ),
        ("annotations", json.dumps({"categories": [{**CATEGORY, "skeleton": [[1, 9]]}]}), [], "joint numbers from 1"),
        ("annotations", json.dumps({"categories": [{**CATEGORY, "skeleton": [[0, 1]]}]}), [], "joint numbers from 1"),
        ("annotations", json.dumps({"categories": [{**CATEGORY, "skeleton": [["a", 1]]}]}), [], "joint numbers from 1"),
    ],
)
def test_a_wrong_skeleton_is_one_sentence(load, tmp_path, word, content, overrides, says):
    for name in ("s.yaml", "a.json"):
        (tmp_path / "data" / name).write_text(content)
    with pytest.raises(PsaPoseError) as error:
        load(word, *overrides)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
