"""Exported segmentation networks answer what a test writes, pixel by pixel, at any size."""

import json
import runpy
import sys

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import psa_pose
from psa_pose.checkpoints import checkpoint_content, save_checkpoint
from psa_pose.errors import CheckpointError, DataError
from psa_pose.evaluation.test import run_test
from psa_pose.models import hrnet
from psa_pose.predict import Normalization
from psa_pose.segmentation.data.label_files import read_indices, write_label
from psa_pose.segmentation.inference import export
from psa_pose.segmentation.inference.export import SegmentationExportSpec, export_segmentation
from psa_pose.segmentation.inference.labeller import build_scores
from psa_pose.segmentation.spec import load_segmentation
from psa_pose.tasks import build_task
from tests.export.small import settle
from tests.segmentation.test_task import HMSA, REPOSITORY

pytest.importorskip("onnx", reason="exporting to ONNX needs onnx")
pytest.importorskip("onnxruntime", reason="ONNX files are run by onnxruntime")
pytest.importorskip("onnxscript", reason="PyTorch's ONNX exporter needs onnxscript")

NETWORKS = {
    "mobilenet": ["MODEL.BACKBONE", "mobilenet_v2", "MODEL.ATTENTION.NAME", "none", "INPUT.CHANNEL_ORDER", "bgr"],
    "resnet50 psa_p": ["MODEL.BACKBONE", "resnet50"],
    "hrnetv2": ["MODEL.NAME", "hrnetv2", "MODEL.ATTENTION.NAME", "none"],
    "ocr": ["MODEL.NAME", "hrnet_ocr", "LOSS.OUTPUT_WEIGHTS", [0.4, 1], "MODEL.ATTENTION.NAME", "none"],
    "hmsa": [*HMSA, "TEST.PROTOCOLS", ["hmsa"]],
    "hmsa flip": [*HMSA, "TEST.PROTOCOLS", ["flip"]],
}
# (width, height): of both kinds of divisibility.
SIZES = ((96, 128), (75, 101), (130, 67))


@pytest.fixture
def small(monkeypatch):
    """HRNet with one block of everything: tracing takes as long as a network is deep."""
    monkeypatch.setattr(hrnet, "BLOCKS_PER_BRANCH", 1)
    monkeypatch.setattr(hrnet, "MODULES_PER_STAGE", (1, 1, 1))


def save(cfg, path):
    """A checkpoint of a network with the statistics of a trained one, which finds every class somewhere."""
    torch.manual_seed(0)
    task = build_task(cfg)
    model = settle(task.build_model())
    images = nn.functional.interpolate(torch.randn(4, 3, 9, 7), (64, 96), mode="bilinear")
    final = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.out_channels == len(task.classes)][-1]
    with torch.no_grad():
        final.bias -= model(images).mean((0, 2, 3))
    save_checkpoint(path, checkpoint_content(cfg, task.spec(), model))
    return path


def draw(folder):
    """Pictures of every size with labels."""
    rng = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (9, 7, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"images/{number}.png"), cv2.resize(coarse, size))
        write_label(folder / f"labels/{number}.png", rng.integers(0, 5, size[::-1]).astype(np.uint8))
    return [
        *("DATASET.FORMAT", "folder", "DATASET.TEST_IMAGES", folder / "images"),
        *("DATASET.TEST_LABELS", folder / "labels"),
    ]  # fmt: skip


def scores_of(checkpoint, image):
    """PyTorch's scores (C, H, W) of an RGB picture under the config's protocol, in float64."""
    model, spec, cfg = load_segmentation(checkpoint)
    shown = torch.from_numpy(np.ascontiguousarray(image if spec.channel_order == "rgb" else image[..., ::-1]))[None]
    images = Normalization.of(spec.mean, spec.std, torch.device("cpu"))(shown).double()
    with torch.no_grad():
        return build_scores(cfg, model.double(), cfg.TEST.PROTOCOLS[0])(images)[0].numpy()


def check_all_but_ties(labels, other, scores):
    """Two label maps differ only where the two highest scores are as good as equal, which is next to nowhere."""
    best = np.sort(scores, axis=0)
    margin = (best[-1] - best[-2]) / max(1, np.abs(scores).max())
    assert (margin[labels != other] < 1e-4).all()
    assert (margin < 1e-4).mean() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_file_and_segmenter_answer_every_pixel_of_a_test_but_ties(name, scene_config, tmp_path, small):
    cfg = scene_config(*draw(tmp_path / "data"), *NETWORKS[name], "OUTPUT_DIR", tmp_path / "run")
    checkpoint, protocol = save(cfg, tmp_path / "network.pt"), cfg.TEST.PROTOCOLS[0]
    found = export_segmentation(checkpoint, tmp_path / "network.onnx", flip=protocol == "flip")
    assert found.scores < 1e-4
    run_test(build_task(cfg), checkpoint)
    segmenters = [
        psa_pose.Segmenter.from_checkpoint(checkpoint, "cpu"),
        psa_pose.Segmenter.from_onnx(tmp_path / "network.onnx"),
    ]
    classes = set[int]()
    for number in range(len(SIZES)):
        path = tmp_path / f"data/images/{number}.png"
        mask = read_indices(tmp_path / f"run/test/masks_images_{protocol}/{number}.png")
        scores = scores_of(checkpoint, cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))
        classes |= set(np.unique(mask).tolist())
        for segmenter in segmenters:
            assert segmenter.protocol == protocol
            assert segmenter.classes == build_task(cfg).classes
            check_all_but_ties(segmenter(path), mask, scores)
    assert len(classes) > 1


