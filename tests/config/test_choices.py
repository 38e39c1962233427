"""The names that a config may take are those that something is built from."""

import subprocess
import sys

import pytest

from psa_pose.attention import ATTENTIONS, polarized
from psa_pose.codecs import CODECS
from psa_pose.config import choices, load_config
from psa_pose.config.defaults import default_config
from psa_pose.device import DTYPES
from psa_pose.errors import ConfigError
from psa_pose.evaluation.result import BOXES
from psa_pose.models.blocks import PLACES
from psa_pose.models.build import NETWORKS
from psa_pose.models.mobilenet import PLACES as MOBILENET_PLACES
from psa_pose.models.resnet import DEPTHS
from psa_pose.segmentation.inference.protocols import JOINS
from psa_pose.segmentation.networks import build as segmentation
from psa_pose.skeleton import SKELETONS
from psa_pose.tracker import TRACKERS


@pytest.mark.parametrize(
    ("listed", "built"),
    [
        (choices.NETWORKS, NETWORKS),
        (choices.ATTENTIONS, ATTENTIONS),
        (choices.SPATIAL_FORMS, polarized.SPATIAL_FORMS),
        (choices.CODECS, CODECS),
        (choices.PRECISIONS, ("fp32", *DTYPES)),
        (choices.SKELETONS, (*SKELETONS, "annotations")),
        (choices.BOXES, [name for name in BOXES if name != "unknown"]),
        (choices.CHOICES["MODEL.DEPTH"], DEPTHS),
        (choices.PLACES, (*PLACES, *MOBILENET_PLACES[1:])),
        (choices.SEGMENTATION_NETWORKS, segmentation.NETWORKS),
        (choices.BACKBONES, segmentation.BACKBONES),
        (choices.JOINS, JOINS),
        (choices.TRACKERS, TRACKERS),
    ],
)
def test_a_list_is_what_is_built(listed, built):
    assert tuple(listed) == tuple(built)
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("key", choices.CHOICES)
def test_a_wrong_name_is_answered_with_the_nearest(key, tmp_path):
    """And the default is a right one."""
    (tmp_path / "a.yaml").write_text("")
    right = default_config()
    for part in key.split("."):
        right = right[part]
    assert right in choices.CHOICES[key]
    word = next(one for one in choices.CHOICES[key] if one)
    wrong = f"{word}0" if isinstance(word, int) else f"{word}x"
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "a.yaml", [key, wrong])
    assert str(error.value).startswith(f"{key} is ")
    assert f"did you mean {word!r}? Valid: " in str(error.value)


def test_reading_a_config_needs_no_torch():
    code = "import sys, psa_pose.config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
