"""Training from other people's weights, and their networks converted to ours."""

import hashlib
import json
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import ResNet18_Weights, resnet18

from psa_pose.checkpoints import checkpoint_content, download, load_checkpoint, save_checkpoint
from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.config import dump_config
from psa_pose.errors import CheckpointError
from psa_pose.models import build_model
from psa_pose.training.pretrained import load_pretrained
from tests.runs import run_test, run_train

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty torch.hub cache on a machine without network: its proxy is a port where nobody answers."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache/hub/checkpoints"


def test_without_a_network_one_sentence_says_what_to_do(cache, tiny_config):
    cfg = tiny_config("MODEL.PRETRAINED", "imagenet", "MODEL.WIDTH", 64)
    with pytest.raises(CheckpointError) as error:
        load_pretrained(cfg, build_model(cfg), ModelSpec.of_config(cfg), print)
    url = ResNet18_Weights.IMAGENET1K_V1.url
    for part in (str(cache / Path(url).name), f"put {url} there", "MODEL.PRETRAINED", "could not be downloaded"):
        assert part in str(error.value)
    assert list(cache.iterdir()) == []


def test_a_file_in_the_cache_needs_no_network(cache, tiny_config):
    cache.mkdir(parents=True)
    weights = resnet18(weights=None).state_dict()
    torch.save(weights, cache / Path(ResNet18_Weights.IMAGENET1K_V1.url).name)
    said: list[str] = []
    for order, notes in (("rgb", 0), ("bgr", 1)):
        said.clear()
        cfg = tiny_config("MODEL.PRETRAINED", "imagenet", "MODEL.WIDTH", 64, "INPUT.CHANNEL_ORDER", order)
        model = build_model(cfg)
        load_pretrained(cfg, model, ModelSpec.of_config(cfg), said.append)
        assert torch.equal(model.layer3[0].conv1.weight, weights["layer3.0.conv1.weight"])
        assert "2 keys dropped (fc.weight, fc.bias)" in said[0]
        assert "of attention slots" in said[1]
        assert "of the head (deconv_layers" in said[1]
        assert sum("was trained on rgb images, this run reads bgr" in line for line in said) == notes


