import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psa_pose.data.augment import half_body_joints
from psa_pose.errors import DataError
from psa_pose.skeleton import COCO, DEFAULT_SIGMA, MPII, make_skeleton, mirror_pairs, name_key, unpaired_sides

words = st.sampled_from(["a", "b", "left_a", "right_a", "\n", "", 1, None])
anything = st.recursive(words | st.floats() | st.integers(), lambda v: st.lists(v, max_size=4), max_leaves=9)


def test_names_are_enough():
    own = make_skeleton({"names": ["nose", "right_wing", "tail", "left_wing"]}, "here")
    assert own.flip_pairs == ((3, 1),)
    assert own.flip_order.tolist() == [0, 3, 2, 1]
    assert own.sigmas == (COCO.sigmas[0], DEFAULT_SIGMA, DEFAULT_SIGMA, DEFAULT_SIGMA)
    assert (own.limbs, own.upper_body) == ((), ())
    assert own.describe() == (
        "skeleton own: 4 keypoints, 1 mirror pairs, no upper body: no half-body crops, OKS sigmas 0.026, 0.079"
    )


def test_crowdpose_names_have_crowdposes_sigmas():
    """As in its evaluation code: tenths 0.79 0.79 0.72 0.72 0.62 0.62 1.07 1.07 0.87 0.87 0.89 0.89 0.79 0.79."""
    parts = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    names = [f"{side}_{part}" for part in parts for side in ("left", "right")] + ["head", "neck"]
    wanted = [0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079]
    assert np.allclose(make_skeleton({"names": names}, "crowdpose").sigmas, wanted, rtol=1e-15)


@pytest.mark.parametrize(
    "names",
    [
        ["Nose", "Left Eye", "Right Eye", "Left Wrist", "Right Wrist"],
        ["nose", "LEye", "REye", "LWrist", "RWrist"],
        ["nose", "eye_left", "eye_right", "wrist_left", "wrist_right"],
        ["NOSE", "eye.l", "eye.r", "wrist.l", "wrist.r"],
        ["nose", "leftEye", "rightEye", "leftWrist", "rightWrist"],
    ],
)
def test_every_spelling_is_mirrored_and_has_cocos_sigmas(names):
    own = make_skeleton({"names": names}, "here")
    assert own.flip_order.tolist() == [0, 2, 1, 4, 3]
    assert own.sigmas == tuple(COCO.sigmas[i] for i in (0, 1, 2, 9, 10))
    assert [name_key(name) for name in names] == [name_key(COCO.names[i]) for i in (0, 1, 2, 9, 10)]


def test_one_keypoint_needs_no_mirror():
    assert make_skeleton({"names": ["head"]}, "here").flip == ()


@pytest.mark.parametrize("skeleton", [COCO, MPII])
def test_plain_values_make_the_same_skeleton(skeleton):
    assert make_skeleton(skeleton.as_dict(), "here") == skeleton


def test_mpii_is_as_hrnets_code_has_it():
    assert {frozenset(pair) for pair in MPII.flip_pairs} == {
        frozenset(pair) for pair in [(0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)]
    }
    assert np.flatnonzero(MPII.upper_mask).tolist() == [7, 8, 9, 10, 11, 12, 13, 14, 15]
    assert all(MPII.names[left].startswith("left_") for left, _ in MPII.flip_pairs)
    assert len(MPII.limbs) == 15


