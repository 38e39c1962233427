"""tools/export.py: what it writes, what it says, what it refuses; and the AP of what it wrote."""

import runpy
import sys
from pathlib import Path

import pytest

from psa_pose.checkpoints import checkpoint_content, save_checkpoint
from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.config import dump_config
from psa_pose.inference.backends import OnnxBackend
from psa_pose.models import build_model

pytest.importorskip("onnx", reason="exporting to ONNX needs onnx")
pytest.importorskip("onnxruntime", reason="ONNX files are run by onnxruntime")
pytest.importorskip("onnxscript", reason="PyTorch's ONNX exporter needs onnxscript")

TOOL = str(Path(__file__).parents[2] / "tools/export.py")


@pytest.fixture
def trained(tiny_config, tmp_path):
    """A checkpoint of an untrained network, and the config file of its data."""
    small = ("MODEL.WIDTH", 8, "MODEL.ATTENTION.NAME", "none")
    cfg = tiny_config(*small, "INPUT.CHANNEL_ORDER", "bgr", "TEST.BOXES", "ground_truth")
    save_checkpoint(tmp_path / "c.pt", checkpoint_content(cfg, ModelSpec.of_config(cfg), build_model(cfg)))
    (tmp_path / "c.yaml").write_text(dump_config(cfg))
    return tmp_path / "c.pt", tmp_path / "c.yaml"


def run(monkeypatch, *words) -> None:
    monkeypatch.setattr(sys, "argv", ["export.py", *map(str, words)])
    runpy.run_path(TOOL, run_name="__main__")


def test_an_archive_is_written_where_it_is_wanted(trained, tmp_path, monkeypatch, capsys):
    out = tmp_path / "new" / "m.pt2"
    run(monkeypatch, "--checkpoint", trained[0], "--format", "torch_export", "--out", out)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("largest difference from PyTorch: maps")
    assert said[-1].startswith(str(out))
    assert out.stat().st_size > 1e5


@pytest.mark.parametrize(
    ("words", "flip"), [((), True), pytest.param(("--flip",), True, marks=pytest.mark.slow), (("--no-flip",), False)]
)
def test_the_flip_test_is_in_the_file_unless_it_is_refused(trained, monkeypatch, words, flip):
    run(monkeypatch, "--checkpoint", trained[0], *words)
    assert OnnxBackend(trained[0].with_suffix(".onnx")).exported.flip == flip


@pytest.mark.slow
def test_eight_bits_calibrated_on_the_data_and_tested_beside_the_checkpoint(trained, monkeypatch, capsys):
    checkpoint, cfg = trained
    run(monkeypatch, "--checkpoint", checkpoint, "--quantize", "static", "--cfg", cfg, "--ap", "TEST.BATCH_SIZE", 4)
    said = capsys.readouterr().out
    assert "largest difference from PyTorch: maps" in said
    assert said.count("ground truth") == 2
    assert said.splitlines()[-1].startswith(str(checkpoint.with_suffix(".onnx")))
    assert OnnxBackend(checkpoint.with_suffix(".onnx")).exported.quantized == "static"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--quantize", "static"), "give --cfg"),
        (("--ap",), "give --cfg"),
        (("--format", "torch_export", "--quantize", "dynamic"), "ONNX Runtime's"),
        (("--checkpoint", "missing.pt"), "missing.pt cannot be read"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(trained, monkeypatch, capsys, words, says):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--checkpoint", trained[0], *words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1
