from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psa_pose.data.augment import sample_generator
from psa_pose.data.loader import ShuffledBatches, make_loader
from psa_pose.errors import DataError
from psa_pose.segmentation.classes import VOC
from psa_pose.segmentation.data import dataset as dataset_module
from psa_pose.segmentation.data.augment import CropView, SegmentationAugmentation, cut, draw_view, jitter_color
from psa_pose.segmentation.data.class_uniform import class_places, tile_places
from psa_pose.segmentation.data.dataset import (
    MEAN_COLOR,
    LabelReader,
    SegmentationDataset,
    find_places,
    make_segmentation_batch,
    make_whole_pictures,
)
from psa_pose.segmentation.data.label_files import index_table
from psa_pose.segmentation.data.pictures import Pictures
from psa_pose.segmentation.data.voc import voc_pictures
from tests.segmentation.layouts import make_voc

READER = LabelReader(index_table(21), 21)
NAMES = tuple(f"2007_{i:06d}" for i in range(9))
ALL = SegmentationAugmentation((0.5, 2.0), color=0.25, class_uniform_prob=0.5)


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    return make_voc(tmp_path_factory.mktemp("voc"), NAMES)


def make_dataset(voc, augmentation=ALL, **options) -> SegmentationDataset:
    pictures = voc_pictures(voc, "train")
    return SegmentationDataset(pictures, READER, (40, 36), augmentation=augmentation, **options)


views = st.builds(
    CropView, st.integers(-30, 50), st.integers(-30, 40), st.integers(1, 90), st.integers(1, 90), st.booleans()
)


@given(views, st.integers(0, 99))
def test_a_label_crop_holds_the_pixel_whose_centre_it_shows(view, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 5, (37, 41)).astype(np.uint8)
    crop = np.full((24, 30), 77, np.uint8)
    cut(label, view, crop, 255)
    shown = crop[:, ::-1] if view.mirror else crop
    wrong = 0
    for row in range(24):
        for column in range(30):
            x = view.x + (column + 0.5) * view.width / 30 - 0.5
            y = view.y + (row + 0.5) * view.height / 24 - 0.5
            # One pixel of tolerance: where the image ends within a rectangle its part is resized to whole pixels.
            slack = 1.01 + max(view.width / 30, view.height / 24)
            near = label[
                max(0, int(np.floor(y - slack))) : max(0, int(np.ceil(y + slack)) + 1),
                max(0, int(np.floor(x - slack))) : max(0, int(np.ceil(x + slack)) + 1),
            ]
            outside = not (slack <= x < 41 - slack and slack <= y < 37 - slack)
            wrong += not (shown[row, column] in near or (outside and shown[row, column] == 255))
    assert wrong == 0


def test_a_crop_inside_the_image_is_the_resized_rectangle_to_the_pixel():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 5, (60, 80)).astype(np.uint8)
    for scale in (1, 2, 3):
        view, crop = CropView(7, 9, 12, 8), np.zeros((8 * scale, 12 * scale), np.uint8)
        cut(label, view, crop, 255)
        np.testing.assert_array_equal(crop, np.kron(label[9:17, 7:19], np.ones((scale, scale), np.uint8)))
    crop = np.zeros((5, 6), np.uint8)
    cut(label, CropView(10, 20, 18, 15), crop, 255)
    np.testing.assert_array_equal(crop, label[21:35:3, 11:28:3])
    image, crop = rng.integers(0, 255, (60, 80, 3)).astype(np.uint8), np.zeros((8, 12, 3), np.uint8)
    cut(image, CropView(7, 9, 12, 8, mirror=True), crop, 0)
    np.testing.assert_array_equal(crop, image[9:17, 7:19][:, ::-1])


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_a_view_lies_in_the_image_or_holds_all_of_it(width, height, seed):
    view = draw_view((width, height), (100, 80), ALL, np.random.default_rng(seed))
    for start, side, length in ((view.x, view.width, width), (view.y, view.height, height)):
        assert (start >= 0 and start + side <= length) if side <= length else (start <= 0 and start + side >= length)
    assert 50 <= view.width <= 200
    assert abs(view.height - view.width * 80 / 100) <= 1


@given(st.integers(30, 400), st.integers(0, 2**32 - 1))
def test_a_view_shows_its_focus(length, seed):
    rng = np.random.default_rng(seed)
    focus = (int(rng.integers(length)), int(rng.integers(length)))
    view = draw_view((length, length), (100, 80), ALL, rng, focus)
    assert view.x <= focus[0] < view.x + view.width
    assert view.y <= focus[1] < view.y + view.height


