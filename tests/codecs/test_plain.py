"""Every codec against loops over joints and pixels, with other sizes and options than the defaults."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psa_pose.codecs import CODECS, build_codec, make_codec

few = settings(max_examples=40, deadline=None)
SIZES = [((96, 128), (24, 32)), ((128, 96), (32, 24)), ((64, 64), (16, 16))]
sizes, seeds, sigmas = st.sampled_from(SIZES), st.integers(0, 10**6), st.sampled_from([0.8, 1.0, 1.5, 2.0, 2.7])


def strides(codec):
    unbiased = codec.name.startswith("udp")
    return [(a - unbiased) / (b - unbiased) for a, b in zip(codec.input_size, codec.heatmap_size, strict=True)]


def some_joints(codec, seed, persons=2, joints=4):
    """Inside, outside, and on the halves and borders where rounding decides; crop pixels."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(-8, np.array(codec.heatmap_size) + 8, (persons, joints, 2))
    snapped = rng.random((persons, joints, 1)) < 0.4
    at = np.where(snapped, np.round(at * 2) / 2, at)
    return (at * strides(codec)).astype(np.float32), (rng.random((persons, joints)) < 0.8).astype(np.float32)


@few
@given(seeds, sizes, sigmas, st.sampled_from(["standard", "dark", "udp_gaussian"]))
def test_gaussians_pixel_by_pixel(seed, size, sigma, name):
    codec = make_codec(name, *size, sigma=sigma)
    joints, visible = some_joints(codec, seed)
    targets, weights = codec.encode(torch.from_numpy(joints), torch.from_numpy(visible))
    width, height = codec.heatmap_size
    reach = int(3 * sigma)
    for b, k in np.ndindex(visible.shape):
        x, y = (float(np.float32(v) / np.float32(s)) for v, s in zip(joints[b, k], strides(codec), strict=True))
        px, py = (int(x + 0.5), int(y + 0.5)) if name != "dark" else (x, y)
        # The published patch, its end exclusive.
        inside = all(
            int(p - reach) < n and int(p + reach + 1) >= 0 for p, n in ((px, width), (py, height))
        )  # fmt: skip
        assert weights[b, k] == (visible[b, k] if inside else 0)
        expected = np.zeros((height, width))
        if weights[b, k] > 0:
            cx, cy = (px, py) if name == "standard" else (x, y)
            for v, u in np.ndindex(height, width):
                if name == "dark" or (abs(u - px) <= reach and abs(v - py) <= reach):
                    expected[v, u] = np.exp(-((u - cx) ** 2 + (v - cy) ** 2) / (2 * sigma**2))
        np.testing.assert_allclose(targets[b, k], expected, atol=2e-5)


@few
@given(seeds, sizes, st.sampled_from([0.03, 0.0546875, 0.1]))
def test_discs_and_offsets_pixel_by_pixel(seed, size, factor):
    codec = make_codec("udp_offset", *size, radius_factor=factor)
    joints, visible = some_joints(codec, seed)
    targets, weights = codec.encode(torch.from_numpy(joints), torch.from_numpy(visible))
    width, height = codec.heatmap_size
    radius = factor * max(width, height)
    v, u = np.mgrid[:height, :width]
    for b, k in np.ndindex(visible.shape):
        x, y = (float(np.float32(j) / np.float32(s)) for j, s in zip(joints[b, k], strides(codec), strict=True))
        assert weights[b, k] == visible[b, k]
        disc, to_x, to_y = targets[b, 3 * k : 3 * k + 3].numpy()
        if not visible[b, k]:
            assert not disc.any()
            assert not to_x.any()
            assert not to_y.any()
            continue
        far = (u - x) ** 2 + (v - y) ** 2
        clear = np.abs(far - radius**2) > 1e-3
        assert (disc == (far <= radius**2))[clear].all()
        np.testing.assert_allclose(to_x, (x - u) / radius, atol=1e-4)
        np.testing.assert_allclose(to_y, (y - v) / radius, atol=1e-4)


def test_a_joint_on_the_rim_of_its_disc_is_in_it():
    codec = make_codec("udp_offset", (61, 61), (16, 16), radius_factor=3 / 16)
    targets, _ = codec.encode(torch.tensor([[[32.0, 20.0]]]), torch.ones(1, 1))
    assert targets[0, 0, 5, 11] == targets[0, 0, 5, 5] == targets[0, 0, 8, 8] == 1
    assert targets[0, 0, 5, 12] == targets[0, 0, 8, 9] == 0


def quarter(heatmap, x, y):
    """The standard step: towards the higher neighbour, where the maximum is not at the border."""
    h, w = heatmap.shape
    if not (1 < x < w - 1 and 1 < y < h - 1):
        return 0.0, 0.0
    return (
        0.25 * np.sign(heatmap[y, x + 1] - heatmap[y, x - 1]),
        0.25 * np.sign(heatmap[y + 1, x] - heatmap[y - 1, x]),
    )


def dark_step(heatmap, x, y, blur):
    h, w = heatmap.shape
    if not (1 < x < w - 2 and 1 < y < h - 2):
        return 0.0, 0.0
    pad = blur // 2
    smooth = cv2.GaussianBlur(np.pad(heatmap, pad).astype(np.float64), (blur, blur), 0)[pad : pad + h, pad : pad + w]
    log = np.log(np.maximum(smooth, 1e-10))
    dx, dy = (log[y, x + 1] - log[y, x - 1]) / 2, (log[y + 1, x] - log[y - 1, x]) / 2
    dxx = (log[y, x + 2] - 2 * log[y, x] + log[y, x - 2]) / 4
    dyy = (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x]) / 4
    dxy = (log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]) / 4
    step = -np.linalg.solve([[dxx, dxy], [dxy, dyy]], [dx, dy])
    return float(step[0]), float(step[1])


