import itertools
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from psa_pose.config import dump_config, load_config, parse_config
from psa_pose.config.defaults import default_config
from psa_pose.errors import ConfigError


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_bases_merge_from_the_farthest_and_overrides_win(tmp_path):
    write(tmp_path, "TRAIN: {EPOCHS: 1, BATCH_SIZE: 1}\nSEED: 1", "far.yaml")
    write(tmp_path, "_BASE_: far.yaml\nTRAIN: {EPOCHS: 2}\nSEED: 2", "near.yaml")
    cfg = load_config(write(tmp_path, "_BASE_: near.yaml\nSEED: 3"), ["SEED", "4"])
    assert (cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.EPOCHS, cfg.SEED) == (1, 2, 4)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", "0.001", ".1e-2"])
def test_scientific_notation_is_a_number(tmp_path, text):
    assert load_config(write(tmp_path, f"TRAIN: {{OPTIMIZER: {{LR: {text}}}}}")).TRAIN.OPTIMIZER.LR == 0.001
    assert load_config(write(tmp_path, ""), ["TRAIN.OPTIMIZER.LR", text]).TRAIN.OPTIMIZER.LR == 0.001


def test_dump_reloads_to_the_same_config(tmp_path):
    cfg = load_config(write(tmp_path, "CODEC: {NAME: dark}", "run.yaml"), ["INPUT.MEAN", "[0, 1e-3, 1]"])
    again = load_config(write(tmp_path, dump_config(cfg), "config.yaml"))
    assert again == cfg
    assert again.OUTPUT_DIR == "output/run"


def test_the_heatmap_size_is_a_quarter_of_the_input(tmp_path):
    for words in ([], ["INPUT.HEATMAP_SIZE", "[72, 96]"]):
        cfg = load_config(write(tmp_path, ""), ["INPUT.SIZE", "[288, 384]", *words])
        assert cfg.INPUT.HEATMAP_SIZE == (72, 96)
        assert load_config(write(tmp_path, dump_config(cfg), "dumped.yaml")) == cfg
        assert parse_config(dump_config(cfg), "a checkpoint") == cfg
    # As a checkpoint may hold it, before its skeleton is known.
    assert parse_config("INPUT: {SIZE: [64, 32]}", "a checkpoint").INPUT.HEATMAP_SIZE == (16, 8)


def test_a_run_is_as_long_as_its_steps_or_its_epochs(tmp_path):
    cfg = load_config(write(tmp_path, ""), ["TRAIN.STEPS", "30000", "TRAIN.SCHEDULE.NAME", "poly"])
    assert (cfg.TRAIN.STEPS, cfg.TRAIN.SCHEDULE.POWER) == (30_000, 0.9)
    assert load_config(write(tmp_path, dump_config(cfg), "dumped.yaml")) == cfg
    assert load_config(write(tmp_path, "TRAIN: {EPOCHS: 140}")).TRAIN.STEPS == 0


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("3", 3), ("0", 0)])
def test_a_number_of_workers_is_left_to_the_machine_or_stated(tmp_path, text, value):
    for cfg in (
        load_config(write(tmp_path, ""), ["LOADER.WORKERS", text]),
        parse_config(f"LOADER: {{WORKERS: {text}}}", "x"),
    ):
        assert value == cfg.LOADER.WORKERS
        assert value == parse_config(dump_config(cfg), "a checkpoint").LOADER.WORKERS
    # What is not stated, as in the config of an older checkpoint, has its default.
    assert parse_config("SEED: 1", "a checkpoint").GPU == default_config().GPU