def test_scales_in_steps_are_those_of_the_list():
    options = SegmentationAugmentation((0.5, 2.1), scale_step=0.1)
    rng = np.random.default_rng(0)
    widths = {draw_view((5000, 5000), (1000, 1000), options, rng).width for _ in range(500)}
    assert widths == {round(1000 / (0.5 + 0.1 * i)) for i in range(17)}


def test_padding_is_ignored_unless_the_published_background_is_asked_for(voc):
    small = SegmentationAugmentation((0.3, 0.3), flip_prob=0.0)
    for option, value in (("ignore", 255), ("background", 0)):
        batch = make_segmentation_batch(make_dataset(voc, small, pad_label=option), [(0, 0)])
        outside = (batch.images[0] == torch.tensor(MEAN_COLOR, dtype=torch.uint8)).all(-1)
        assert 0.3 < outside.float().mean() < 1
        assert (batch.labels[0][outside] == value).float().mean() > 0.99


def test_image_and_label_show_the_same_place(voc):
    """Regions are flat: the picture's colours, half the palette's and noise, tell the label again."""
    dataset = make_dataset(voc, SegmentationAugmentation((0.8, 2.0)))
    colors = VOC.palette()[:21].astype(int) // 2 + 30
    for row in range(len(NAMES)):
        batch = make_segmentation_batch(dataset, [(3, row)])
        image, label = cv2.blur(batch.images[0].numpy(), (3, 3)).astype(int), batch.labels[0].numpy()
        guess = np.abs(image[:, :, None] - colors).sum(-1).argmin(-1)
        inner = cv2.erode(label, np.ones((5, 5))) == cv2.dilate(label, np.ones((5, 5)))
        inner &= label != 255
        assert inner.sum() > 20
        # The darkest colours of the palette lie closer together than the noise.
        assert (guess == label)[inner].mean() > 0.9


def test_samples_depend_on_seed_epoch_and_row_alone(voc):
    assert make_dataset(voc).ids.tolist() == list(NAMES)
    assert make_dataset(voc).groups.tolist() == list(range(9))
    dataset = make_dataset(voc, places=find_places(voc_pictures(voc, "train"), READER)[0])
    keys = [(0, 1), (1, 1), (0, 2)]
    first, again = make_segmentation_batch(dataset, keys), make_segmentation_batch(dataset, keys[::-1])
    assert torch.equal(first.images, again.images.flip(0))
    assert torch.equal(first.labels, again.labels.flip(0))
    assert torch.equal(first.rows, again.rows.flip(0))
    assert make_segmentation_batch(make_dataset(voc), keys).rows.tolist() == [1, 1, 2]
    assert not torch.equal(first.images[0], first.images[1])
    dataset.seed = 1
    assert not torch.equal(make_segmentation_batch(dataset, keys).images, first.images)


