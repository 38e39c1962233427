"""Every key of MODEL, and what the tests and losses of a config ask for, where it should be."""

import numpy as np
import pytest
import torch
from torch import nn

from psa_pose.attention import PolarizedAttention
from psa_pose.data.dataset import Batch
from psa_pose.evaluation.predict_set import evaluate
from psa_pose.metrics.coco_ap import Predictions, keypoint_ap, to_results
from psa_pose.models import build_model
from psa_pose.models.blocks import BasicBlock, Bottleneck, attention_modules
from psa_pose.models.gates import spatial_gate_deviation
from psa_pose.skeleton import COCO
from psa_pose.tasks import build_task


def test_widths_depths_and_heads_are_the_configs(tiny_config):
    plain = ["MODEL.ATTENTION.NAME", "none"]
    base = build_model(tiny_config(*plain, "MODEL.WIDTH", 8, "MODEL.HEAD_CHANNELS", 12, "MODEL.DEPTH", 18))
    assert base.conv1.out_channels == 8
    assert base.final_layer.weight.shape == (17, 12, 1, 1)
    assert [len(getattr(base, f"layer{n}")) for n in (1, 2, 3, 4)] == [2, 2, 2, 2]
    deep = build_model(tiny_config(*plain, "MODEL.WIDTH", 8, "MODEL.DEPTH", 34))
    assert [len(getattr(deep, f"layer{n}")) for n in (1, 2, 3, 4)] == [3, 4, 6, 3]
    assert build_model(tiny_config(*plain, "MODEL.WIDTH", 0)).conv1.out_channels == 64
    hrnet = build_model(tiny_config(*plain, "MODEL.NAME", "hrnet", "MODEL.WIDTH", 6))
    assert hrnet.channels == (6,)
    assert hrnet.final_layer.in_channels == 6
    glass = build_model(tiny_config(*plain, "MODEL.NAME", "hourglass", "MODEL.WIDTH", 8, "MODEL.STACKS", 3))
    assert len(glass.stacks) == 3
    assert glass.stacks[0].final_layer.in_channels == 8
    cpn = build_model(
        tiny_config(*plain, "MODEL.NAME", "cpn", "MODEL.WIDTH", 8, "MODEL.HEAD_CHANNELS", 14, "MODEL.DEPTH", 18)
    )
    assert cpn.resnet.conv1.out_channels == 8
    assert cpn.refine_net.final_layer.in_channels == 14
    offset = build_model(tiny_config(*plain, "CODEC.NAME", "udp_offset"))
    assert offset.final_layer.out_channels == 3 * 17


def test_attention_and_its_options_are_the_configs(tiny_config):
    network = ["MODEL.NAME", "hrnet", "MODEL.WIDTH", 8]
    for name, where, kinds in (("psa_p", "all", {BasicBlock, Bottleneck}), ("psa_p", "basic", {BasicBlock})):
        model = build_model(tiny_config(*network, "MODEL.ATTENTION.NAME", name, "MODEL.ATTENTION.WHERE", where))
        holding = {type(m) for m in model.modules() if isinstance(getattr(m, "attention", None), nn.Module)}
        assert holding == kinds
    words = ["MODEL.ATTENTION.NAME", "psa_s", "MODEL.ATTENTION.SPATIAL", "fig2", "MODEL.ATTENTION.DIRECT", True]
    blocks = attention_modules(build_model(tiny_config(*words)))
    assert blocks
    for block in blocks:
        assert isinstance(block, PolarizedAttention)
        assert (block.layout, block.direct, block.spatial.form) == ("sequential", True, "fig2")
    for block in attention_modules(build_model(tiny_config("MODEL.ATTENTION.NAME", "psa_s"))):
        assert (block.direct, block.spatial.form) == (False, "released")
    assert attention_modules(build_model(tiny_config("MODEL.ATTENTION.NAME", "none"))) == []


