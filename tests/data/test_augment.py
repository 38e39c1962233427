"""What is drawn and what becomes of it, against a plain walk through HRNet's loader, and how often over many draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psa_pose.data.augment import Augmentation, View, augment_view, sample_generator
from psa_pose.data.augment_pixels import PixelAugmentation
from psa_pose.data.build import build_train_set
from psa_pose.skeleton import COCO, MPII

few = settings(max_examples=150, deadline=None)
shares = st.floats(0, 1, exclude_max=True)
normals = st.one_of(st.floats(-6, 6), st.sampled_from([0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0]))


class Drawn:
    """A generator that gives what it was told to."""

    def __init__(self, uniforms, gaussians):
        self.uniforms, self.gaussians = iter(uniforms), iter(gaussians)

    def random(self):
        return next(self.uniforms)

    def standard_normal(self):
        return next(self.gaussians)


def clipped(value, low, high):
    return low if value < low else high if value > high else value


def plain(view, joints, visible, o, skeleton, uniforms, gaussians):
    """Centre, region, rotation and mirror as `JointsDataset` draws them, joint by joint."""
    (half_body, rotate, flip), (upper_first, size, angle) = uniforms, gaussians
    (cx, cy), (w, h) = view.center.tolist(), view.region.tolist()
    if half_body < o.half_body_prob and sum(v > 0 for v in visible) > o.half_body_joints:
        upper = [k for k, n in enumerate(skeleton.names) if visible[k] > 0 and n in skeleton.upper_body]
        lower = [k for k, n in enumerate(skeleton.names) if visible[k] > 0 and n not in skeleton.upper_body]
        taken = upper if upper_first < 0.5 and len(upper) > 2 else lower if len(lower) > 2 else upper
        if len(taken) >= 2:
            xs, ys = [float(joints[k][0]) for k in taken], [float(joints[k][1]) for k in taken]
            cx, cy = sum(xs) / len(xs), sum(ys) / len(ys)
            wide, high = max(max(xs) - min(xs), 1.0), max(max(ys) - min(ys), 1.0)
            aspect = w / h
            wide, high = (high * aspect, high) if wide < aspect * high else (wide, wide / aspect)
            w, h = 1.5 * wide, 1.5 * high
    factor = clipped(1 + o.scale * size, 1 - o.scale, 1 + o.scale)
    turned = clipped(o.rotation * angle, -2 * o.rotation, 2 * o.rotation) if rotate < o.rotation_prob else 0.0
    return [cx, cy], [w * factor, h * factor], turned, flip < o.flip_prob


@few
@given(
    st.integers(0, 10**6), st.integers(0, 17), st.lists(shares, min_size=3, max_size=3),
    st.lists(normals, min_size=3, max_size=3), st.integers(0, 17), st.sampled_from([COCO, MPII]),
    st.sampled_from([0.0, 0.3, 0.7, 1.0]),
)  # fmt: skip
def test_a_view_is_what_the_published_loader_makes_of_the_same_draws(
    seed, labelled, uniforms, gaussians, joints_needed, skeleton, odds
):
    rng = np.random.default_rng(seed)
    joints = rng.uniform(0, 300, (skeleton.num_joints, 2)).astype(np.float32)
    visible = np.zeros(skeleton.num_joints, np.float32)
    visible[rng.permutation(skeleton.num_joints)[:labelled]] = 1
    view = View(rng.uniform(50, 250, 2), np.array([3.0, 4.0]) * rng.uniform(10, 80))
    # Five numbers that differ, so that none stands for another.
    options = Augmentation(0.35, 45.0, odds, 1 - odds, 0.5 * odds + 0.4, joints_needed)
    half_body, rotate, flip = uniforms
    # In the order in which the generator is asked: a uniform, three normals, two uniforms.
    got = augment_view(view, joints, visible, options, skeleton, Drawn([half_body, rotate, flip], gaussians))
    center, region, rotation, mirror = plain(view, joints, visible, options, skeleton, uniforms, gaussians)
    np.testing.assert_allclose(got.center, center, rtol=1e-6)
    np.testing.assert_allclose(got.region, region, rtol=1e-6)
    assert got.rotation == pytest.approx(rotation, abs=1e-12)
    assert got.mirror == mirror


def within(share, odds, number):
    """Five standard deviations: more than once in a million it is not."""
    return abs(share - odds) < 5 * np.sqrt(odds * (1 - odds) / number)


def test_over_many_draws_each_thing_happens_as_often_as_it_should_and_by_itself():
    number = 3000
    joints = np.random.default_rng(0).uniform(0, 100, (17, 2)).astype(np.float32)
    upper_mean, lower_mean = joints[COCO.upper_mask].mean(0), joints[~COCO.upper_mask].mean(0)
    view = View(np.array([50.0, 50.0]), np.array([75.0, 100.0]))
    options = Augmentation(0.3, 40.0, 0.6, 0.25, 0.4, 8)
    made = [
        augment_view(view, joints, np.ones(17), options, COCO, sample_generator(7, n % 50, n // 50))
        for n in range(number)
    ]
    mirrored = np.array([v.mirror for v in made])
    turns = np.array([v.rotation for v in made])
    centers = np.array([v.center for v in made])
    turned = turns != 0
    upper, lower = np.isclose(centers, upper_mean).all(1), np.isclose(centers, lower_mean).all(1)
    assert ((centers == view.center).all(1) | upper | lower).all()
    assert within(mirrored.mean(), 0.25, number)
    assert within(turned.mean(), 0.6, number)
    assert within((upper | lower).mean(), 0.4, number)
    # P(normal < 0.5) = 0.6915.
    assert within(upper.sum() / (upper | lower).sum(), 0.6915, (upper | lower).sum())
    for first, second in ((mirrored, turned), (mirrored, upper | lower), (turned, upper | lower)):
        assert within((first & second).mean(), first.mean() * second.mean(), number)
    # The normal's standard deviation, cut at two of them; both limits are met.
    assert (turns.min(), turns.max()) == (-80, 80)
    assert within((np.abs(turns[turned]) == 80).mean(), 0.0455, turned.sum())
    whole = ~(upper | lower)
    factors = np.array([v.region for v in made])[whole] / view.region
    np.testing.assert_allclose(factors[:, 0], factors[:, 1], rtol=1e-12)
    assert (factors.min(), factors.max()) == pytest.approx((0.7, 1.3))
    assert within((factors[:, 0] > 1.2999).mean(), 0.1587, whole.sum())
    assert within((factors[:, 0] < 0.7001).mean(), 0.1587, whole.sum())
    assert len({(*v.region, v.rotation) for v in made}) > 0.5 * number


def test_every_key_of_augment_and_the_seed_reach_the_samples(tiny_config):
    words = {"SCALE": 0.11, "ROTATION": 22.0, "ROTATION_PROB": 0.33, "FLIP_PROB": 0.44, "HALF_BODY_PROB": 0.55}
    cfg = tiny_config(
        *(w for k, v in words.items() for w in (f"AUGMENT.{k}", v)), "AUGMENT.HALF_BODY_JOINTS", 6, "SEED", 9
    )
    dataset = build_train_set(cfg, COCO, "classic", lambda _: None)
    assert dataset.augmentation == Augmentation(0.11, 22.0, 0.33, 0.44, 0.55, 6, 0.0, PixelAugmentation())
    assert dataset.seed == 9


def test_every_epoch_row_and_seed_has_draws_of_its_own():
    keys = [(seed, epoch, row) for seed in range(4) for epoch in range(4) for row in range(4)]
    assert len({sample_generator(*key).random() for key in keys}) == len(keys)
    assert sample_generator(1, 2, 3).random() == sample_generator(1, 2, 3).random()
