"""Crop matrices against the published ones, and the properties that any pixel convention has to have."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psa_pose.errors import DataError
from psa_pose.geometry import box_to_region, crop_matrix, invert, span, transform_points, warp

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "affine.npz"))
GRIDS = ("classic", "unbiased")
few = settings(max_examples=40, deadline=None)
crops = st.fixed_dictionaries(
    {
        "center": st.tuples(st.floats(-500, 2000), st.floats(-500, 2000)),
        "region": st.tuples(st.floats(2, 3000), st.floats(2, 3000)),
        "rotation": st.floats(-360, 360),
        "output_size": st.tuples(st.integers(2, 500), st.integers(2, 500)),
        "grid": st.sampled_from(GRIDS),
        "mirror": st.booleans(),
    }
)


def published(i: int) -> dict:
    return {
        "center": GOLDEN["center"][i],
        "region": GOLDEN["scale_px"][i],
        "output_size": tuple(GOLDEN["output_size_wh"][i].tolist()),
    }


# The published unbiased matrix turns the other way: the sign of the rotation is ours.
@pytest.mark.parametrize(
    ("grid", "key", "sign"), [("classic", "biased_matrix", 1), ("unbiased", "unbiased_matrix", -1)]
)
def test_crop_matrix_is_the_published_one(grid, key, sign):
    for i, rotation in enumerate(GOLDEN["rotation_deg"]):
        corners = GOLDEN["center"][i] + np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) / 2 * GOLDEN["scale_px"][i]
        ours = crop_matrix(rotation=sign * rotation, grid=grid, **published(i))
        np.testing.assert_allclose(
            transform_points(corners, ours), transform_points(corners, GOLDEN[key][i]), atol=5e-4, rtol=0
        )


def test_heatmap_to_image_is_the_published_inverse():
    for i in range(len(GOLDEN["center"])):
        crop = published(i)
        width, height = (side // 4 for side in crop.pop("output_size"))
        back = invert(crop_matrix(rotation=0, output_size=(width, height), **crop))
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
        want = transform_points(corners, GOLDEN["biased_heatmap_to_image_rot0"][i])
        np.testing.assert_allclose(transform_points(corners, back), want, atol=5e-4, rtol=0)


def test_box_to_region_is_the_published_one():
    center, region = box_to_region(GOLDEN["box_xywh"], 3 / 4)
    np.testing.assert_allclose(center, GOLDEN["box_center"], atol=2e-4, rtol=0)
    np.testing.assert_allclose(region, GOLDEN["box_scale_px"], atol=2e-4, rtol=0)
    one = box_to_region(GOLDEN["box_xywh"][5], 3 / 4)
    np.testing.assert_array_equal(one[0], center[5])
    np.testing.assert_array_equal(one[1], region[5])


@few
@given(crops, st.integers(0, 10**6))
def test_crop_then_inverse_is_the_identity(crop, seed):
    matrix = crop_matrix(**crop)
    points = np.random.default_rng(seed).uniform(-1000, 3000, (5, 2))
    np.testing.assert_allclose(transform_points(transform_points(points, matrix), invert(matrix)), points, atol=1e-6)


@few
@given(crops)
def test_regions_corners_land_on_the_crops_corners(crop):
    crop |= {"rotation": 0.0, "mirror": False}
    half = np.array(crop["region"]) / 2
    got = transform_points(np.stack([crop["center"] - half, crop["center"] + half]), crop_matrix(**crop))
    np.testing.assert_allclose(got, [(0, 0), span(crop["output_size"], crop["grid"])], atol=1e-8)


@few
@given(crops)
def test_mirror_is_a_flip_of_the_crop(crop):
    points = np.array([[0.0, 0.0], [33.0, 70.0]])
    plain = transform_points(points, crop_matrix(**crop | {"mirror": False}))
    mirrored = transform_points(points, crop_matrix(**crop | {"mirror": True}))
    width = crop["output_size"][0] - (crop["grid"] == "unbiased")
    np.testing.assert_allclose(mirrored, [width, 0] + plain * [-1, 1], atol=1e-6)


@few
@given(crops, st.integers(10, 3000))
def test_mirror_is_published_trainings_mirrored_image(crop, image_width):
    """Mirroring the image, centre and joints and then cropping is the mirror of the crop turned the other way."""
    center = crop["center"]
    of_image = crop_matrix(**crop | {"center": (image_width - 1 - center[0], center[1]), "mirror": False})
    ours = crop_matrix(**crop | {"rotation": -crop["rotation"], "mirror": True})
    points = np.array([[0.0, 0.0], [33.0, 70.0]])
    want = transform_points([image_width - 1, 0] + points * [-1, 1], of_image)
    np.testing.assert_allclose(transform_points(points, ours), want, atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
def test_positive_rotation_turns_the_window_clockwise(grid):
    """With the window turned from x towards y by 90 degrees, what lies right of the centre is at the crop's top."""
    matrix = crop_matrix((50, 50), (20, 20), 90, (21, 21), grid)
    middle = span(21, grid) / 2
    x, y = transform_points([60.0, 50.0], matrix)
    assert abs(x - middle) < 1e-9
    assert y < middle - 5


