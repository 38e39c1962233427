"""tools/convert.py on other people's segmentation checkpoints, made on the spot in their layouts."""

import numpy as np
import pytest
import torch

from psa_pose.checkpoints import load_checkpoint
from psa_pose.config import dump_config
from psa_pose.segmentation.spec import load_segmentation
from psa_pose.tasks import build_task
from tests.commands import run_here
from tests.segmentation.test_foreign_checkpoints import nvidia, prefixed, shaken
from tests.segmentation.test_task import HMSA, REPOSITORY

NONE = ["MODEL.ATTENTION.NAME", "none"]
OCR = ["MODEL.NAME", "hrnet_ocr", "LOSS.OUTPUT_WEIGHTS", [0.4, 1], *NONE]
SCALES = [*HMSA, "MODEL.ATTENTION.NAME"]


def of_nvidia(model):
    return lambda state: {"state_dict": prefixed("module.", nvidia(state, f"ocrnet.{model}")), "mean_iu": np.float64(1)}


# Words of the config, what its network's file looks like, and what the report calls it.
FILES = {
    "vainf mobilenet": (
        ["MODEL.BACKBONE", "mobilenet_v2", *NONE],
        lambda state: {"cur_itrs": 3, "model_state": state, "best_score": np.float64(0.7)},
        "VainF's DeepLabV3+ in its 'model_state'; 0 keys dropped",
    ),
    "hrnetv2": (
        ["MODEL.NAME", "hrnetv2", *NONE],
        lambda state: prefixed("model.", state) | {"loss.criterion.weight": torch.ones(5)},
        "HRNetV2's segmentation network; 1 keys dropped",
    ),
    "hrnet_ocr": (OCR, lambda state: {"epoch": 1, "state_dict": state}, "HRNet-OCR's segmentation network"),
    "nvidia": ([*SCALES, "none"], of_nvidia("HRNet_Mscale"), "NVIDIA's or DeLightCMU's HRNet-OCR"),
    "delightcmu psa_s": ([*SCALES, "psa_s"], of_nvidia("HRNet_Mscale+psa_s"), "NVIDIA's or DeLightCMU's HRNet-OCR"),
}


def convert(cfg, folder, *words):
    (folder / "config.yaml").write_text(dump_config(cfg))
    files = ["--cfg", folder / "config.yaml", "--weights", folder / "a.pth", "--out", folder / "a.pt"]
    return run_here(REPOSITORY / "tools/convert.py", *files, *words)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if "mobilenet" in n else pytest.mark.slow) for n in FILES])
def test_a_file_of_their_layout_becomes_a_checkpoint_that_answers_as_it_did(name, scene_config, tmp_path):
    words, wrap, called = FILES[name]
    cfg = scene_config(*words)
    theirs = shaken(build_task(cfg).build_model())
    torch.save(wrap(theirs.state_dict()), tmp_path / "a.pth")
    done = convert(cfg, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert called in done.stdout
    count = len(theirs.state_dict())
    assert f"{count} of {count} keys match, 0 missing, 0 unexpected, 0 of another shape" in done.stdout
    assert load_checkpoint(tmp_path / "a.pt")["classes"]["names"][-1] == "person"
    model, spec, _ = load_segmentation(tmp_path / "a.pt")
    assert spec == build_task(cfg).spec()
    images = torch.rand(1, 3, 64, 70)
    with torch.no_grad():
        assert torch.equal(model(images), theirs(images))


@pytest.mark.parametrize(
    ("change", "words", "says"),
    [
        (lambda state: state | {"neck.weight": torch.zeros(1)}, [], "key neck.weight does not belong to"),
        (lambda state: {k: v for k, v in state.items() if k != "classifier.project.1.bias"}, [],
         "1 missing, 0 unexpected, 0 of another shape (missing classifier.project.1.bias)"),
        (lambda state: state, ["MODEL.HEAD_CHANNELS", 16], "of another shape (another shape: classifier"),
        (lambda state: state, ["INPUT.CHANNEL_ORDER", "bgr"], "was trained on rgb images"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_one_sentence(change, words, says, scene_config, tmp_path):
    cfg = scene_config(*FILES["vainf mobilenet"][0])
    torch.save({"model_state": change(build_task(cfg).build_model().state_dict())}, tmp_path / "a.pth")
    done = convert(cfg, tmp_path, *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "a.pt").exists()


@pytest.mark.slow
def test_a_network_that_enlarges_otherwise_is_refused(scene_config, tmp_path):
    cfg = scene_config(*OCR)
    torch.save(of_nvidia("HRNet")(build_task(cfg).build_model().state_dict()), tmp_path / "a.pth")
    assert "align_corners=False" in convert(cfg, tmp_path).stderr
