"""Whatever a user's file holds, the answer is a result or one sentence: never a traceback of a library, never a hang.

More cases: FUZZ_CASES=5000 python -m pytest tests/test_fuzz.py
"""

import copy
import json
import os
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psa_pose.checkpoints import checkpoint_content, load_checkpoint, load_weights, save_checkpoint
from psa_pose.checkpoints.safetensors_file import save_safetensors
from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.codecs import build_codec
from psa_pose.config import dump_config, load_config
from psa_pose.config.defaults import default_config
from psa_pose.data.build import build_test_sets, build_train_set
from psa_pose.data.loader import ShuffledBatches
from psa_pose.errors import PsaPoseError
from psa_pose.media.pictures import read_image
from psa_pose.models import build_model
from psa_pose.skeleton import COCO
from psa_pose.training.optimizer import build_optimizer, load_optimizer, weight_groups
from psa_pose.training.output_dir import find_checkpoint
from psa_pose.training.resume import Progress, changed_keys, restore_state, trained_weights, training_state

CASES = int(os.environ.get("FUZZ_CASES", 60))
fuzz = settings(max_examples=CASES, deadline=20_000, suppress_health_check=list(HealthCheck), print_blob=True)

numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, -1, 1, 1e300, 1e-300, 2**31, 2**63])
plain = st.none() | st.booleans() | numbers | st.text(max_size=8)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


def one_sentence(error: PsaPoseError) -> None:
    text = str(error)
    assert text.strip()
    assert "Traceback" not in text


def keys_of(node, prefix=""):
    for key, value in node.items():
        yield from keys_of(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]


def nested(key, value):
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}


@fuzz
@given(st.sampled_from(sorted(keys_of(default_config()))), values)
def test_any_value_of_any_key(tmp_path_factory, key, value):
    path = tmp_path_factory.getbasetemp() / "value.yaml"
    path.write_text(yaml.safe_dump(nested(key, value)))
    try:
        cfg = load_config(path)
        build_codec(cfg)
        assert load_config(_written(path.with_name("again.yaml"), dump_config(cfg).encode())) == cfg
    except PsaPoseError as error:
        one_sentence(error)


@fuzz
@given(st.binary(max_size=60) | st.text(alphabet="ABC:_{}[]-&*!?|>%@`#'\" \n\t01.e", max_size=40).map(str.encode))
def test_any_bytes_as_a_config(tmp_path_factory, data):
    try:
        load_config(_written(tmp_path_factory.getbasetemp() / "bytes.yaml", data))
    except PsaPoseError as error:
        one_sentence(error)


@fuzz
@given(st.lists(st.text(alphabet="TRAIN.EPOCHSDEVICE[]{}:,01e-", max_size=14), max_size=4))
def test_any_words_on_the_command_line(tmp_path_factory, words):
    try:
        load_config(_written(tmp_path_factory.getbasetemp() / "empty.yaml", b""), words)
    except PsaPoseError as error:
        one_sentence(error)


def places_in(node, path=()):
    """Every place in nested lists and dicts, as the keys that lead to it."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places_in(value, (*path, key))


def changed(content, place, value):
    """A copy with another value at a place; the value "" removes it."""
    content = copy.deepcopy(content)
    node = content
    for key in place[:-1]:
        node = node[key]
    if value == "":
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return content


def changed_json(source: Path, random_seed: int, value, many: int) -> bytes:
    """The file's JSON with `many` places, wherever they are, holding the value."""
    content = json.loads(source.read_text())
    generator = random.Random(random_seed)
    for _ in range(many):
        places = list(places_in(content))
        if places:
            # Depth first at random, so that the file's few upper keys are chosen as often as its many numbers.
            depth = generator.choice(sorted({len(p) for p in places}))
            content = changed(content, generator.choice([p for p in places if len(p) == depth]), value)
    return json.dumps(content).encode()


ANNOTATIONS, DETECTIONS = (
    "annotations/person_keypoints_val2017.json",
    "person_detection_results/val2017_person_detections.json",
)


