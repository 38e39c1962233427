"""Crops made on the device are those of the CPU path; here the device is mostly a CPU, whose decoder is libjpeg."""

import io
import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from psa_pose.config import load_config
from psa_pose.data import device_decode
from psa_pose.data.build import build_train_set
from psa_pose.data.dataset import Batch, make_batch
from psa_pose.data.device_decode import batch_maker, decode_jpegs, decode_on_device, encode_batch
from psa_pose.data.loader import ShuffledBatches, make_loader
from psa_pose.errors import ConfigError
from psa_pose.media.pictures import is_plain_jpeg, read_image
from psa_pose.skeleton import COCO

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="decodes with nvJPEG, which needs a GPU")
# OpenCV 4 interpolates on a grid of 1/32 pixel; nvJPEG has its own inverse cosine transform and chroma upsampling.
# Measured with OpenCV 5: at most 1, on average 0.0002 (photographs).
GREATEST, MEAN = (1, 0.01) if cv2.__version__ >= "5" else (8, 0.5)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=NO_GPU)])
def device(request) -> torch.device:
    return torch.device(request.param)


def train_set(cfg):
    return build_train_set(cfg, COCO, "unbiased", lambda _: None)


def image_file(dataset, row=0):
    return dataset.image_path(int(dataset.persons.image[row]))


@pytest.fixture
def copied_set(tiny_config, people, tmp_path):
    """A training set whose files may be changed."""
    root = tmp_path / "copy"
    shutil.copytree(people, root)
    return train_set(tiny_config("DATASET.ROOT", root))


def encoded(image: np.ndarray, suffix=".jpg") -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def pillow_jpeg(mode: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(ramp()).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def ramp(height=160, width=192) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, 255 - (x + y) // 2], 2).astype(np.uint8)


def as_bytes(data: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())


def check_same(dataset, keys, device) -> Batch:
    """Everything but the grey levels is equal, and these nearly; the answer is the batch of the device."""
    plain, made = make_batch(dataset, keys), decode_on_device(encode_batch(dataset, keys), dataset, device)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(plain[1:5], made[1:5], strict=True))
    assert made.problems == plain.problems
    assert made.crops.device.type == device.type
    assert made.crops.dtype == torch.uint8
    assert made.crops.is_contiguous()
    difference = (made.crops.cpu().int() - plain.crops.int()).abs()
    # nvJPEG of an H100: at most 52.
    greatest, mean = (GREATEST, MEAN) if device.type == "cpu" else (60, 1.5)
    assert difference.max() <= greatest
    assert difference.float().mean() <= mean
    return made


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_augmented_crops_are_those_of_the_cpu_path(tiny_config, device, order):
    dataset = train_set(tiny_config("INPUT.CHANNEL_ORDER", order))
    keys = [(epoch, row) for epoch in range(2) for row in range(len(dataset))]
    check_same(dataset, keys, device)


def test_crops_of_photographs_are_those_of_the_cpu_path(coco_mini, device):
    cfg = load_config("configs/coco/hrnet/hrnet_w32_256x192.yaml", ["DATASET.ROOT", str(coco_mini)])
    check_same(train_set(cfg), [(row // 8, row) for row in range(24)], device)


def test_the_identity_returns_the_image_with_black_around_it(device):
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 7, 9), np.uint8)).to(device)
    matrices = np.array([[[1.0, 0, 0], [0, 1, 0]], [[1, 0, 2], [0, 1, 3]]])
    crops = device_decode._crops([picture], [0, 0], matrices, (9, 7), "rgb", device)
    assert torch.equal(crops[0], picture.permute(1, 2, 0))
    assert torch.equal(crops[1, 3:, 2:], picture[:, :4, :7].permute(1, 2, 0))
    assert not crops[1, :3].any()
    assert not crops[1, :, :2].any()


def test_a_white_dot_lands_where_the_matrix_says(device):
    """Scaled, turned, mirrored, and to places between two pixels; what OpenCV makes of it lies there too."""
    picture = torch.zeros(3, 40, 60, dtype=torch.uint8, device=device)
    x, y = 33, 14
    picture[:, y, x] = 255
    generator = np.random.default_rng(0)
    for mirror in (1, -1):
        angle, scale = generator.uniform(0, 2 * np.pi), generator.uniform(3, 4)
        linear = scale * np.array([[mirror * np.cos(angle), np.sin(angle)], [-mirror * np.sin(angle), np.cos(angle)]])
        goal = generator.uniform(20, 40, 2)
        matrix = np.column_stack([linear, goal - linear @ (x, y)])
        crop = device_decode._crops([picture], [0], matrix[None], (64, 64), "rgb", device)[0, ..., 0].double().cpu()
        seen = [
            (crop * torch.arange(64)[None]).sum() / crop.sum(),
            (crop * torch.arange(64)[:, None]).sum() / crop.sum(),
        ]
        assert np.abs(np.array(seen) - goal).max() < 0.05
        dot = np.zeros((40, 60), np.uint8)
        dot[y, x] = 255
        theirs = cv2.warpAffine(dot, matrix, (64, 64), flags=cv2.INTER_LINEAR)
        assert np.abs(crop.numpy() - theirs).max() <= max(GREATEST, 1)