def test_every_key_has_a_comment_above_it():
    lines = (Path(__file__).parents[2] / "psa_pose/config/defaults.py").read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        key, _, value = line.strip().partition(" = ")
        if key.startswith("c.") and value != "Node()":
            assert above.strip().startswith("#"), f"{key} has no comment"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["TRAIN.EPOCH", "3"], "did you mean TRAIN.EPOCHS?"),
        (["LR", "3"], "did you mean TRAIN.OPTIMIZER.LR?"),
        (["TRAIN", "3"], "TRAIN is a group of keys"),
        (["TRAIN.EPOCHS", "ten"], "TRAIN.EPOCHS must be an integer such as 210, not 'ten'"),
        (["TRAIN.EPOCHS", "true"], "must be an integer"),
        (["LOADER.WORKERS", "many"], "LOADER.WORKERS must be an integer, or 'auto', not 'many' (a string)"),
        (["LOADER.WORKERS", "-1"], "LOADER.WORKERS is -1; it must lie between 0 and 1024"),
        (["MODEL.CHANNELS_LAST", "1"], "MODEL.CHANNELS_LAST must be true or false, or 'auto', not 1 (an integer)"),
        (["TEST.FLIP", "1"], "TEST.FLIP must be true or false"),
        (["INPUT.SIZE", "192"], "INPUT.SIZE must be a list such as [192, 256]"),
        (["INPUT.SIZE", "[192, x]"], "INPUT.SIZE[1] must be an integer"),
        (
            ["INPUT.SIZE", "[288, 384]", "INPUT.HEATMAP_SIZE", "[48, 64]"],
            "write INPUT.HEATMAP_SIZE [0, 0], which takes [72, 96]",
        ),
        (["INPUT.SIZE", "[200, 256]"], "multiples of 32"),
        (
            ["MODEL.NAME", "hourglass", "INPUT.SIZE", "[160, 256]"],
            "'hourglass' halves it six times: use multiples of 64",
        ),
        (["MODEL.STACKS", "0"], "MODEL.STACKS is 0; it must lie between"),
        (["MODEL.NAME", "cpn", "MODEL.ATTENTION.WHERE", "basic"], "a ResNet-50 has no basic blocks"),
        (["CODEC.NAME", "udp_offset", "TRAIN.OHKM_TOPK", "8"], "TRAIN.OHKM_TOPK is 8 but CODEC 'udp_offset'"),
        (["CODEC.NAME", "drak"], "CODEC.NAME is 'drak'; did you mean 'dark'? Valid: standard, dark, udp"),
        (["MODEL.DEPTH", "51"], "MODEL.DEPTH is 51; did you mean 50? Valid: 18, 34, 50, 101, 152"),
        (["CODEC.BLUR", "11"], "leave it at 0"),
        (["CODEC.NAME", "dark", "CODEC.BLUR", "10"], "make it odd"),
        (["MODEL.ATTENTION.DIRECT", "true"], "belongs to the psa_ blocks"),
        (["MODEL.PRETRAINED", "imagenet"], "published HRNet ImageNet weights by hand and write their path"),
        (["MODEL.PRETRAINED", "imagenet", "MODEL.NAME", "hourglass"], "no ImageNet weights of hourglass are published"),
        (
            ["MODEL.PRETRAINED", "imagenet", "MODEL.NAME", "simple_baseline", "MODEL.WIDTH", "32"],
            "MODEL.WIDTH is 32: published ResNets have 64; write 0",
        ),
        (["MODEL.NUM_JOINTS", "16"], "skeleton coco (DATASET.SKELETON) has 17 keypoints; write MODEL.NUM_JOINTS 0"),
        (["TRAIN.SCHEDULE.MILESTONES", "[5, 3]"], "rising"),
        (["TRAIN.OPTIMIZER.LR", ".nan"], "must lie between"),
        (
            ["TRAIN.STEPS", "30000", "TRAIN.EPOCHS", "140"],
            "TRAIN.STEPS is 30000 and TRAIN.EPOCHS is 140, but a run has one length; write TRAIN.STEPS 0 to count "
            "epochs, or leave TRAIN.EPOCHS at its default 210 to count steps",
        ),
        (["TRAIN.STEPS", "-1"], "TRAIN.STEPS is -1; it must lie between"),
        (["TRAIN.SCHEDULE.POWER", "-1"], "TRAIN.SCHEDULE.POWER is -1.0; it must lie between"),
        (["TEST.BOXES", "detector"], "DATASET.TEST_DETECTIONS is empty"),
        (["SEED"], "'SEED' has no value"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(tmp_path, overrides, says):
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, ""), overrides)
    assert says in str(error.value)


def test_unusable_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.yaml is neither a file nor the name of one"):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(write(tmp_path, "A: [1"))
    with pytest.raises(ConfigError, match="comes back to itself"):
        load_config(write(tmp_path, "_BASE_: a.yaml"))
    with pytest.raises(ConfigError, match="KEY: value"):
        load_config(write(tmp_path, "- 1"))


def test_yaml_cannot_construct_objects(tmp_path):
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(write(tmp_path, "SEED: !!python/object/apply:os.getpid []"))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_value_is_accepted_or_refused_with_its_key(tmp_path_factory, value):
    path = write(tmp_path_factory.mktemp("config"), yaml.safe_dump({"SEED": value}))
    if type(value) is int and 0 <= value < 2**32:
        assert value == load_config(path).SEED
    else:
        with pytest.raises(ConfigError, match="SEED"):
            load_config(path)


def test_the_config_is_frozen_and_defaults_are_fresh(tmp_path):
    cfg = load_config(write(tmp_path, ""))
    with pytest.raises(AttributeError):
        cfg.SEED = 1
    default_config().SEED = 5
    assert default_config().SEED == 0