@fuzz
@given(st.integers(0, 2**32), values, st.integers(1, 3), st.sampled_from(["raise", "skip"]))
def test_any_change_of_an_annotation_file(people, fixed_config, tmp_path_factory, seed, value, many, on_error):
    path = _written(
        tmp_path_factory.getbasetemp() / "changed.json", changed_json(people / ANNOTATIONS, seed, value, many)
    )
    words = ["DATASET.TRAIN_ANNOTATIONS", path, "DATASET.TRAIN_IMAGES", "val2017", "DATASET.ON_ERROR", on_error]
    try:
        dataset = build_train_set(fixed_config(*words), COCO, "unbiased", lambda _: None)
        for row in range(len(dataset)):
            assert np.isfinite(dataset[(0, row)].matrix).all()
    except PsaPoseError as error:
        one_sentence(error)


@fuzz
@given(st.integers(0, 2**32), values, st.integers(1, 3), st.sampled_from(["raise", "skip"]))
def test_any_change_of_a_detection_file(people, fixed_config, tmp_path_factory, seed, value, many, on_error):
    path = _written(
        tmp_path_factory.getbasetemp() / "changed.json", changed_json(people / DETECTIONS, seed, value, many)
    )
    words = ["DATASET.TEST_DETECTIONS", path, "DATASET.ON_ERROR", on_error]
    try:
        (test_set,) = build_test_sets(fixed_config(*words), COCO, "unbiased", lambda _: None, "detector")
        for row in range(len(test_set.dataset)):
            assert np.isfinite(test_set.dataset[(0, row)].matrix).all()
    except PsaPoseError as error:
        one_sentence(error)


box = st.tuples(*[st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1e-320, 1e-9, 0.5, 1e8])] * 4)


@fuzz
@given(box, st.integers(0, 10))
def test_any_box(people, fixed_config, tmp_path_factory, xywh, epoch):
    content = json.loads((people / ANNOTATIONS).read_text())
    content["annotations"] = [content["annotations"][0] | {"bbox": list(xywh)}]
    path = _written(tmp_path_factory.getbasetemp() / "box.json", json.dumps(content).encode())
    try:
        words = ["DATASET.TRAIN_ANNOTATIONS", path, "DATASET.TRAIN_IMAGES", "val2017"]
        sample = build_train_set(fixed_config(*words), COCO, "unbiased", lambda _: None)[(epoch, 0)]
        assert np.isfinite(sample.matrix).all()
        assert np.isfinite(sample.joints).all()
    except PsaPoseError as error:
        one_sentence(error)


def damaged(data: bytes, seed: int, flips: int, length: int) -> bytes:
    """The bytes with some of them changed, cut at a length or with more at their end."""
    generator = random.Random(seed)
    damaged_data = bytearray(data)
    for _ in range(flips):
        damaged_data[generator.randrange(len(data))] = generator.randrange(256)
    return (
        bytes(damaged_data[:length]) if length < len(data) else bytes(damaged_data) + generator.randbytes(length % 50)
    )


damage = (st.integers(0, 2**32), st.integers(0, 8), st.integers(0, 40_000))


@fuzz
@given(st.sampled_from([".jpg", ".png", ".webp"]), *damage)
def test_any_damage_of_an_image(tmp_path_factory, kind, seed, flips, length):
    picture = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)
    data = cv2.imencode(kind, picture)[1].tobytes()
    path = _written(tmp_path_factory.getbasetemp() / f"damaged{kind}", damaged(data, seed, flips, length))
    try:
        image = read_image(path)
        assert image.ndim == 3
        assert image.dtype == np.uint8
    except PsaPoseError as error:
        one_sentence(error)


@pytest.fixture(scope="module")
def fixed_config(people):
    """A function: overrides -> the config of a run on `people`; made once for all cases."""
    file = Path(__file__).parents[1] / "configs/synthetic/quickstart.yaml"
    base = {
        "DATASET.ROOT": people,
        "DATASET.TEST_DETECTIONS": DETECTIONS,
        "MODEL.WIDTH": 4,
        "MODEL.HEAD_CHANNELS": 4,
        "MODEL.ATTENTION.NAME": "none",
        "LOADER.WORKERS": 0,
        "DEVICE": "cpu",
    }
    words = [str(word) for pair in base.items() for word in pair]
    return lambda *overrides: load_config(file, [*words, *map(str, overrides)])


