"""Crops, draws, places, colours and options of segmentation against plain arithmetic and over many draws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from psa_pose.models.resnet import DILATIONS
from psa_pose.segmentation.classes import voc_color
from psa_pose.segmentation.data.augment import SegmentationAugmentation, draw_view, jitter_color
from psa_pose.segmentation.data.build import build_train_set
from psa_pose.segmentation.data.class_uniform import class_places, tile_places
from psa_pose.segmentation.inference.labeller import build_labeller, build_scores
from psa_pose.segmentation.inference.protocols import multi_scale_scores, sliding_scores, window_starts
from psa_pose.segmentation.losses.build import build_loss
from psa_pose.segmentation.losses.pixelwise import CrossEntropy, Focal, Ohem
from psa_pose.segmentation.losses.rmi import BinaryCrossEntropy, RegionMutualInformation
from psa_pose.segmentation.networks.build import build_segmentation_model, parameter_groups
from psa_pose.segmentation.networks.deeplab import RATES

few = settings(max_examples=80, deadline=None)
shares = st.floats(0, 1, exclude_max=True)
sides = st.integers(5, 300)


class Drawn:
    """A generator that gives the four numbers it was told to."""

    def __init__(self, four):
        self.four = four

    def random(self, number):
        assert number == 4
        return np.array(self.four)


@few
@given(
    st.tuples(sides, sides), st.tuples(sides, sides), st.lists(shares, min_size=4, max_size=4),
    st.sampled_from([(0.5, 2.0, 0.0), (0.5, 2.0, 0.25), (1.0, 1.0, 0.0), (0.75, 1.25, 0.125)]), st.booleans(), shares,
)  # fmt: skip
def test_a_view_is_what_its_draws_say(image, crop, draws, scales, focused, odds):
    low, high, step = scales
    focus = (image[0] * 2 // 3, image[1] // 3) if focused else None
    view = draw_view(image, crop, SegmentationAugmentation((low, high), step, odds), Drawn(draws), focus)
    listed = np.arange(low, high + 1e-9, step) if step else None
    scale = listed[int(draws[0] * len(listed))] if step else low + (high - low) * draws[0]
    for axis, (start, side) in enumerate(((view.x, view.width), (view.y, view.height))):
        assert side == max(1, round(crop[axis] / scale))
        starts = range(min(0, image[axis] - side), max(0, image[axis] - side) + 1)
        if focus is not None:
            starts = [s for s in starts if s <= focus[axis] < s + side]
        assert start == starts[int(draws[1 + axis] * len(starts))]
    assert view.mirror == (draws[3] < odds)


def test_over_many_draws_scales_places_and_mirrors_are_as_likely_as_they_should_be():
    number, generator = 4000, np.random.default_rng(0)
    options = SegmentationAugmentation((0.5, 1.0), 0.25, 0.3)
    views = [draw_view((40, 40), (20, 20), options, generator) for _ in range(number)]
    mirrored = np.array([v.mirror for v in views])
    assert abs(mirrored.mean() - 0.3) < 5 * np.sqrt(0.21 / number)
    widths = np.array([v.width for v in views])
    for width in (40, 27, 20):
        assert abs((widths == width).mean() - 1 / 3) < 5 * np.sqrt(2 / 9 / number)
        assert abs(mirrored[widths == width].mean() - 0.3) < 5 * np.sqrt(0.21 / (number / 3))
    places = np.array([(v.x, v.y) for v in views if v.width == 20])
    for axis in (0, 1):
        counts = np.bincount(places[:, axis], minlength=21)
        assert len(counts) == 21
        assert np.abs(counts / len(places) - 1 / 21).max() < 5 * np.sqrt(1 / 21 / len(places))
    assert abs(np.corrcoef(places.T)[0, 1]) < 5 / np.sqrt(len(places))


@few
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(1, 6))
def test_places_of_classes_tile_by_tile(seed, tile, smallest):
    rng = np.random.default_rng(seed)
    maps = [rng.choice([0, 1, 2, 4, 255], rng.integers(1, 14, 2)).astype(np.uint8) for _ in range(3)]
    found = [tile_places(labels, tile, smallest) for labels in maps]
    expected = []
    for labels in maps:
        rows = set()
        for y0 in range(0, labels.shape[0], tile):
            for x0 in range(0, labels.shape[1], tile):
                part = labels[y0 : y0 + tile, x0 : x0 + tile]
                for value in set(part.ravel().tolist()) - {255}:
                    ys, xs = np.nonzero(part == value)
                    if len(ys) >= smallest:
                        rows.add((value, int(np.rint(x0 + xs.mean())), int(np.rint(y0 + ys.mean()))))
        expected.append(rows)
    assert [set(map(tuple, places.tolist())) for places in found] == expected
    if not any(map(len, found)):
        return
    table = class_places(found, 5)
    for c in range(5):
        mine = range(table.start[c], table.start[c + 1])
        listed = sorted((int(table.picture[i]), int(table.x[i]), int(table.y[i])) for i in mine)
        assert listed == sorted((p, x, y) for p, rows in enumerate(expected) for v, x, y in rows if v == c)
    drawn = [table.draw(rng) for _ in range(300)]
    assert {(p, *xy) for p, xy in drawn} <= {(p, x, y) for p, rows in enumerate(expected) for _, x, y in rows}


def test_a_class_is_drawn_as_often_as_any_other_and_then_each_of_its_places():
    table = class_places([np.array([[0, 1, 1]] * 1 + [[2, 5, n] for n in range(9)])], 4)
    generator = np.random.default_rng(0)
    drawn = [table.draw(generator)[1] for _ in range(3000)]
    assert abs(np.mean([xy == (1, 1) for xy in drawn]) - 0.5) < 5 * np.sqrt(0.25 / 3000)
    for n in range(9):
        assert abs(np.mean([xy == (5, n) for xy in drawn]) - 1 / 18) < 5 * np.sqrt(1 / 18 / 3000)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_colours_change_as_written_whatever_the_order_of_the_channels(order):
    class Told:
        def uniform(self, low, high, number):
            assert (low, high, number) == (-0.5, 0.5, 4)
            return np.array([0.1, -0.2, 0.3, 0.05])

    image = np.random.default_rng(0).integers(60, 160, (7, 9, 3)).astype(np.uint8)
    got = image[..., ::-1].copy() if order == "bgr" else image.copy()
    jitter_color(got, 0.5, Told(), order)
    got = got[..., ::-1] if order == "bgr" else got
    grey = np.array([0.299, 0.587, 0.114])
    yiq = np.array([grey, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    c, s = np.cos(0.1 * np.pi), np.sin(0.1 * np.pi)
    pixels = image @ (np.linalg.inv(yiq) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ yiq).T * 1.1
    pixels = pixels + 0.3 * (pixels - (pixels @ grey)[..., None])
    mean = 1.1 * float((image @ grey).mean())
    pixels = mean + 0.8 * (pixels - mean)
    assert np.abs(got - np.clip(pixels, 0, 255)).max() <= 1.5


def test_options_of_the_config_reach_the_training_set(scene_config):
    words = ["AUGMENT.SCALE_RANGE", [0.75, 1.5], "AUGMENT.SCALE_STEP", 0.25, "AUGMENT.FLIP_PROB", 0.2]
    words += ["AUGMENT.COLOR", 0.1, "AUGMENT.CLASS_UNIFORM_PROB", 0.4, "AUGMENT.PAD_LABEL", "background", "SEED", 3]
    dataset = build_train_set(scene_config(*words, "INPUT.CHANNEL_ORDER", "bgr", "INPUT.CROP_SIZE", [96, 64]), print)
    assert dataset.augmentation == SegmentationAugmentation((0.75, 1.5), 0.25, 0.2, 0.1, 0.4)
    assert (dataset.seed, dataset.channel_order, dataset.pad_label, dataset.crop_size) == (3, "bgr", 0, (96, 64))
    assert dataset.places is not None
    plain = build_train_set(scene_config(), print)
    assert (plain.pad_label, plain.channel_order) == (255, "rgb")
    image, label = np.empty((64, 64, 3), np.uint8), np.empty((64, 64), np.uint8)
    dataset.crop_size = plain.crop_size = (64, 64)
    # Far outside the picture there is ImageNet's mean colour, in the channels' own order, and nothing to learn.
    for one, colour in ((dataset, [104, 116, 124]), (plain, [124, 116, 104])):
        one.augmentation = SegmentationAugmentation((0.2, 0.2), 0, 0)
        one.places = None
        one.crop((0, 0), image, label)
        corners = [(y, x) for y in (0, -1) for x in (0, -1) if label[y, x] == one.pad_label]
        assert any(image[y, x].tolist() == colour for y, x in corners)


def test_a_uniform_crop_comes_as_often_as_it_should(scene_config):
    dataset = build_train_set(scene_config("AUGMENT.CLASS_UNIFORM_PROB", 0.3), print)
    drawn = []
    dataset.read = lambda row: (drawn.append(row), (np.zeros((80, 96, 3), np.uint8), np.zeros((80, 96), np.uint8)))[1]
    image, label = np.empty((64, 64, 3), np.uint8), np.empty((64, 64), np.uint8)
    number = 600
    for epoch in range(number):
        dataset.crop((epoch, 4), image, label)
    # A twelfth of the uniform ones is the sample's own picture at least now and then.
    assert abs(np.mean(np.array(drawn) != 4) - 0.3 * 11 / 12) < 5 * np.sqrt(0.21 / number) + 0.02


def test_values_of_vocs_palette_bit_by_bit():
    for value in range(256):
        expected = [0, 0, 0]
        rest = value
        for round_ in range(8):
            for channel in range(3):
                expected[channel] |= ((rest >> channel) & 1) << (7 - round_)
            rest >>= 3
        assert voc_color(value) == tuple(expected)


@few
@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 20))
def test_windows_cover_every_pixel_and_none_reaches_out(length, window, step):
    step = min(step, window)
    starts = window_starts(length, window, step)
    covered = {p for s in starts for p in range(s, min(s + window, length))}
    assert covered == set(range(length))
    assert all(s + window <= max(length, window) for s in starts)
    assert starts == sorted(set(starts))


def test_wide_and_high_windows_see_what_they_should_and_overlaps_are_averaged():
    images = torch.rand(1, 3, 10, 16)
    seen = []

    def network(part):
        seen.append(tuple(part.shape[2:]))
        return part * 2 + len(seen)

    scores = sliding_scores(network, images, (8, 4), (6, 3), "logits")
    assert set(seen) == {(4, 8)}
    total, times, number = torch.zeros_like(images), torch.zeros(1, 1, 10, 16), 0
    for y in (0, 3, 6):
        for x in (0, 6, 8):
            number += 1
            total[..., y : y + 4, x : x + 8] += images[..., y : y + 4, x : x + 8] * 2 + number
            times[..., y : y + 4, x : x + 8] += 1
    torch.testing.assert_close(scores, total / times)
    summed = multi_scale_scores(lambda x: x, images, (1.0, 1.0), join="exp")
    torch.testing.assert_close(summed, 2 * images.exp())


def test_the_loss_and_its_options_are_the_configs(scene_config):
    words = ["LOSS.CLASS_WEIGHTS", [1.0, 2.0, 3.0, 4.0, 5.0]]
    built = build_loss(scene_config(*words)).losses[-1]
    assert isinstance(built, CrossEntropy)
    assert tuple(built.class_weights) == (1, 2, 3, 4, 5)
    assert build_loss(scene_config("LOSS.OVER_ALL_PIXELS", True)).losses[-1].over_all_pixels
    ohem = build_loss(scene_config("LOSS.NAME", "ohem", "LOSS.OHEM_THRESHOLD", 0.6, "LOSS.OHEM_KEPT", 77)).losses[-1]
    assert isinstance(ohem, Ohem)
    assert (ohem.threshold, ohem.kept) == (0.6, 77)
    focal = build_loss(scene_config("LOSS.NAME", "focal", "LOSS.FOCAL_GAMMA", 1.5)).losses[-1]
    assert isinstance(focal, Focal)
    assert focal.gamma == 1.5
    words = ["MODEL.NAME", "hrnet_ocr", "LOSS.NAME", "rmi", "LOSS.OUTPUT_WEIGHTS", [0.4, 1.0], "LOSS.RMI_BCE", 0.25]
    rmi = build_loss(scene_config(*words))
    assert [type(loss) for loss in rmi.losses] == [BinaryCrossEntropy, RegionMutualInformation]
    assert (tuple(rmi.weights), rmi.losses[-1].bce) == ((0.4, 1.0), 0.25)
    assert all(loss.align_corners for loss in rmi.losses)


def test_trunk_and_head_have_their_rates_and_decays(scene_config):
    cfg = scene_config("TRAIN.OPTIMIZER.BACKBONE_LR", 0.1, "TRAIN.OPTIMIZER.WEIGHT_DECAY", 0.02)
    model = build_segmentation_model(cfg)
    for all_decay in (False, True):
        cfg = scene_config(
            *("TRAIN.OPTIMIZER.BACKBONE_LR", 0.1, "TRAIN.OPTIMIZER.WEIGHT_DECAY", 0.02),
            *("TRAIN.OPTIMIZER.DECAY_ALL", all_decay),
        )
        groups = parameter_groups(cfg, model)
        for name, p in model.named_parameters():
            (group,) = [g for g in groups if any(p is q for q in g["params"])]
            assert group["lr_scale"] == (0.1 if name.startswith("backbone.") else 1.0), name
            assert group["weight_decay"] == (0.02 if all_decay or p.ndim >= 2 else 0.0), name


def test_what_the_config_says_of_a_network_is_what_is_built(scene_config):
    wide = build_segmentation_model(scene_config("MODEL.WIDTH", 16, "MODEL.HEAD_CHANNELS", 24))
    assert wide.backbone.conv1.out_channels == 16
    assert wide.classifier.classifier[-1].in_channels == 24
    slow = build_segmentation_model(scene_config("MODEL.BACKBONE_BN_MOMENTUM", 0.003))
    assert {m.momentum for m in slow.backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {0.003}
    assert {m.momentum for m in slow.classifier.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    for stride in (8, 16):
        model = build_segmentation_model(scene_config("MODEL.OUTPUT_STRIDE", stride)).eval()
        rates = [
            c.dilation[0] for c in model.classifier.aspp.modules() if isinstance(c, nn.Conv2d) and c.kernel_size[0] == 3
        ]
        # Chen et al.: twice the rates at half the stride.
        assert rates == list(RATES[stride]) == [12 * 8 // stride * n for n in (1, 2, 3)]
        assert model.backbone.features(torch.zeros(1, 3, 64, 64))[-1].shape[2] == 64 // stride
        assert DILATIONS[stride][-1][0] == 1
    ocr = build_segmentation_model(
        scene_config("MODEL.NAME", "hrnet_ocr", "MODEL.HEAD_CHANNELS", 12, "LOSS.OUTPUT_WEIGHTS", [0.4, 1])
    )
    assert ocr.cls_head.in_channels == 24
    assert (
        build_segmentation_model(scene_config("MODEL.ATTENTION.NAME", "psa_p")).backbone.layer1[0].attention is not None
    )


class Ramp(nn.Module):
    """Two classes by the mean of the three channels, the second where it is above 0."""

    align_corners = False

    def forward(self, images):
        mean = images.mean(1, keepdim=True)
        return torch.cat([-mean, mean + 0 * images[..., :1].mean()], 1)


def test_pictures_are_normalised_labelled_and_asked_as_the_config_says(scene_config):
    cfg = scene_config("INPUT.MEAN", [0.5, 0.5, 0.5], "INPUT.STD", [0.25, 0.5, 1.0], "TEST.PAD_TO", 32)
    picture = torch.zeros(1, 40, 50, 3, dtype=torch.uint8)
    picture[:, :, 25:] = 255
    for protocol in ("full", "flip"):
        labels = build_labeller(cfg, Ramp(), protocol, torch.device("cpu"))(picture)
        assert labels.shape == (1, 40, 50)
        assert not labels[..., :25].any()
        assert labels[..., 25:].all()
    seen = []

    class Watching(Ramp):
        def forward(self, images):
            seen.append(images.clone())
            return super().forward(images)

    build_scores(cfg, Watching(), "full")(torch.ones(1, 3, 40, 50))
    assert seen[-1].shape == (1, 3, 64, 64)
    assert not seen[-1][..., 40:, :].any()
    assert not seen[-1][..., 50:].any()
    words = ["TEST.SCALES", [0.5, 1.0], "TEST.JOIN", "exp"]
    seen.clear()
    build_scores(scene_config(*words), Watching(), "ms_flip")(torch.ones(1, 3, 40, 50))
    assert [tuple(s.shape[2:]) for s in seen] == [(20, 25)] * 2 + [(40, 50)] * 2