def test_batches_are_the_single_answers():
    rng = np.random.default_rng(0)
    center, region, rotation = rng.uniform(0, 100, (3, 2)), rng.uniform(5, 50, (3, 2)), rng.uniform(-90, 90, 3)
    matrices = crop_matrix(center, region, rotation, (48, 64), "unbiased", mirror=True)
    points = rng.uniform(0, 100, (3, 4, 2))
    moved, inverses = transform_points(points, matrices), invert(matrices)
    assert matrices.shape == inverses.shape == (3, 2, 3)
    for i in range(3):
        one = crop_matrix(center[i], region[i], rotation[i], (48, 64), "unbiased", mirror=True)
        np.testing.assert_allclose(matrices[i], one, atol=1e-12)
        np.testing.assert_allclose(moved[i], transform_points(points[i], one), atol=1e-9)
        np.testing.assert_allclose(inverses[i], invert(one), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(GRIDS), st.booleans())
def test_a_white_dot_lands_where_the_matrix_says(seed, grid, mirror):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(60, 140, 2)
    image = np.zeros((200, 200, 3), np.uint8)
    image[y - 2 : y + 3, x - 2 : x + 3] = 255
    matrix = crop_matrix((100, 100), (150, 200), rng.uniform(-60, 60), (192, 256), grid, mirror)
    crop = warp(image, matrix, (192, 256))
    assert crop.shape == (256, 192, 3)
    weight = crop[..., 0].astype(float)
    rows, columns = np.mgrid[:256, :192]
    found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    np.testing.assert_allclose(found, transform_points([x, y], matrix), atol=0.05)


def test_warp_writes_into_the_array_it_is_given():
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    matrix = crop_matrix((30, 25), (40, 40), 20, (32, 32))
    batch = np.full((2, 32, 32, 3), 7, np.uint8)
    got = warp(image, matrix, (32, 32), out=batch[1])
    assert np.shares_memory(got, batch)
    np.testing.assert_array_equal(batch[1], warp(image, matrix, (32, 32)))
    assert (batch[0] == 7).all()


@pytest.mark.parametrize("box", [(0, 0, np.nan, 5), (0, np.inf, 5, 5), (0, 0, -3, 5), (1, 1, 0, 0)])
def test_bad_boxes_are_refused(box):
    with pytest.raises(DataError, match="box"):
        box_to_region([(0, 0, 5, 5), box], 0.75)


def test_bad_crops_are_refused():
    with pytest.raises(DataError, match="region"):
        crop_matrix((0, 0), (0, 5), 0, (48, 64))
    with pytest.raises(DataError, match="finite"):
        crop_matrix((0, 0), (5, 5), np.nan, (48, 64))
    with pytest.raises(DataError, match="grid"):
        crop_matrix((0, 0), (5, 5), 0, (48, 64), "udp")
    with pytest.raises(DataError, match="inverse"):
        invert(np.zeros((2, 3)))


def test_bad_images_and_outputs_are_refused():
    matrix = crop_matrix((5, 5), (5, 5), 0, (8, 8))
    with pytest.raises(DataError, match="uint8"):
        warp(np.zeros((9, 9, 3), np.float32), matrix, (8, 8))
    with pytest.raises(DataError, match="contiguous"):
        warp(np.zeros((9, 9, 3), np.uint8), matrix, (8, 8), out=np.zeros((8, 9, 3), np.uint8))
