import pytest
import torch
from torch import nn

from psa_pose.losses import heatmap_mse, heatmap_mse_ohkm, udp_offset_loss
from psa_pose.tasks import build_task
from psa_pose.training.optimizer import build_optimizer, build_schedule, total_steps, weight_groups


def test_the_rate_rises_over_the_warmup_and_falls_at_each_milestone(tiny_config):
    words = ["TRAIN.OPTIMIZER.LR", 0.1, "TRAIN.SCHEDULE.MILESTONES", [2, 4], "TRAIN.SCHEDULE.GAMMA", 0.5]
    cfg = tiny_config(*words, "TRAIN.SCHEDULE.WARMUP_STEPS", 3)
    lr_at = build_schedule(cfg, 0.1, steps_per_epoch=10)
    assert [lr_at(step) for step in range(5)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert [lr_at(step) for step in (19, 20, 39, 40, 59)] == pytest.approx([0.1, 0.05, 0.05, 0.025, 0.025])


def test_poly_falls_to_nothing_over_a_length_in_steps(tiny_config):
    words = ["TRAIN.SCHEDULE.NAME", "poly", "TRAIN.SCHEDULE.POWER", 0.5, "TRAIN.SCHEDULE.MILESTONES", []]
    cfg = tiny_config(*words, "TRAIN.SCHEDULE.WARMUP_STEPS", 0)
    assert total_steps(cfg, 10) == 20
    lr_at = build_schedule(cfg, 2.0, steps_per_epoch=10)
    assert [lr_at(step) for step in (0, 5, 15, 20)] == pytest.approx([2, 2 * 0.75**0.5, 1, 0])


def test_poly_has_the_published_rates_of_segmentation(tiny_config):
    poly = ["TRAIN.SCHEDULE.NAME", "poly", "TRAIN.SCHEDULE.MILESTONES", [], "TRAIN.SCHEDULE.WARMUP_STEPS", 0]
    # VainF's DeepLabV3+: never below 1e-6; its golden rates are of steps 1, 10 and the last two.
    cfg = tiny_config(*poly, "TRAIN.EPOCHS", 300, "TRAIN.SCHEDULE.MIN_LR", 1e-6)
    head = build_schedule(cfg, 0.01, steps_per_epoch=100)
    for step in (0, 1, 10, 29990, 29998, 29999):
        assert head(step) == pytest.approx(max(0.01 * (1 - step / 30000) ** 0.9, 1e-6), rel=1e-12)
    assert head(29990) == pytest.approx(7.42319503e-06)
    assert head(29999) == 1e-6
    # HMSA: one rate per epoch.
    cfg = tiny_config(*poly, "TRAIN.EPOCHS", 175, "TRAIN.SCHEDULE.POWER", 2.0, "TRAIN.SCHEDULE.PER_EPOCH", True)
    lr_at = build_schedule(cfg, 0.005, steps_per_epoch=10)
    for epoch in (0, 1, 100, 174):
        expected = 0.005 * (1 - epoch / 175) ** 2
        assert [lr_at(10 * epoch), lr_at(10 * epoch + 9)] == pytest.approx([expected, expected], rel=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_weight_decay_reaches_the_optimizer_and_spares_norms_and_biases(tiny_config, name):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    cfg = tiny_config("TRAIN.OPTIMIZER.NAME", name, "TRAIN.OPTIMIZER.WEIGHT_DECAY", 0.01)
    optimizer = build_optimizer(cfg, weight_groups(model, cfg.TRAIN.OPTIMIZER.WEIGHT_DECAY))
    decayed = [p for group in optimizer.param_groups if group["weight_decay"] == 0.01 for p in group["params"]]
    assert [p is model[0].weight for p in decayed] == [True]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4
    before = model[0].weight.detach().clone()
    model(torch.ones(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, before)


def test_the_loss_is_the_codecs_and_mines_hard_joints_in_the_final_maps_only(tiny_config):
    maps, targets, weights = torch.randn(3, 2, 6, 4, 4), torch.rand(2, 6, 4, 4), torch.ones(2, 6)
    outputs = tuple(maps)
    plain = [heatmap_mse(m, targets, weights) for m in outputs]

    def loss(*words, outputs=outputs, weights=weights, size=2):
        return build_task(tiny_config(*words)).loss(outputs, (targets, weights), size)

    torch.testing.assert_close(loss(), sum(plain))
    torch.testing.assert_close(loss(outputs=outputs[1]), plain[1])
    # Two persons of a batch of eight.
    torch.testing.assert_close(loss(outputs=outputs[1], size=8), plain[1] / 4)
    mined = plain[0] + plain[1] + heatmap_mse_ohkm(outputs[2], targets, weights, topk=2)
    torch.testing.assert_close(loss("TRAIN.OHKM_TOPK", 2), mined)
    offset = loss("CODEC.NAME", "udp_offset", weights=weights[:, :2])
    torch.testing.assert_close(offset, sum(udp_offset_loss(m, targets, weights[:, :2]) for m in outputs))