def bumps(rng, size, number):
    """Maps with a few bumps, some of them cut off flat so that several pixels are the greatest."""
    width, height = size
    v, u = np.mgrid[:height, :width]
    maps = []
    for _ in range(number):
        total = np.zeros((height, width))
        for _ in range(rng.integers(1, 4)):
            x, y = rng.uniform(-1, width), rng.uniform(-1, height)
            total += rng.uniform(0.3, 1) * np.exp(
                -((u - x) ** 2 + 1.3 * (v - y) ** 2) / (2 * rng.uniform(1.2, 2.5) ** 2)
            )
        maps.append(np.minimum(total, 0.4) if rng.random() < 0.4 else total)
    return np.array(maps, np.float32)


@few
@given(seeds, sizes, st.sampled_from([("standard", None), ("dark", 5), ("dark", 11), ("dark", 15)]))
def test_decoding_map_by_map(seed, size, kind):
    name, blur = kind
    codec = make_codec(name, *size, **({"blur": blur} if blur else {}))
    maps = bumps(np.random.default_rng(seed), codec.heatmap_size, 6)
    joints, scores = codec.decode(torch.from_numpy(maps)[None])
    for k, heatmap in enumerate(maps):
        y, x = divmod(int(np.flatnonzero(heatmap == heatmap.max())[0]), heatmap.shape[1])
        step = quarter(heatmap, x, y) if name == "standard" else dark_step(heatmap, x, y, blur)
        assert scores[0, k] == heatmap.max()
        expected = np.array([x + step[0], y + step[1]]) * strides(codec)
        np.testing.assert_allclose(
            joints[0, k], expected, rtol=2e-2 if blur else 1e-6, atol=2e-2 * (1 + np.abs(step).max())
        )


@few
@given(seeds, sizes, st.sampled_from([5, 9, 23]), st.sampled_from([0.04, 0.0546875]))
def test_offsets_are_added_where_the_blurred_class_is_greatest(seed, size, blur, factor):
    codec = make_codec("udp_offset", *size, blur=blur, radius_factor=factor)
    rng = np.random.default_rng(seed)
    classes, offsets = bumps(rng, codec.heatmap_size, 3), rng.normal(size=(3, 2, *codec.heatmap_size[::-1]))
    maps = np.concatenate([classes[:, None], offsets], 1).reshape(1, 9, *codec.heatmap_size[::-1]).astype(np.float32)
    joints, scores = codec.decode(torch.from_numpy(maps))
    for k in range(3):
        smooth = cv2.GaussianBlur(classes[k], (blur, blur), 0)
        y, x = divmod(int(smooth.argmax()), smooth.shape[1])
        if np.sort(smooth, None)[-2] > smooth.max() - 1e-5:
            continue
        dx, dy = maps[0, 3 * k + 1, y, x], maps[0, 3 * k + 2, y, x]
        radius = factor * max(codec.heatmap_size)
        expected = np.array([x + dx * radius, y + dy * radius]) * strides(codec)
        np.testing.assert_allclose(joints[0, k], expected, rtol=1e-4, atol=1e-3)
        assert scores[0, k] == pytest.approx(float(smooth.max()), abs=1e-5)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_of_equal_maxima_in_rows_is_taken(name, dtype):
    # Blurred maps of marks are equal too, where the kernel does not reach the border.
    codec = make_codec(name, (64, 64), (16, 16), **({"blur": 3} if name == "udp_offset" else {}))
    maps = torch.zeros(1, codec.channels_per_joint, 16, 16, dtype=dtype)
    for y, x in ((11, 12), (3, 12), (11, 3), (7, 7)):
        maps[0, 0, y, x] = 1
    joints, _ = codec.decode(maps)
    # Row 3 comes first; whoever steps from there steps less than a pixel.
    assert (joints[0, 0] / torch.tensor(codec.stride) - torch.tensor([12.0, 3.0])).abs().max() < 1


def test_the_options_of_a_config_reach_its_codec(tiny_config):
    codec = build_codec(tiny_config("CODEC.NAME", "dark", "CODEC.SIGMA", 1.25, "CODEC.BLUR", 7, "INPUT.SIZE", [96, 64]))
    assert (codec.sigma, codec.blur, codec.input_size, codec.heatmap_size) == (1.25, 7, (96, 64), (24, 16))
    assert build_codec(tiny_config("CODEC.NAME", "udp_offset", "CODEC.BLUR", 9)).blur == 9
    assert build_codec(tiny_config("CODEC.NAME", "udp_gaussian")).sigma == pytest.approx(16 * 2 / 48)


@pytest.mark.parametrize("name", CODECS)
def test_who_has_no_mirror_partner_stays_and_a_mirrored_map_is_moved_as_the_grid_asks(name):
    """A mark at x, seen in the mirrored crop at width - 1 - x (crop pixels), comes back to x."""
    codec = make_codec(name, (192, 256), (48, 64))
    joints = torch.tensor([[[100.0, 90.0], [60.0, 140.0], [40.0, 60.0]]])
    mirrored = joints[:, [0, 2, 1]] * torch.tensor([-1.0, 1.0]) + torch.tensor([191.0, 0.0])
    back = codec.flip_back(codec.encode(mirrored, torch.ones(1, 3))[0], [(1, 2)])
    found, _ = codec.decode(back)
    # The standard codec rounds to a pixel and its published shift is a whole one; the others are exact.
    assert (found - joints).abs().max() < (3.1 if name == "standard" else 0.2)
    default = {"standard": 1.0, "dark": 0.75}.get(name, 0.0)
    torch.testing.assert_close(codec.flip_back(back, [], shift=default), codec.flip_back(back, []))
