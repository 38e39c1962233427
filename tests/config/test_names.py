"""A config by its name, and what an old or mistyped one is answered with."""

import shlex
from pathlib import Path

import pytest

from psa_pose.config import load_config
from psa_pose.config.names import config_names
from psa_pose.errors import ConfigError

R50, R152 = "simple_baseline_r50_384x288", "simple_baseline_r152_384x288"
# The configs that were one key of another one.
VARIANTS = [f"{R50}{end}" for end in ("_psa_p_fig2", "_psa_p_imagenet", "_psa_s_fig2", "_psa_s_imagenet", "_scratch")]
VARIANTS += [f"{R50}_psa_s_plain_fig2", f"{R50}_psa_spatial_fig2"]
VARIANTS += [f"{R152}{end}" for end in ("_psa_p_fig2", "_psa_p_imagenet", "_scratch")]
for _width in (32, 48):
    VARIANTS += [f"hrnet_w{_width}_384x288{end}" for end in ("_psa_p_fig2", "_psa_p_scratch", "_scratch")]
VARIANTS += [f"udp_w48_256x192{end}" for end in ("_psa_p_fig2", "_psa_p_scratch", "_scratch")]
VARIANTS += [f"udp_w48_384x288{end}" for end in ("_psa_p_fig2", "_psa_p_scratch", "_psa_s_fig2", "_psa_s_scratch")]
VARIANTS += ["udp_w48_384x288_scratch"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("form", ["{}", "{}.yaml", "configs/{}", "configs/{}.yaml"])
def test_a_name_is_found_from_anywhere(form):
    cfg = load_config(form.format("coco/hrnet/hrnet_w32_256x192"), ["SEED", "3"])
    assert (cfg.MODEL.NAME, cfg.SEED, cfg.OUTPUT_DIR) == ("hrnet", 3, "output/hrnet_w32_256x192")


def test_a_file_comes_before_a_name_and_may_be_based_on_one(tmp_path):
    (tmp_path / "own.yaml").write_text("_BASE_: coco/hrnet/hrnet_w48_256x192\nSEED: 5")
    cfg = load_config("own.yaml")
    assert (cfg.MODEL.WIDTH, cfg.SEED, cfg.OUTPUT_DIR) == (48, 5, "output/own")
    (tmp_path / "coco/hrnet").mkdir(parents=True)
    (tmp_path / "coco/hrnet/hrnet_w32_256x192").write_text("SEED: 7")
    assert load_config("coco/hrnet/hrnet_w32_256x192").SEED == 7
    (tmp_path / "own.yaml").write_text("_BASE_: coco/hrnet/hrnet_w47_256x192")
    with pytest.raises(ConfigError, match=r"own.yaml: _BASE_: .*did you mean coco/hrnet/hrnet_w48_256x192\?"):
        load_config("own.yaml")
    (tmp_path / "own.yaml").write_text("_BASE_: 1")
    with pytest.raises(ConfigError, match=r"own.yaml: _BASE_ is 1; write the path of a config file"):
        load_config("own.yaml")


@pytest.mark.parametrize("old", VARIANTS)
def test_the_path_of_a_variant_is_answered_with_its_config_and_key(old):
    with pytest.raises(ConfigError) as error:
        load_config(f"configs/coco/{old}.yaml")
    assert str(error.value).startswith(f"config configs/coco/{old}.yaml is neither a file nor the name of one; write ")
    told, _, words = str(error.value).partition("; write ")[2].partition(" and, at the end of the command, ")
    base, model = load_config(told).MODEL, load_config(told, shlex.split(words)).MODEL
    assert old.startswith(told.rpartition("/")[2])
    if old.endswith("_fig2"):
        assert (base.ATTENTION.SPATIAL, model.ATTENTION.SPATIAL) == ("", "fig2")
    else:
        assert ("imagenet" if old.endswith("_imagenet") else "") == model.PRETRAINED
        assert bool(base.PRETRAINED) != bool(model.PRETRAINED)


def test_old_paths_are_answered_with_the_new_name():
    assert len(set(VARIANTS)) == 24
    for name in config_names():
        if name.startswith("coco/"):
            for old in (Path("configs/coco", Path(name).name).with_suffix(".yaml"), Path(name).name):
                with pytest.raises(ConfigError, match=f"; write {name}$"):
                    load_config(old)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("coco/hrnet/hrnet_w23_256x192", "did you mean coco/hrnet/hrnet_w32_256x192?"),
        ("quikstart", "did you mean synthetic/quickstart?"),
        ("configs/coco", "`psa-pose configs` lists the names"),
        ("", "`psa-pose configs` lists the names"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(wrong, says):
    with pytest.raises(ConfigError) as error:
        load_config(wrong)
    assert str(error.value).endswith(f"is neither a file nor the name of one; {says}")
