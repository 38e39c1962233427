"""Colour, blur, patches and JPEG noise of a crop, against plain pixel-by-pixel walks, and where they come from."""

import cv2
import numpy as np
import pytest

from psa_pose.data.augment import Augmentation, View, augment_view, pixel_generator, sample_generator
from psa_pose.data.augment_pixels import PATCHES, SIDE, PixelAugmentation, augment_pixels, color_matrix
from psa_pose.data.build import build_train_set
from psa_pose.errors import ConfigError
from psa_pose.skeleton import COCO

GREY = (0.299, 0.587, 0.114)
JOINTS = np.array([[20.0, 30.0], [70.0, 100.0], [400.0, 400.0]])


def noise(seed=0, height=128, width=96):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def augmented(crop, seed=0, order="rgb", joints=JOINTS, visible=(1, 1, 0), **options):
    crop = crop.copy()
    rng = np.random.default_rng(seed)
    augment_pixels(crop, joints, np.array(visible), PixelAugmentation(**options), order, rng)
    return crop


def test_colour_is_saturation_then_contrast_then_brightness():
    crop = noise(1, 8, 6)
    mean = sum(w * crop[..., c].astype(float).mean() for c, w in enumerate(GREY))
    for brightness, contrast, saturation in ((1.3, 1, 1), (1, 0.6, 1), (1, 1, 0.2), (0.8, 1.2, 0.5), (1, 1, 1)):
        got = cv2.transform(crop, color_matrix(mean, GREY, brightness, contrast, saturation))
        for y, x in np.ndindex(8, 6):
            pixel = [float(v) for v in crop[y, x]]
            grey = sum(w * v for w, v in zip(GREY, pixel, strict=True))
            pixel = [grey + saturation * (v - grey) for v in pixel]
            pixel = [brightness * (mean + contrast * (v - mean)) for v in pixel]
            want = [min(max(v, 0), 255) for v in pixel]
            np.testing.assert_allclose(got[y, x], want, atol=1)


def test_either_order_of_channels_gives_the_same_picture():
    crop = noise(2)
    for options in ({"color": 0.4}, {"jpeg_prob": 1.0}, {"blur_prob": 1.0}):
        turned = np.ascontiguousarray(crop[..., ::-1])
        assert np.array_equal(augmented(crop, **options), augmented(turned, order="bgr", **options)[..., ::-1])


def test_off_nothing_changes_and_none_of_them_moves_the_others():
    crop = noise(3)
    assert np.array_equal(augmented(crop), crop)
    assert not PixelAugmentation()
    # With patches that cannot be seen, what was drawn for the JPEG is the same.
    alone = augmented(crop, jpeg_prob=1.0)
    assert np.array_equal(augmented(crop, jpeg_prob=1.0, dropout_prob=1.0, visible=(0, 0, 0)), alone)
    assert not np.array_equal(alone, crop)


def test_patches_lie_over_labelled_joints_and_are_no_larger_than_stated():
    covered = []
    for seed in range(60):
        changed = (augmented(np.full((128, 96, 3), 7, np.uint8), seed, dropout_prob=1.0) != 7).any(-1)
        count, labels = cv2.connectedComponents(changed.astype(np.uint8))
        assert 1 < count <= PATCHES + 1
        # To the pixel's edge.
        hit = changed[29:32, 19:22].any(), changed[99:102, 69:72].any()
        assert any(hit)
        covered.append(hit)
        assert changed.sum() <= PATCHES * (SIDE[1] * 128 + 1) * (SIDE[1] * 96 + 1)
        if count == 2 and not all(hit):
            ys, xs = np.nonzero(labels)
            assert np.ptp(ys) >= SIDE[0] * 128 - 2 or ys.min() == 0
            assert np.ptp(xs) >= SIDE[0] * 96 - 2 or xs.min() == 0 or xs.max() == 95
    assert all(np.mean(covered, axis=0) > 0.4)


@pytest.mark.parametrize("option", ["blur_prob", "jpeg_prob", "dropout_prob"])
def test_each_happens_as_often_as_it_should(option):
    crop = noise(4, 128, 24)
    joints = np.array([[12.0, 64.0]])
    changed = [
        not np.array_equal(augmented(crop, seed, joints=joints, visible=(1,), **{option: 0.3}), crop)
        for seed in range(600)
    ]
    assert abs(np.mean(changed) - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 600)


def test_a_shift_moves_the_crop_and_nothing_else():
    view = View(np.array([50.0, 60.0]), np.array([30.0, 40.0]))
    plain, shifted = Augmentation(0.3, 40.0, 0.6, 0.5, 0.0, 8), Augmentation(0.3, 40.0, 0.6, 0.5, 0.0, 8, shift=0.2)
    moved = []
    for row in range(400):
        a, b = (
            augment_view(view, np.zeros((17, 2)), np.ones(17), o, COCO, sample_generator(0, 0, row))
            for o in (plain, shifted)
        )
        assert (a.rotation, a.mirror, *a.region) == (b.rotation, b.mirror, *b.region)
        moved.append((b.center - a.center) / a.region)
    low, high = np.min(moved, axis=0), np.max(moved, axis=0)
    assert (np.abs([low, high]) <= 0.2).all()
    assert (low < -0.19).all()
    assert (high > 0.19).all()


def test_the_keys_reach_the_samples_which_depend_on_seed_epoch_and_row_alone(tiny_config):
    words = {"SHIFT": 0.1, "COLOR": 0.3, "BLUR_PROB": 0.4, "JPEG_PROB": 0.5, "DROPOUT_PROB": 0.6}
    cfg = tiny_config(*(w for k, v in words.items() for w in (f"AUGMENT.{k}", v)))
    dataset = build_train_set(cfg, COCO, "classic", lambda _: None)
    assert dataset.augmentation.shift == 0.1
    assert dataset.augmentation.pixels == PixelAugmentation(0.3, 0.4, 0.5, 0.6)
    first = dataset[3, 2].crop.copy()
    dataset[3, 1], dataset[0, 2]
    assert np.array_equal(dataset[3, 2].crop, first)
    plain = build_train_set(tiny_config("AUGMENT.SHIFT", 0.1), COCO, "classic", lambda _: None)
    sample = plain[3, 2]
    assert np.array_equal(sample.joints, dataset[3, 2].joints)
    assert not np.array_equal(sample.crop, first)


def test_pixels_are_drawn_anew_for_each_seed_epoch_and_row():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]
    drawn = [pixel_generator(*key).random() for key in keys]
    assert len(set(drawn)) == len(keys)
    assert drawn == [pixel_generator(*key).random() for key in keys]


def test_crops_that_the_device_cuts_have_no_such_noise(tiny_config):
    with pytest.raises(ConfigError, match=r"AUGMENT.COLOR is 0.2 but LOADER.DEVICE_DECODE is true"):
        tiny_config("AUGMENT.COLOR", 0.2, "LOADER.DEVICE_DECODE", True)