def test_without_an_upper_body_there_are_no_halves():
    own = make_skeleton({"names": list("abcdef"), "flip": []}, "here")
    assert half_body_joints(np.ones(6), own, prefer_upper=False) is None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"names": []}, "has no keypoints"),
        ({}, "names must be a list of keypoint names, not None"),
        ({"names": "abc"}, "names must be a list of keypoint names"),
        ({"names": ["a", 1]}, "names must be a list of keypoint names"),
        ({"names": ["a", "a"], "flip": []}, "keypoint names repeat"),
        ({"names": ["left_a", "b"]}, "'left_a' has no partner to change places with in a mirror"),
        ({"names": ["LElbow", "b", "RElbow", "Right Knee"]}, "'Right Knee' has no partner"),
        ({"names": ["head", "tail"]}, "no two of the keypoints head, tail are left and right of each other by name"),
        ({"names": ["head", "tail"]}, "`flip: []` for none"),
        ({"names": ["a", "b"], "flip": [["a", "c"]]}, "'c' is not one of its keypoints"),
        ({"names": ["a", "b"], "flip": ["ab"]}, "flip must be a list of keypoint names"),
        ({"names": ["a", "b"], "flip": [], "limbs": [["a", "b", "a"]]}, "limbs must be a list of pairs"),
        ({"names": ["a", "b"], "flip": [], "limbs": 5}, "limbs must be a list of pairs"),
        ({"names": ["a", "b"], "flip": [], "sigmas": [0.1]}, "2 keypoints but 1 sigmas"),
        ({"names": ["a", "b"], "flip": [], "sigmas": 0}, "sigmas must be numbers between 0 and 10"),
        ({"names": ["a", "b"], "sigmas": ["x", 1]}, "sigmas must be numbers"),
        ({"names": ["a", "b"], "flip": [], "upper_body": ["z"]}, "'z' is not one of its keypoints"),
        ({"names": ["a", "b"], "name": "two\nlines"}, "name must be a name, not"),
        ({"names": ["a", "b"], "limb": []}, "unknown key 'limb' of a skeleton; did you mean 'limbs'?"),
    ],
)
def test_what_is_no_skeleton_is_one_sentence(values, says):
    with pytest.raises(DataError) as error:
        make_skeleton(values, "here")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(words, max_size=4) | anything,
    st.dictionaries(st.sampled_from(["flip", "limbs", "sigmas", "upper_body", "name", "x"]), anything, max_size=3),
)
def test_whatever_stands_in_a_file(names, rest):
    try:
        said = make_skeleton({"names": names, **rest}, "here").describe()
    except DataError as error:
        said = str(error)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_eye", "right_eye"),
        ("Left Eye", "Right Eye"),
        ("LElbow", "RElbow"),
        ("wrist_left", "wrist_right"),
        ("hip.l", "hip.r"),
        ("leftKnee", "rightKnee"),
        ("leftear", "rightear"),
        ("topleftcorner", "toprightcorner"),
        ("LEFT-HAND", "RIGHT-HAND"),
        ("L1A", "R1A"),
        ("earLeft", "right ear"),
    ],
)
def test_mirror_pairs_in_the_usual_spellings(left, right):
    assert mirror_pairs(["bright", right, "nose", left, "L5"]) == [(left, right)]
    assert unpaired_sides([right, left, "bright", "nose"]) == []


def test_mirror_pairs_of_published_skeletons():
    for skeleton in (COCO, MPII):
        assert set(mirror_pairs(skeleton.names)) == set(skeleton.flip)
        assert unpaired_sides(skeleton.names) == []


def test_sides_without_a_partner():
    assert unpaired_sides(["left_hand", "head", "rightFoot"]) == ["left_hand", "rightFoot"]
    assert unpaired_sides(["L1", "L2", "sacrum"]) == []
    assert unpaired_sides(["hip.l", "hip.r", "knee.l"]) == ["knee.l"]
    assert mirror_pairs(["left_eye", "eye_left", "right_eye"]) == [("left_eye", "right_eye")]


@pytest.mark.parametrize("flip", [[["a", "b"], ["a", "c"]], [["a", "b"], ["b", "a"]], [["a", "a"]]])
def test_a_keypoint_has_one_mirror(flip):
    with pytest.raises(DataError, match="two mirror pairs"):
        make_skeleton({"names": ["a", "b", "c"], "flip": flip}, "own")
