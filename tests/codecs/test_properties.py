"""What every codec promises on any input: inverses, flips, degenerate maps, layouts, and clear refusals."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psa_pose.codecs import CODECS, make_codec
from psa_pose.codecs.peak import blurred_window, gaussian_kernel
from psa_pose.errors import ConfigError, DataError
from psa_pose.skeleton import COCO

SIZES = {"256x192": ((192, 256), (48, 64)), "384x288": ((288, 384), (72, 96)), "square": ((128, 128), (32, 32))}
PRECISION = {"standard": 0.5, "dark": 0.02, "udp_gaussian": 0.02, "udp_offset": 0.02}  # heatmap pixels per axis
FLIP_PRECISION = PRECISION | {"standard": 1.0}
cases = given(st.integers(0, 10**6), st.sampled_from(sorted(CODECS)), st.sampled_from(sorted(SIZES)))
few = settings(max_examples=40, deadline=None)


def draw(codec, seed, persons=2, joints=17, margin=None):
    """Crop-pixel joints at least `margin` heatmap pixels inside the map."""
    if margin is None:
        margin = 1 if codec.name == "udp_offset" else 2 * codec.sigma + 2
    size, stride = torch.tensor(codec.heatmap_size), torch.tensor(codec.stride)
    unit = torch.rand(persons, joints, 2, generator=torch.Generator().manual_seed(seed))
    return (margin + unit * (size - 1 - 2 * margin)) * stride


def distance(codec, a, b):
    """Largest per-axis distance in heatmap pixels."""
    return ((a - b) / torch.tensor(codec.stride)).abs().max().item()


@few
@cases
def test_decode_is_the_inverse_of_encode(seed, name, size):
    codec = make_codec(name, *SIZES[size])
    joints = draw(codec, seed)
    targets, weights = codec.encode(joints, torch.ones(joints.shape[:2]))
    found, scores = codec.decode(targets)
    assert distance(codec, found, joints) <= PRECISION[name] + 1e-4
    assert (weights == 1).all()
    assert (scores > 0).all()


@few
@cases
def test_flip_encode_flip_back_decode_is_the_identity(seed, name, size):
    codec = make_codec(name, *SIZES[size])
    joints = draw(
        codec,
        seed,
    )
    mirrored = joints[:, COCO.flip_order].clone()
    mirrored[..., 0] = codec.input_size[0] - 1 - mirrored[..., 0]
    targets, _ = codec.encode(mirrored, torch.ones(joints.shape[:2]))
    plain, _ = codec.decode(codec.encode(joints, torch.ones(joints.shape[:2]))[0])
    found, _ = codec.decode(codec.flip_back(targets, COCO.flip_pairs))
    assert distance(codec, found, plain) <= FLIP_PRECISION[name] + 1e-4


@few
@cases
def test_flipping_twice_without_a_shift_is_the_identity(seed, name, size):
    codec = make_codec(name, *SIZES[size])
    width, height = codec.heatmap_size
    maps = torch.rand(1, 17 * codec.channels_per_joint, height, width, generator=torch.Generator().manual_seed(seed))
    once = codec.flip_back(maps, COCO.flip_pairs, shift=0)
    assert torch.equal(codec.flip_back(once, COCO.flip_pairs, shift=0), maps)
    assert not torch.equal(once, maps)


def test_flip_shift_moves_right_and_repeats_the_border():
    codec = make_codec("standard", (192, 256), (48, 64))
    maps = torch.rand(2, 3, 64, 48)
    mirrored = maps.flip(-1)[:, [1, 0, 2]]
    want = torch.cat([mirrored[..., :1], mirrored[..., :-1]], dim=-1)
    assert torch.equal(codec.flip_back(maps, [(0, 1)]), want)
    half = codec.flip_back(maps, [(0, 1)], shift=0.25)
    torch.testing.assert_close(half, 0.75 * mirrored + 0.25 * want)
    torch.testing.assert_close(codec.flip_back(maps, [(0, 1)], shift=-1)[..., :-1], mirrored[..., 1:])


@few
@given(
    st.sampled_from(sorted(CODECS)),
    st.sampled_from([0.0, -1.0, -1e30, float("nan"), float("inf"), float("-inf")]),
    st.sampled_from([None, 0.0, float("nan"), float("inf"), float("-inf")]),
    st.integers(0, 10**6),
)
def test_degenerate_maps_have_finite_joints_and_no_score(name, fill, spoiled, seed):
    codec = make_codec(name, (192, 256), (48, 64))
    maps = torch.full((1, 2 * codec.channels_per_joint, 64, 48), fill)
    if spoiled is not None:
        where = torch.rand(maps.shape, generator=torch.Generator().manual_seed(seed)) < 0.01
        maps = maps.masked_fill(where, spoiled)
    joints, scores = codec.decode(maps)
    assert joints.isfinite().all()
    assert scores.isfinite().all()
    assert (scores <= 0).all()


@few
@given(st.sampled_from(sorted(CODECS)), st.integers(0, 10**6), st.sampled_from([1e-30, 1e-3, 1.0, 1e30]))
def test_any_noise_has_finite_joints(name, seed, scale):
    codec = make_codec(name, (64, 96), (16, 24))
    maps = scale * torch.randn(3, 2 * codec.channels_per_joint, 24, 16, generator=torch.Generator().manual_seed(seed))
    maps[0, :, 3:5] = float("-inf")
    maps[1] = 0
    maps[1, :, 0, 0] = scale
    joints, scores = codec.decode(maps)
    assert joints.isfinite().all()
    assert scores.isfinite().all()


@pytest.mark.parametrize("name", CODECS)
def test_precisions_layouts_and_batches(name):
    codec = make_codec(name, (192, 256), (48, 64))
    joints = draw(codec, 3, joints=5, margin=9)
    maps, _ = codec.encode(joints, torch.ones(2, 5))
    want, scores = codec.decode(maps)
    for same in (maps.to(memory_format=torch.channels_last), maps.clone().requires_grad_()):
        assert torch.equal(codec.decode(same)[0], want)
    for dtype, atol in ((torch.float16, 0.1), (torch.bfloat16, 1.0)):
        found, found_scores = codec.decode(maps.to(dtype))
        assert found.dtype == found_scores.dtype == torch.float32
        assert distance(codec, found, want) < atol
    assert codec.flip_back(maps.half(), []).dtype == torch.float16
    torch.testing.assert_close(codec.decode(maps[1:])[0], want[1:])
    empty, none = codec.decode(maps[:0])
    assert empty.shape == (0, 5, 2)
    assert none.shape == (0, 5)
    assert scores.shape == (2, 5)


@pytest.mark.parametrize("name", CODECS)
def test_encode_overwrites_a_reused_tensor(name):
    codec = make_codec(name, (192, 256), (48, 64))
    visible = torch.tensor([[1, 0, 1], [1, 1, 0]], dtype=torch.bool)
    fresh, weights = codec.encode(draw(codec, 1, joints=3), visible)
    out = torch.full_like(fresh, float("nan"))
    again, _ = codec.encode(draw(codec, 1, joints=3), visible, out=out)
    assert again is out
    assert torch.equal(out, fresh)
    assert torch.equal(weights, visible.float())
    drawn = fresh.unflatten(1, (3, codec.channels_per_joint)).abs().amax(dim=(2, 3, 4)) > 0
    assert torch.equal(drawn, visible)


@pytest.mark.parametrize("name", CODECS)
def test_joints_far_away_or_not_finite_leave_no_trace(name):
    codec = make_codec(name, (192, 256), (48, 64))
    joints = torch.tensor([[[float("nan"), 50.0], [float("inf"), 50.0], [1e9, 50.0], [-1e9, -1e9]]])
    targets, weights = codec.encode(joints, torch.ones(1, 4))
    assert targets.isfinite().all()
    assert (weights[0, :2] == 0).all()
    assert targets[:, :: codec.channels_per_joint].abs().max() == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([3, 9, 11, 17]))
def test_blurred_window_is_a_window_of_the_blurred_map(seed, size):
    rng = np.random.default_rng(seed)
    maps = rng.random((4, 20, 15), dtype=np.float32)
    x, y = rng.integers(0, 15, 4), rng.integers(0, 20, 4)
    got = blurred_window(torch.from_numpy(maps), torch.from_numpy(x), torch.from_numpy(y), 2, gaussian_kernel(size))
    for i in range(4):
        whole = cv2.GaussianBlur(np.pad(maps[i], size), (size, size), 0)
        around = whole[size + y[i] - 2 : size + y[i] + 3, size + x[i] - 2 : size + x[i] + 3]
        inside = np.pad(np.ones((20, 15)), 2)[y[i] : y[i] + 5, x[i] : x[i] + 5] > 0
        np.testing.assert_allclose(got[i].numpy()[inside], around[inside], atol=1e-6)


@pytest.mark.parametrize("name", ["standard", "dark", "udp_gaussian"])
def test_encode_and_decode_export_as_a_torch_graph(name):
    """An exported decoder must not leave torch, and any batch size must do."""

    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.codec = make_codec(name, (64, 96), (16, 24))

        def forward(self, maps):
            return self.codec.decode(maps)

    example = torch.rand(2, 3, 24, 16)
    batch = torch.export.Dim("batch", min=2, max=64)
    graph = torch.export.export(Decoder(), (example,), dynamic_shapes=({0: batch},)).module()
    # Peaks, not noise: a Newton step on noise has no digits to compare.
    maps, _ = make_codec(name, (64, 96), (16, 24)).encode(torch.rand(5, 3, 2) * 40 + 12, torch.ones(5, 3))
    torch.testing.assert_close(graph(maps), Decoder()(maps))


def test_defaults_and_options():
    small, large = (make_codec("dark", *SIZES[size]) for size in ("256x192", "384x288"))
    assert (small.sigma, large.sigma, small.blur, small.grid) == (2, 3, 11, "classic")
    offset = make_codec("udp_offset", *SIZES["256x192"], blur=None)
    assert (offset.blur, offset.radius, offset.channels_per_joint, offset.grid) == (23, 3.5, 3, "unbiased")
    assert make_codec("standard", *SIZES["256x192"], sigma=1.5).sigma == 1.5


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("udp_gausian", {}, "udp_gaussian"),
        ("dark", {"sigm": 2}, "sigma"),
        ("standard", {"blur": 11}, "sigma"),
        ("dark", {"blur": 10}, "odd"),
        ("dark", {"sigma": 0}, "sigma"),
        ("udp_offset", {"radius_factor": -1}, "radius_factor"),
    ],
)
def test_bad_names_and_options_are_refused(name, options, hint):
    with pytest.raises(ConfigError, match=hint):
        make_codec(name, (192, 256), (48, 64), **options)


def test_bad_shapes_are_refused():
    codec = make_codec("udp_offset", (192, 256), (48, 64))
    with pytest.raises(DataError, match="shape"):
        codec.decode(torch.zeros(1, 17, 64, 48))
    with pytest.raises(DataError, match="shape"):
        codec.flip_back(torch.zeros(1, 3, 48, 64), [])
    with pytest.raises(DataError, match="flip pair"):
        codec.flip_back(torch.zeros(1, 6, 64, 48), [(1, 2)])
    with pytest.raises(DataError, match="float32"):
        codec.encode(torch.zeros(1, 2, 2), torch.ones(1, 2), out=torch.zeros(1, 2, 64, 48))
    with pytest.raises(ConfigError, match="side"):
        make_codec("dark", (192, 256), (48, 1))


@pytest.mark.parametrize("name", ["standard", "dark", "udp_gaussian"])
def test_the_patch_decides_which_joints_outside_have_weight(name):
    """At sigma 2 the patch of a joint at -7.6 just ends at pixel 0, exclusive; one 5 beyond the size starts inside."""
    codec = make_codec(name, (192, 256), (48, 64))
    middle = torch.full((4,), 30.0)
    for axis, size in enumerate(codec.heatmap_size):
        edge = torch.tensor([-8.6, -7.6, size + 5.0, size + 6.0])
        joints = torch.stack([edge, middle] if axis == 0 else [middle, edge], -1)[None] * torch.tensor(codec.stride)
        _, weights = codec.encode(joints, torch.ones(1, 4))
        assert weights[0].tolist() == [0, 1, 1, 0]


def test_udp_refines_faint_maps_down_to_its_clip():
    codec = make_codec("udp_gaussian", (192, 256), (48, 64))
    joints = draw(codec, 0)
    targets, _ = codec.encode(joints, torch.ones(2, 17))
    assert distance(codec, codec.decode(0.01 * targets)[0], joints) < 0.02
    fainter, _ = codec.decode(0.0009 * targets)
    heatmap_xy = fainter / torch.tensor(codec.stride)
    torch.testing.assert_close(heatmap_xy, heatmap_xy.round(), atol=1e-4, rtol=0)