@pytest.fixture(scope="module")
def trained(fixed_config, tmp_path_factory):
    """Config, model, and a checkpoint's content after one step."""
    cfg = fixed_config("OUTPUT_DIR", tmp_path_factory.mktemp("run"))
    torch.manual_seed(0)
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, weight_groups(model, 0.0))
    model(torch.zeros(1, 3, 64, 64)).sum().backward()
    optimizer.step()
    training = training_state(
        Progress(0, 1), ShuffledBatches(20, 16, 0), None, torch.amp.GradScaler("cpu", enabled=False)
    )
    return cfg, model, checkpoint_content(cfg, ModelSpec.of_config(cfg), model, optimizer, 0, -1.0, training)


def go_on(cfg, model) -> None:
    """All that a resumed run does with its checkpoint before the first step."""
    last = Path(cfg.OUTPUT_DIR) / "last.pt"
    before = find_checkpoint(cfg, resume=True, overwrite=False)
    assert before is not None
    ModelSpec.of_config(cfg).check(before, last)
    load_weights(model, trained_weights(before), last)
    load_optimizer(cfg, build_optimizer(cfg, weight_groups(model, 0.0)), before["optimizer"], last)
    restore_state(before, ShuffledBatches(20, 16, 0), torch.amp.GradScaler("cpu", enabled=False), last)
    changed_keys(before, cfg)


@fuzz
@given(st.booleans(), st.integers(0, 2**32), st.integers(0, 8), st.floats(0, 1.2))
def test_any_damage_of_a_checkpoint(trained, tmp_path_factory, safe, seed, flips, share):
    cfg, model, content = trained
    whole = tmp_path_factory.getbasetemp() / ("whole.safetensors" if safe else "whole.pt")
    if not whole.exists():
        (save_safetensors if safe else save_checkpoint)(whole, content)
    data = whole.read_bytes()
    # The structure is at the end of a torch file and at the start of the other.
    path = _written(whole.with_stem("damaged"), damaged(data, seed, flips, int(share * len(data))))
    try:
        ModelSpec.of_config(cfg).check(load_checkpoint(path), path)
        load_weights(model, load_checkpoint(path)["model"], path)
    except PsaPoseError as error:
        one_sentence(error)


torch_values = plain.filter(lambda v: not isinstance(v, int) or abs(v) < 2**62) | st.sampled_from(
    [[], {}, [1], {"a": 1}, torch.zeros(3), torch.zeros(0, dtype=torch.uint8)]
)


@fuzz
@given(st.integers(0, 2**32), torch_values)
def test_any_change_of_what_a_checkpoint_holds(trained, seed, value):
    cfg, model, content = trained
    places = list(places_in(content))
    generator = random.Random(seed)
    depth = generator.choice(sorted({len(p) for p in places}))
    place = generator.choice([p for p in places if len(p) == depth])
    changed_content = _changed_shallow(content, place, value)
    save_checkpoint(Path(cfg.OUTPUT_DIR) / "last.pt", changed_content)
    try:
        go_on(cfg, model)
    except PsaPoseError as error:
        one_sentence(error)


@pytest.mark.parametrize("place", [("input", "PADDING"), ("input", "SIZE", 0), ("training", "generators", 0)])
@pytest.mark.parametrize("value", [torch.zeros(3), torch.zeros(0, dtype=torch.uint8)])
def test_a_tensor_where_a_number_belongs(trained, place, value, recwarn):
    cfg, model, content = trained
    save_checkpoint(Path(cfg.OUTPUT_DIR) / "last.pt", _changed_shallow(content, place, value))
    with pytest.raises(PsaPoseError, match=r"holds a tensor in 'input'|no usable training state"):
        go_on(cfg, model)
    assert not recwarn.list


def _changed_shallow(node, place, value):
    """As `changed`, but copies only what lies on the way: a checkpoint's tensors are many."""
    node = list(node) if isinstance(node, list) else dict(node)
    first, *rest = place
    if rest:
        node[first] = _changed_shallow(node[first], rest, value)
    elif isinstance(value, str) and value == "":
        del node[first]
    else:
        node[first] = value
    return node


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