def test_an_image_is_decoded_once_for_its_persons_in_a_batch(tiny_config, monkeypatch):
    dataset = train_set(tiny_config())
    decoded = []

    def count(files, device):
        decoded.append(len(files))
        return decode_jpegs(files, device)

    monkeypatch.setattr(device_decode, "decode_jpegs", count)
    keys = [(epoch, row) for row in range(len(dataset)) for epoch in (0, 1)]
    decode_on_device(encode_batch(dataset, keys), dataset, torch.device("cpu"))
    distinct = len(np.unique(dataset.persons.image))
    assert distinct < len(dataset)
    assert decoded == [distinct]


@pytest.mark.parametrize(
    ("data", "on_the_device"),
    [
        (encoded(ramp()), True),
        (encoded(ramp()[..., 0]), True),
        (pillow_jpeg("RGB", progressive=True), True),
        (encoded(ramp(), ".png"), False),
        (encoded(ramp()[..., 0].astype(np.uint16) * 200, ".png"), False),
        (pillow_jpeg("CMYK"), False),
        (pillow_jpeg("RGB", keep_rgb=True), False),
        (b"", False),
        (b"\xff\xd8\xff\xc0", False),
    ],
    ids=["jpeg", "grey", "progressive", "png", "png16", "cmyk", "rgb", "empty", "stump"],
)
def test_other_files_than_plain_jpegs_are_decoded_as_ever(copied_set, device, monkeypatch, data, on_the_device):
    asked = []

    def count(files, device):
        asked.extend(files)
        return decode_jpegs(files, device)

    monkeypatch.setattr(device_decode, "decode_jpegs", count)
    assert is_plain_jpeg(data) == on_the_device
    if on_the_device:
        assert decode_jpegs([as_bytes(data)], device)[0].shape == (3, 160, 192)
    image_file(copied_set).write_bytes(data)
    row = int(np.flatnonzero(copied_set.persons.image != copied_set.persons.image[0])[0])
    made = check_same(copied_set, [(0, 0), (0, row), (1, 0)], device)
    assert len(asked) == 1 + on_the_device
    assert made.crops[0].any() == (len(data) > 4)


def test_missing_and_truncated_images_are_the_problems_of_the_cpu_path(copied_set, device):
    paths = sorted({image_file(copied_set, row) for row in range(len(copied_set))})
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:500])
    keys = [(1, row) for row in range(len(copied_set))]
    made = check_same(copied_set, keys, device)
    said = " ".join(made.problems)
    assert f"{paths[0]} cannot be read" in said
    assert f"{paths[1]} is truncated" in said
    bad = torch.tensor([bool(problem) for problem in made.problems])
    assert 0 < bad.sum() < len(keys)
    assert not made.visible[bad].any()
    assert not made.crops[bad.to(device)].any()


def test_what_the_decoder_refuses_is_left_to_opencv(copied_set, monkeypatch):
    """A frame without any scan looks plain at its head: nobody can read it, and no other image suffers."""
    whole = image_file(copied_set).read_bytes()
    stump = whole[: whole.rfind(b"\xff\xda")] + b"\xff\xd9"
    assert is_plain_jpeg(stump)
    assert decode_jpegs([as_bytes(stump)], torch.device("cpu")) == [None]
    image_file(copied_set).write_bytes(stump)
    keys = [(0, row) for row in range(len(copied_set))]
    made = check_same(copied_set, keys, torch.device("cpu"))
    assert "not a picture" in made.problems[0]
    assert "" in made.problems

    def refuse(files, device):
        raise RuntimeError("this one not")

    image_file(copied_set).write_bytes(whole)
    monkeypatch.setattr(device_decode, "_torchvision_decode", refuse)
    check_same(copied_set, keys, torch.device("cpu"))


def test_exif_rotation_is_ignored(tmp_path, device):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06" + bytes(7)
    plain = encoded(ramp())
    turned = plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
    path = tmp_path / "turned.jpg"
    path.write_bytes(turned)
    assert cv2.imread(str(path)).shape == (192, 160, 3)
    (picture,) = decode_jpegs([as_bytes(turned)], device)
    assert picture.shape == (3, 160, 192)
    assert np.abs(picture.permute(1, 2, 0).cpu().numpy().astype(int) - read_image(path)).max() <= 3


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_keeps_order_and_randomness(tiny_config, workers):
    dataset, cpu = train_set(tiny_config()), torch.device("cpu")
    found = []
    for make in (batch_maker(False, cpu), batch_maker(True, cpu)):
        batches = ShuffledBatches(len(dataset), 5, seed=0)
        batches.epoch = 3
        loader = make_loader(dataset, batches, workers, False, make)
        found.append([decode_on_device(batch, dataset, cpu) for batch in loader])
    for a, b in zip(*found, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[1:5], b[1:5], strict=True))
        assert (a.crops.int() - b.crops.int()).abs().max() <= GREATEST


def test_a_device_without_a_decoder_is_refused_before_the_run(monkeypatch):
    def without(files, device):
        raise RuntimeError("not compiled with nvJPEG support\nmore")

    monkeypatch.setattr(device_decode, "_torchvision_decode", without)
    with pytest.raises(ConfigError, match=r"DEVICE_DECODE is true but .* on cpu \(not compiled with nvJPEG support\)"):
        batch_maker(True, torch.device("cpu"))
    assert batch_maker(False, torch.device("cpu")) is make_batch