def test_a_download_is_checked_by_its_hash(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    good = tmp_path / f"a-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    for origin in (good, tmp_path / "b-00000000.pth"):
        origin.write_bytes(b"weights")
    path = download.cached_download(good.as_uri(), "the weights", "or do without")
    assert path.read_bytes() == b"weights"
    with pytest.raises(CheckpointError, match=r"the weights .*invalid hash.*or do without"):
        download.cached_download((tmp_path / "b-00000000.pth").as_uri(), "the weights", "or do without")
    assert list(path.parent.iterdir()) == [path]


def foreign(cfg, path: Path, **changes) -> torch.nn.Module:
    """A network without attention in the layout of HRNet's code, as that writes it while it trains; the network."""
    torch.manual_seed(5)
    plain = cfg.clone()
    plain.defrost()
    plain.MODEL.ATTENTION.NAME = "none"
    model = build_model(plain)
    # Maps of very small weights would all be ties.
    with torch.no_grad():
        model.final_layer.weight.mul_(1000)
    weights = {f"module.{key}": value for key, value in model.state_dict().items()} | changes
    torch.save({"epoch": 1, "state_dict": weights, "perf": np.float64(0.7)}, path)
    return model


def test_a_run_starts_from_a_file_and_says_so(tiny_config, tmp_path):
    words = ["MODEL.PRETRAINED", tmp_path / "a.pth", "TRAIN.OPTIMIZER.LR", 1e-9, "MODEL.WIDTH", 8, "TEST.FLIP", False]
    cfg = tiny_config(*words, "TRAIN.EPOCHS", 1)
    theirs = foreign(cfg, tmp_path / "a.pth")
    folder = run_train(cfg)
    log = (folder / "log.txt").read_text()
    assert "a.pth holds SimpleBaseline's pose network in its 'state_dict'; 0 keys dropped" in log
    assert "of attention slots (layer1.0.attention." in log
    assert "was trained on bgr images, this run reads rgb" in log
    trained = load_checkpoint(folder / "last.pt")["model"]["layer4.1.conv2.weight"]
    assert torch.allclose(trained, theirs.layer4[1].conv2.weight, atol=1e-6)
    # A resumed run has its own weights: the file is not read again.
    (tmp_path / "a.pth").unlink()
    run_train(tiny_config(*words, "TRAIN.EPOCHS", 2), resume=True)
    with pytest.raises(CheckpointError, match=r"a\.pth is not there"):
        run_train(cfg, overwrite=True)


def convert(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    """Exit status, output and errors of the command."""
    monkeypatch.setattr(sys, "argv", ["convert.py", *map(str, arguments)])
    try:
        runpy.run_path(str(REPOSITORY / "tools/convert.py"), run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code
    return status, *capsys.readouterr()


def results(folder: Path) -> list[object]:
    return [json.loads(path.read_text()) for path in sorted((folder / "test").glob("keypoints_*.json"))]


def test_a_converted_network_is_tested_as_the_original(tiny_config, tmp_path, monkeypatch, capsys):
    words = ["MODEL.ATTENTION.NAME", "none", "INPUT.CHANNEL_ORDER", "bgr", "TEST.BOXES", "ground_truth"]
    cfg = tiny_config(*words, "OUTPUT_DIR", tmp_path / "theirs")
    theirs = foreign(cfg, tmp_path / "a.pth")
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    files = ["--cfg", tmp_path / "config.yaml", "--weights", tmp_path / "a.pth", "--out", tmp_path / "a.pt"]
    status, said, errors = convert(monkeypatch, capsys, *files)
    assert (status, errors) == (0, "")
    assert "keys match, 0 missing, 0 unexpected" in said
    last = shlex.split(said.splitlines()[-1])
    assert last[:4] == ["next:", "psa-pose", "test", "--cfg"]
    assert last[-2:] == ["--checkpoint", str(tmp_path / "a.pt")]
    content = load_checkpoint(tmp_path / "a.pt")
    assert content["input"] | {"CHANNEL_ORDER": "bgr", "SIZE": [64, 64]} == content["input"]
    assert content["config"] == dump_config(cfg)

    save_checkpoint(tmp_path / "theirs.pt", checkpoint_content(cfg, ModelSpec.of_config(cfg), theirs, None, 0, -1.0))
    run_test(cfg, tmp_path / "theirs.pt")
    ours = tiny_config(*words, "OUTPUT_DIR", tmp_path / "ours")
    run_test(ours, tmp_path / "a.pt")
    assert results(tmp_path / "ours") == results(tmp_path / "theirs") != []
    with pytest.raises(CheckpointError, match=r"INPUT\.CHANNEL_ORDER bgr"):
        run_test(tiny_config(*words, "INPUT.CHANNEL_ORDER", "rgb"), tmp_path / "a.pt")

    # There is no run in it to go on with.
    (tmp_path / "a.pt").rename(tmp_path / "ours/last.pt")
    with pytest.raises(CheckpointError, match=r"converted, not trained here.*MODEL\.PRETRAINED"):
        run_train(ours, resume=True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            [],
            "trained on bgr images, as the published networks of its layout were, but INPUT.CHANNEL_ORDER is rgb",
        ),
        (["INPUT.CHANNEL_ORDER", "bgr", "--channel-order", "rgb"], "rgb images, as --channel-order says, but"),
        (["INPUT.CHANNEL_ORDER", "bgr", "MODEL.ATTENTION.NAME", "psa_p"], "missing layer1.0.attention."),
        (["INPUT.CHANNEL_ORDER", "bgr", "MODEL.DEPTH", "34"], "missing layer1.2."),
        (["INPUT.CHANNEL_ORDER", "bgr", "CODEC.NAME", "udp_offset", "CODEC.SIGMA", "0"], "another shape: final_layer"),
        (["--weights", "{folder}/resnet.pth"], "is a trunk alone; train from it: MODEL.PRETRAINED"),
        (["--weights", "{folder}/own.pt"], "needs no conversion"),
        (["--weights", "{folder}/gone.pth"], "gone.pth cannot be read"),
        (["--out", "{folder}/own.pt"], "own.pt is there already"),
    ],
)
def test_what_cannot_be_converted_is_one_sentence(words, says, tiny_config, tmp_path, monkeypatch, capsys):
    cfg = tiny_config("MODEL.ATTENTION.NAME", "none")
    model = foreign(cfg, tmp_path / "a.pth")
    save_checkpoint(tmp_path / "own.pt", checkpoint_content(cfg, ModelSpec.of_config(cfg), model, None, 0, -1.0))
    if "resnet" in str(words):
        torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet.pth")
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    files = ["--cfg", tmp_path / "config.yaml", "--weights", tmp_path / "a.pth", "--out", tmp_path / "a.pt"]
    status, _, errors = convert(monkeypatch, capsys, *files, *(word.format(folder=tmp_path) for word in words))
    assert status == 2
    assert says in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "a.pt").exists()


def test_the_order_that_is_given_wins_over_the_published_one(tiny_config, tmp_path, monkeypatch, capsys):
    cfg = tiny_config("MODEL.ATTENTION.NAME", "none")
    foreign(cfg, tmp_path / "a.pth")
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    files = ["--cfg", tmp_path / "config.yaml", "--weights", tmp_path / "a.pth", "--out", tmp_path / "a.pt"]
    assert convert(monkeypatch, capsys, *files, "--channel-order", "rgb")[0] == 0
    assert load_checkpoint(tmp_path / "a.pt")["input"]["CHANNEL_ORDER"] == "rgb"
