from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from psa_pose.checkpoints.spec import ExportSpec, ModelSpec
from psa_pose.codecs import make_codec
from psa_pose.export.graph import ExportGraph
from psa_pose.geometry import crop_matrix, transform_points
from psa_pose.predict import CropNetwork, Normalization, TorchBackend, crop_to_image, model_predictor, predict_heatmaps
from psa_pose.skeleton import COCO
from tests.export.small import small_config, small_network


def test_normalization_is_by_channel_index():
    crops = torch.tensor([[[[255, 0, 51]]]], dtype=torch.uint8)
    images = Normalization.of((0.5, 0.25, 0.2), (0.5, 0.25, 0.1), torch.device("cpu"))(crops)
    assert images.shape == (1, 3, 1, 1)
    assert images.flatten().tolist() == pytest.approx([1, -1, 0], abs=1e-6)


def test_the_way_back_to_the_image_undoes_the_crop():
    generator = np.random.default_rng(0)
    joints = generator.uniform(0, 500, (3, 17, 2))
    matrices = crop_matrix(
        generator.uniform(0, 500, (3, 2)), np.array([[90, 120.0]] * 3), np.array([0, 30, -70.0]), (192, 256)
    )
    back = crop_to_image(torch.from_numpy(transform_points(joints, matrices)), torch.from_numpy(matrices))
    assert np.abs(back.numpy() - joints).max() < 1e-9


class Seer(nn.Module):
    """Sees a mark of each joint's own colour: answers the truth for the crop and, mirrored, for the mirrored crop."""

    def __init__(self, truth: torch.Tensor, mirrored: torch.Tensor) -> None:
        super().__init__()
        self.truth, self.mirrored = truth, mirrored

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.mirrored if images[0, 0, 0, 0] < images[0, 0, 0, -1] else self.truth


@pytest.mark.parametrize(
    ("name", "within"), [("standard", 4.1), ("dark", 0.1), ("udp_gaussian", 0.1), ("udp_offset", 0.1)]
)
def test_the_flip_test_of_a_perfect_network_changes_nothing(name, within):
    codec = make_codec(name, (96, 128), (24, 32))
    joints = torch.rand(2, 17, 2) * 50 + 25
    mirrored = joints[:, COCO.flip_order] * torch.tensor([-1.0, 1.0]) + torch.tensor([95.0, 0.0])
    visible = torch.ones(2, 17)
    seer = Seer(codec.encode(joints, visible)[0], codec.encode(mirrored, visible)[0])
    crops = torch.linspace(255, 0, 96).to(torch.uint8)[:, None].expand(2, 128, 96, 3)
    normalization = Normalization.of((0.5,) * 3, (0.2,) * 3, torch.device("cpu"))
    network = CropNetwork(seer, codec, normalization, COCO.flip_pairs, flip=True)
    found, scores = codec.decode(predict_heatmaps(network, crops))
    assert (found - joints).abs().max() < within
    assert (scores > 0.05).all()


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("codec", ["standard", "udp_offset"])
def test_evaluation_estimator_and_exported_graph_are_one_network(order, codec):
    words = ("CODEC.NAME", codec, "CODEC.SIGMA", 0, "MODEL.CHANNELS_LAST", False, "INPUT.CHANNEL_ORDER", order)
    spec = ModelSpec.of_config(small_config("simple_baseline", *words))
    model, cpu = small_network("simple_baseline", *words), torch.device("cpu")
    crops = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    normalization = Normalization.of(spec.mean, spec.std, cpu)
    predictor = model_predictor(model, spec.make_codec(), normalization, spec.skeleton, flip=True)
    shown = crops if order == "rgb" else crops.flip(3)
    expected = [part.numpy() for part in predictor(SimpleNamespace(crops=shown))]
    backend = TorchBackend(model, spec, cpu, flip=True, fold=False, channels_last=False)
    with torch.no_grad():
        graph = ExportGraph(model, ExportSpec(spec, keypoints=True, flip=True))(crops)
        once = ExportGraph(model, ExportSpec(spec, keypoints=True, flip=False))(crops)
    for found in (backend(crops.numpy(), True), [part.numpy() for part in graph]):
        assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert not np.array_equal(once[-1].numpy(), expected[-1])


def test_a_network_left_in_training_mode_answers_as_in_evaluation_mode():
    spec = ModelSpec.of_config(small_config("simple_baseline"))
    model = small_network("simple_baseline")
    batch = SimpleNamespace(crops=torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8))
    normalization = Normalization.of(spec.mean, spec.std, torch.device("cpu"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    maps = [
        model_predictor(model.train(mode), spec.make_codec(), normalization, spec.skeleton, flip=True)(batch)[2]
        for mode in (False, True)
    ]
    assert torch.equal(*maps)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