class Plain(nn.Module):
    """As little of a network as has scores."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, images):
        return self.layer(images)


@pytest.fixture
def plain(scene_config, tmp_path, monkeypatch):
    """A checkpoint file whose network is replaced by a plain one."""
    cfg = scene_config()
    spec = build_task(cfg).spec()
    torch.manual_seed(0)
    model = Plain().eval()
    monkeypatch.setattr(export, "load_segmentation", lambda path: (model, spec, cfg))
    path = tmp_path / "c.pt"
    save_checkpoint(path, checkpoint_content(cfg, spec, model))
    return path


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["export.py", *map(str, words)])
    runpy.run_path(str(REPOSITORY / "tools/export.py"), run_name="__main__")


def test_the_tool_writes_a_file_that_says_what_it_is(plain, monkeypatch, capsys):
    run(monkeypatch, "--checkpoint", plain)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("largest difference from PyTorch: scores")
    out = plain.with_suffix(".onnx")
    assert said[1].startswith(str(out))
    segmenter = psa_pose.Segmenter.from_onnx(out, threads=1)
    assert segmenter.protocol == "full"
    assert segmenter(np.zeros((40, 51, 3), np.uint8)).shape == (40, 51)
    with pytest.raises(DataError, match=r"51x20 pixels, .* takes sides of 33 and more"):
        segmenter(np.zeros((20, 51, 3), np.uint8))
    with pytest.raises(CheckpointError, match=r"give it to psa_pose\.Segmenter"):
        psa_pose.PoseEstimator.from_onnx(out)


def test_padding_is_not_in_a_file_and_said_so(plain, tmp_path, monkeypatch):
    model, spec, cfg = export.load_segmentation(plain)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.PAD_TO = 32
    monkeypatch.setattr(export, "load_segmentation", lambda path: (model, spec, cfg))
    said = []
    assert export_segmentation(plain, tmp_path / "m.pt2", "torch_export", info=said.append).fit
    assert said[0].endswith("TEST.PAD_TO 1, not 32")


def test_an_archive_answers_as_the_file(plain, tmp_path):
    assert export_segmentation(plain, tmp_path / "m.pt2", "torch_export", flip=True).fit
    extra = {"psa_pose.json": ""}
    program = torch.export.load(tmp_path / "m.pt2", extra_files=extra).module()
    assert SegmentationExportSpec.of_json(extra["psa_pose.json"], "x").protocol == "flip"
    assert program(torch.zeros(1, 35, 47, 3, dtype=torch.uint8)).shape == (1, 5, 35, 47)


@pytest.mark.parametrize(
    ("words", "option"),
    [(["--keypoints"], "--keypoints"), (["--quantize", "dynamic"], "--quantize"), (["--cfg", "x.yaml"], "--cfg")],
)
def test_options_of_people_are_refused(plain, monkeypatch, capsys, words, option):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--checkpoint", plain, *words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"{option} is for people" in said
    assert len(said.splitlines()) == 1


def test_scores_that_are_not_pytorchs_are_not_written(plain, tmp_path, monkeypatch):
    out = tmp_path / "m.pt2"
    out.write_bytes(b"before")

    def slightly_wrong(model):
        wrong = Plain().eval()
        wrong.load_state_dict({key: value + 0.01 for key, value in model.state_dict().items()})
        return wrong

    monkeypatch.setattr(export, "fold_batchnorm", slightly_wrong)
    with pytest.raises(CheckpointError, match="are not those of"):
        export_segmentation(plain, out, "torch_export")
    assert out.read_bytes() == b"before"


@pytest.mark.parametrize("change", [{"classes": 3}, {"protocol": "crop"}, {"format": 2}, {"input": {}}, None])
def test_a_text_that_is_no_statement_is_refused(scene_config, change):
    spec = SegmentationExportSpec(build_task(scene_config()).spec(), "full", 33)
    good = spec.to_json({})
    assert SegmentationExportSpec.of_json(good, "x") == spec
    wrong = None if change is None else json.dumps(json.loads(good) | change)
    with pytest.raises(CheckpointError, match="x is no segmentation network"):
        SegmentationExportSpec.of_json(wrong, "x")