def test_memory_format_is_the_configs(tiny_config):
    for last in (True, False):
        cfg = tiny_config("MODEL.CHANNELS_LAST", last)
        weight = build_model(cfg).layer1[0].conv1.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == last
        images = build_task(cfg)._normalization(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
        assert images.is_contiguous(memory_format=torch.channels_last) == last


class Recorder(nn.Module):
    """A network that remembers what it is shown, and in which mode and precision it computes."""

    def __init__(self, joints):
        super().__init__()
        self.layer = nn.Conv2d(3, joints, 1)
        self.seen = []

    def forward(self, images):
        maps = self.layer(images)[..., ::4, ::4]
        self.seen.append((images.clone(), self.training, maps.dtype))
        return maps


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_is_tested_as_the_config_says(tiny_config, flip, precision):
    words = ["INPUT.MEAN", [0.1, 0.2, 0.3], "INPUT.STD", [0.5, 0.6, 0.7], "TRAIN.PRECISION", "fp32"]
    task = build_task(tiny_config(*words, "TEST.FLIP", flip, "TEST.PRECISION", precision))
    model = Recorder(17).train()
    crops = torch.randint(256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    empty = torch.zeros(2, 17)
    joints, scores, maps = task.predictor(model)(Batch(crops, empty, empty, empty, torch.arange(2), ("", "")))
    assert len(model.seen) == 1 + flip
    expected = (crops / 255 - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.5, 0.6, 0.7])
    torch.testing.assert_close(model.seen[0][0].float(), expected.permute(0, 3, 1, 2))
    assert {training for _, training, _ in model.seen} == {False}
    assert {dtype for *_, dtype in model.seen} == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert maps.dtype == torch.float32
    assert (joints.shape, scores.shape) == ((2, 17, 2), (2, 17))
    # Training images are normalised in the same way.
    batch = Batch(crops, empty, empty, empty, torch.arange(2), ("", ""))
    torch.testing.assert_close(task.images(batch), expected.permute(0, 3, 1, 2).contiguous(), check_stride=False)


def test_thresholds_of_scores_and_doubles_reach_the_results(tiny_config):
    """Two answers per person, alike; half of the keypoints sure."""
    words = ["TEST.KEYPOINT_SCORE", 0.45, "TEST.OKS_NMS", 0.3]
    sets, figures = [], []
    for more in ([], words):
        cfg = tiny_config(*more)
        task = build_task(cfg)
        (test_set,) = task.test_sets(lambda _: None, annotated=True)
        dataset = test_set.dataset

        def answer(batch):
            at = (batch.rows * 7 % 5).float()[:, None, None]
            scores = torch.linspace(0, 1, 17).repeat(len(batch.rows), 1)
            return batch.joints + at, scores, torch.zeros(len(batch.rows), 17, 4, 4)

        result = evaluate(cfg, test_set, answer, COCO, False, lambda _: None)
        rows = np.arange(len(dataset))
        matrices = np.array([dataset[(0, row)].matrix for row in rows])
        moved = np.array([dataset[(0, row)].joints for row in rows]) + (rows * 7 % 5)[:, None, None]
        joints = np.linalg.solve(matrices[:, None, :, :2], (moved - matrices[:, None, :, 2])[..., None])[..., 0]
        predictions = Predictions(
            dataset.persons.image_ids[dataset.persons.image], dataset.persons.scores,
            dataset.regions.prod(1), joints, np.tile(np.float32(np.linspace(0, 1, 17)).astype(float), (len(rows), 1)),
        )  # fmt: skip
        sigmas = np.array(COCO.sigmas)
        expected = to_results(predictions, sigmas, cfg.TEST.KEYPOINT_SCORE, cfg.TEST.OKS_NMS)
        assert [r["score"] for r in result.results] == pytest.approx([r["score"] for r in expected])
        assert [r["image_id"] for r in result.results] == [r["image_id"] for r in expected]
        assert result.evaluation.stats == pytest.approx(
            keypoint_ap(test_set.annotations.content, result.results, sigmas)
        )
        assert (result.evaluation.persons, result.evaluation.flip) == (len(dataset), False)
        sets.append([r["score"] for r in result.results])
        figures.append(result.evaluation.stats["AP"])
    assert min(sets[1]) > max(sets[0][:1])


def test_the_deviation_of_a_gate_is_over_the_positions_of_each_map():
    gate = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]], [[[5.0, 5.0], [5.0, 9.0]]]])
    found = spatial_gate_deviation({"a": (None, gate), "b": (gate, None)})
    assert found == {"a": pytest.approx((np.std([0, 1, 2, 3]) + np.std([5, 5, 5, 9])) / 2)}
