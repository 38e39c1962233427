"""Exported files: their answers are PyTorch's, they say what they are, and a wrong one is refused by a sentence."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import psa_pose
from psa_pose.attention import ATTENTIONS
from psa_pose.checkpoints.spec import SPEC_KEY, ExportSpec, ModelSpec, load_network
from psa_pose.errors import CheckpointError, ConfigError, PsaPoseError
from psa_pose.export import write
from psa_pose.export.files import trace
from psa_pose.export.graph import ExportGraph
from psa_pose.export.write import export_checkpoint
from psa_pose.inference.backends import OnnxBackend
from psa_pose.models.fold import fold_batchnorm
from psa_pose.predict import TorchBackend
from tests.export.small import BACKBONES, saved, small_config, small_network

onnx = pytest.importorskip("onnx", reason="exporting to ONNX needs onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX files are run by onnxruntime")
pytest.importorskip("onnxscript", reason="PyTorch's ONNX exporter needs onnxscript")

CODECS = ["standard", "dark", "udp_gaussian", "udp_offset"]


def some_crops(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint, and the ONNX file made from it."""
    folder = tmp_path_factory.mktemp("exported")
    words = ("MODEL.ATTENTION.NAME", "psa_p", "INPUT.CHANNEL_ORDER", "bgr")
    checkpoint = saved(folder / "c.pt", "simple_baseline", *words)
    found = export_checkpoint(checkpoint, folder / "m.onnx", flip=False)
    assert found.maps < 1e-4
    assert found.joints is None
    return checkpoint, folder / "m.onnx"