def test_batches_are_the_same_for_any_number_of_workers(voc):
    dataset, results = make_dataset(voc), []
    for workers in (0, 2):
        loader = make_loader(dataset, ShuffledBatches(9, 4, seed=2), workers, False, make_segmentation_batch)
        results.append([(batch.images, batch.labels, batch.rows) for batch in loader])
    assert [len(batch[2]) for batch in results[0]] == [4, 4, 1]
    for first, second in zip(*results, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_file_is_decoded_once_per_sample(voc, monkeypatch):
    opened = []
    for name in ("read_image", "read_label"):
        real = getattr(dataset_module, name)
        monkeypatch.setattr(dataset_module, name, lambda path, *a, real=real: opened.append(path) or real(path, *a))
    make_segmentation_batch(make_dataset(voc), [(0, 0), (0, 1)])
    assert len(opened) == len(set(opened)) == 4


def test_an_unreadable_picture_is_reported_and_ignored(voc, tmp_path):
    pictures = voc_pictures(voc, "train")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(pictures.images[0].read_bytes()[:-40])
    pictures = Pictures(pictures.source, pictures.names, (broken, *pictures.images[1:]), pictures.labels)
    dataset = SegmentationDataset(pictures, READER, (40, 36), augmentation=ALL)
    batch = make_segmentation_batch(dataset, [(0, 0), (0, 1)])
    assert "broken.jpg is truncated" in batch.problems[0]
    assert batch.problems[1] == ""
    assert (batch.labels[0] == 255).all()
    whole = make_whole_pictures(dataset, [(0, 0), (0, 1)])
    assert "truncated" in whole[0].problem
    assert whole[0].label.tolist() == [[255]]
    assert whole[1].image.shape == (44, 60, 3)
    assert whole[1].label.shape == (44, 60)


def test_pictures_without_labels_are_ignored_everywhere(voc):
    pictures = voc_pictures(voc, "train")
    dataset = SegmentationDataset(Pictures(pictures.source, pictures.names, pictures.images, ()), READER, (40, 36))
    assert (make_whole_pictures(dataset, [(0, 0)])[0].label == 255).all()


def test_channel_order_changes_the_channels_alone(voc):
    batches = [
        make_segmentation_batch(make_dataset(voc, channel_order=order), [(0, 0), (0, 1)]) for order in ("rgb", "bgr")
    ]
    difference = batches[0].images.int() - batches[1].images.flip(3).int()
    assert difference.abs().max() <= 1


def test_colour_jitter_keeps_grey_grey_and_turns_hue_at_equal_brightness():
    grey = np.full((4, 4, 3), 100, np.uint8)
    jitter_color(grey, 0.2, np.random.default_rng(3))
    assert np.ptp(grey.reshape(-1, 3).astype(int), axis=1).max() <= 1

    class OnlyHue:
        def uniform(self, low, high, size):
            return np.array([0, 0, 0, 0.25])

    image = np.random.default_rng(0).integers(90, 140, (20, 20, 3)).astype(np.uint8)
    turned = image.copy()
    jitter_color(turned, 0.25, OnlyHue())
    weights = [0.299, 0.587, 0.114]
    assert np.abs(turned @ weights - image @ weights).max() < 1.5
    assert np.abs(turned.astype(int) - image).mean() > 3


def test_colour_jitter_is_brightness_then_saturation_then_contrast():
    image = np.random.default_rng(1).integers(60, 160, (9, 8, 3)).astype(np.uint8)
    bright, contrast, saturation = 0.1, -0.15, 0.2

    class Draws:
        def uniform(self, low, high, size):
            return np.array([bright, contrast, saturation, 0])

    weights = np.array([0.299, 0.587, 0.114])
    plain = image * (1 + bright)
    grey = (plain @ weights)[..., None]
    plain = grey + (plain - grey) * (1 + saturation)
    mean = (plain @ weights).mean()
    plain = mean + (plain - mean) * (1 + contrast)
    jitter_color(image, 0.2, Draws())
    np.testing.assert_allclose(image, np.clip(plain, 0, 255), atol=1.01)


def test_class_places_are_the_mean_of_a_class_in_each_tile():
    label = np.full((20, 30), 255, np.uint8)
    label[2:6, 1:5], label[12:20, 22:30], label[0, 29] = 3, 1, 2
    places = tile_places(label, tile=10, smallest=2)
    # By tile, then class; y 12 to 19 lie in the second row of tiles; class 2 has one pixel only.
    assert places.tolist() == [[3, 2, 4], [1, 26, 16]]


def test_class_uniform_draws_show_every_class_equally_often():
    rng = np.random.default_rng(0)
    places = [np.array([[rng.choice([0, 1, 2, 5], p=[0.9, 0.05, 0.03, 0.02]), i, i]]) for i in range(400)]
    table = class_places(places, 7)
    drawn = [table.draw(rng) for _ in range(4000)]
    classes = np.bincount([places[row][0, 0] for row, _ in drawn], minlength=7)
    assert classes[[3, 4, 6]].sum() == 0
    assert (np.abs(classes[[0, 1, 2, 5]] - 1000) < 120).all()
    assert all((x, y) == tuple(places[row][0, 1:]) for row, (x, y) in drawn)
    with pytest.raises(DataError, match="class-uniform"):
        class_places([np.zeros((0, 3), int)], 4)


def test_class_uniform_crops_show_the_class_they_were_drawn_for(voc):
    pictures = voc_pictures(voc, "train")
    places, _ = find_places(pictures, READER)
    options = SegmentationAugmentation((1.0, 1.0), class_uniform_prob=1.0)
    dataset = SegmentationDataset(pictures, READER, (10, 10), augmentation=options, places=places)
    for row in range(20):
        generator = sample_generator(0, 0, row % 9)
        generator.random()
        chosen, (x, y) = places.draw(generator)
        label = dataset.read(chosen)[1]
        batch = make_segmentation_batch(dataset, [(0, row % 9)])
        assert batch.rows.tolist() == [chosen]
        windows = np.lib.stride_tricks.sliding_window_view(label, (10, 10))
        same = (windows == batch.labels[0].numpy()).all((2, 3)) | (windows == batch.labels[0].numpy()[:, ::-1]).all(
            (2, 3)
        )
        starts = np.argwhere(same)
        assert any(top <= y < top + 10 and left <= x < left + 10 for top, left in starts)