class Plain(nn.Module):
    """As little of a network as answers maps of a quarter of the crop's size."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, maps, 5, stride=4, padding=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images)


@pytest.mark.parametrize("form", ["onnx", "torch_export"])
@pytest.mark.parametrize("codec", CODECS)
def test_keypoints_of_the_graph_are_those_of_the_codec(codec, form):
    # A short blur, because each of its taps has to be traced.
    blur = 0 if codec == "standard" else 5
    words = ("CODEC.NAME", codec, "CODEC.SIGMA", 0, "CODEC.BLUR", blur, "INPUT.CHANNEL_ORDER", "bgr")
    cfg = small_config("simple_baseline", *words)
    spec = ModelSpec.of_config(cfg)
    torch.manual_seed(0)
    model = Plain(17 * spec.make_codec().channels_per_joint)
    make = write.onnx_file if form == "onnx" else write.archive
    _, run = make(ExportGraph(model, ExportSpec(spec, True, True)))
    network = TorchBackend(model, spec, torch.device("cpu"), flip=True, fold=False)
    for count in (1, 4):
        crops = some_crops(count)
        joints, scores, maps = run(crops)
        assert joints.shape == (count, 17, 2)
        assert np.ptp(joints) > 10
        assert write.decoding_difference([joints, scores, maps], spec.make_codec()) < 2e-3
        assert write.decoding_difference([joints + 0.5, scores, maps], spec.make_codec()) > 1e-2
        assert np.abs(maps - network(crops, True)[2]).max() < 1e-4


def test_an_archive_of_torch_export_answers_as_the_checkpoint(tmp_path, exported):
    out = tmp_path / "m.pt2"
    assert export_checkpoint(exported[0], out, "torch_export", flip=False).maps < 1e-4
    extra = {f"{SPEC_KEY}.json": ""}
    program = torch.export.load(out, extra_files=extra)
    assert not ExportSpec.of_json(extra[f"{SPEC_KEY}.json"], out).keypoints
    crops = some_crops(4)
    expected = OnnxBackend(exported[1])(crops, True)[2]
    with torch.no_grad():
        assert np.abs(program.module()(torch.from_numpy(crops)).numpy() - expected).max() < 2e-4


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["none", *ATTENTIONS])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_network_with_every_attention(backbone, attention):
    words = (backbone, "MODEL.STACKS", 1, "MODEL.ATTENTION.NAME", attention)
    cfg = small_config(*words)
    model, spec = small_network(*words), ModelSpec.of_config(cfg)
    crops = some_crops(3)
    with torch.no_grad():
        expected = ExportGraph(model, ExportSpec(spec, False, False))(torch.from_numpy(crops)).numpy()
    program = trace(ExportGraph(fold_batchnorm(model), ExportSpec(spec, False, False)))
    data = torch.onnx.export(program, (), input_names=["crops"], output_names=["maps"], dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(data.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    tolerance = 1e-4 * max(1.0, np.abs(expected).max())
    with torch.no_grad():
        assert np.abs(program.module()(torch.from_numpy(crops)).numpy() - expected).max() < tolerance
    assert np.abs(session.run(None, {"crops": crops})[0] - expected).max() < tolerance


def test_the_estimator_of_a_file_is_that_of_the_checkpoint(exported):
    checkpoint, out = exported
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    boxes = [[0, 0, 60, 80], [30, 10, 70, 70], [-9, 5, 60, 99]]
    expected = psa_pose.PoseEstimator.from_checkpoint(checkpoint, "cpu", flip=False)(picture, boxes, heatmaps=True)
    estimator = psa_pose.PoseEstimator.from_onnx(out, threads=1)
    people = estimator(picture, boxes, heatmaps=True, batch_size=2)
    for one, other in zip(people, expected, strict=True):
        assert np.abs(one.heatmaps - other.heatmaps).max() < 1e-4 * max(1, np.abs(other.heatmaps).max())
        assert np.median(np.abs(one.keypoints - other.keypoints)) < 1e-2
        assert one.score == pytest.approx(other.score, rel=1e-3)
    assert estimator.skeleton.names == psa_pose.PoseEstimator.from_checkpoint(checkpoint, "cpu").skeleton.names
    with pytest.raises(ConfigError, match="gates"):
        estimator.gates(picture)


def test_the_two_ways_to_an_estimator_agree_by_default(tmp_path, exported):
    """Both average with the mirrored crop: the same keypoints; a network that does not answers tens of pixels away."""
    checkpoint = saved(tmp_path / "c.pt", "simple_baseline", "CODEC.NAME", "standard", "MODEL.ATTENTION.NAME", "none")
    export_checkpoint(checkpoint, tmp_path / "m.onnx", keypoints=True)
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    boxes = [[0, 0, 60, 80], [30, 10, 70, 70], [-9, 5, 60, 99]]

    def keypoints(estimator: psa_pose.PoseEstimator) -> np.ndarray:
        return np.stack([person.keypoints[:, :2] for person in estimator(picture, boxes)])

    of_file = psa_pose.PoseEstimator.from_onnx(tmp_path / "m.onnx")
    of_checkpoint = psa_pose.PoseEstimator.from_checkpoint(checkpoint, "cpu")
    assert np.abs(keypoints(of_file) - keypoints(of_checkpoint)).max() < 0.1
    once = psa_pose.PoseEstimator.from_checkpoint(checkpoint, "cpu", flip=False)
    assert np.abs(keypoints(of_file) - keypoints(once)).max() > 4
    # A file from before says what it does, and is as it was.
    before = psa_pose.PoseEstimator.from_onnx(exported[1])
    plain = psa_pose.PoseEstimator.from_checkpoint(exported[0], "cpu", flip=False)
    assert np.median(np.abs(keypoints(before) - keypoints(plain))) < 1e-2
    for path, does in ((tmp_path / "m.onnx", True), (exported[1], False)):
        psa_pose.PoseEstimator.from_onnx(path, flip=does)
        said = f"was exported with{'' if does else 'out'} the flip test, .* again with --{'no-' if does else ''}flip"
        with pytest.raises(ConfigError, match=said):
            psa_pose.PoseEstimator.from_onnx(path, flip=not does)


def test_a_file_carries_no_source_lines_of_where_it_was_made(tmp_path, exported):
    export_checkpoint(exported[0], tmp_path / "m.pt2", "torch_export", flip=False)
    with zipfile.ZipFile(tmp_path / "m.pt2") as archive:
        parts = [archive.read(name) for name in archive.namelist()]
    for data in (exported[1].read_bytes(), *parts):
        assert b".py" not in data
        assert str(Path(write.__file__).parents[2]).encode() not in data
    assert not any(node.metadata_props for node in onnx.load(exported[1]).graph.node)


def test_what_is_no_exported_file_is_refused(exported, tmp_path, monkeypatch):
    checkpoint, out = exported
    whole = out.read_bytes()
    for wrong in (b"", b"no file", whole[:1000], whole[: len(whole) // 2]):
        (tmp_path / "wrong.onnx").write_bytes(wrong)
        with pytest.raises(CheckpointError, match=r"damaged|not one that"):
            OnnxBackend(tmp_path / "wrong.onnx")
    with pytest.raises(CheckpointError, match="cannot be read"):
        OnnxBackend(tmp_path / "missing.onnx")
    with pytest.raises(CheckpointError, match="damaged or not an ONNX file"):
        OnnxBackend(checkpoint)
    with pytest.raises(ConfigError, match="no provider"):
        OnnxBackend(out, ["NoSuchProvider"])
    stated = json.loads(onnx.load(out).metadata_props[0].value)
    for change in ({"format": 2}, {"facts": {}}, {"facts": stated["facts"] | {"codec": "no"}}, {"keypoints": True}):
        model = onnx.load(out)
        onnx.helper.set_model_props(model, {SPEC_KEY: json.dumps(stated | change)})
        onnx.save(model, tmp_path / "wrong.onnx")
        with pytest.raises(CheckpointError, match=r"wrong\.onnx"):
            OnnxBackend(tmp_path / "wrong.onnx")
    model = onnx.load(out)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(CheckpointError, match="not one that"):
        OnnxBackend(tmp_path / "foreign.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="pip install onnxruntime"):
        OnnxBackend(out)


@pytest.mark.parametrize("change", [{"facts": None}, {"facts": {"padding": "1"}}, {"facts": {"std": [0, 1, 1]}}, []])
def test_a_text_that_is_no_statement_is_refused(exported, change):
    _, spec = load_network(exported[0])
    good = json.loads(write.ExportSpec(spec, False, False).to_json({}))
    assert ExportSpec.of_json(json.dumps(good), "x").network == spec
    inner = change.get("facts") if isinstance(change, dict) else None
    wrong = good | {"facts": good["facts"] | inner if inner else None} if isinstance(change, dict) else change
    with pytest.raises(CheckpointError, match="x is not a network"):
        ExportSpec.of_json(json.dumps(wrong), "x")


def test_answers_that_are_not_pytorchs_are_not_written(tmp_path, monkeypatch):
    checkpoint, out = saved(tmp_path / "c.pt", "simple_baseline", "MODEL.ATTENTION.NAME", "none"), tmp_path / "m.pt2"
    out.write_bytes(b"before")
    monkeypatch.setattr(write, "fold_batchnorm", _slightly_wrong)
    with pytest.raises(CheckpointError, match="not those of"):
        export_checkpoint(checkpoint, out, "torch_export")
    assert out.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir() if "m.pt2" in path.name] == ["m.pt2"]


def _slightly_wrong(model):
    folded = fold_batchnorm(model)
    folded.final_layer.bias.add_(0.01)
    return folded


@pytest.mark.parametrize(("quantized", "attention"), [("dynamic", "none"), ("static", "psa_p")])
def test_eight_bits_are_near_and_smaller(tmp_path, quantized, attention):
    checkpoint, small = (
        saved(tmp_path / "c.pt", "simple_baseline", "MODEL.ATTENTION.NAME", attention),
        tmp_path / "m.onnx",
    )
    calibration = some_crops(12) if quantized == "static" else None
    found = export_checkpoint(checkpoint, small, flip=False, quantized=quantized, calibration=calibration)
    assert 1e-4 < found.maps < 0.3
    # Four bytes a weight are the checkpoint's.
    assert small.stat().st_size < 0.8 * checkpoint.stat().st_size
    kinds = {node.op_type for node in onnx.load(small).graph.node}
    assert {"ConvInteger"} <= kinds if quantized == "dynamic" else {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert OnnxBackend(small).exported.quantized == quantized


@pytest.mark.parametrize(
    ("form", "quantized", "calibrated", "words"),
    [
        ("torchscript", "none", False, "choose one of"),
        ("torch_export", "dynamic", False, "ONNX Runtime's"),
        ("onnx", "static", False, "calibrate"),
        ("onnx", "none", True, "calibrate"),
    ],
)
def test_what_cannot_be_combined_is_refused(tmp_path, form, quantized, calibrated, words):
    crops = some_crops(1) if calibrated else None
    with pytest.raises(PsaPoseError, match=words):
        export_checkpoint(tmp_path / "c.pt", tmp_path / "m", form, quantized=quantized, calibration=crops)


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match="pip install onnx onnxscript onnxruntime"):
        export_checkpoint(tmp_path / "c.pt", tmp_path / "m.onnx")
