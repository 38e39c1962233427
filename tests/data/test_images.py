import cv2
import numpy as np
import pytest

from psa_pose.errors import DataError
from psa_pose.media.pictures import read_image


def picture(height=40, width=60) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 6, (x + y) * 2], 2).astype(np.uint8)


def jpeg_with_orientation(image: np.ndarray, orientation: int) -> bytes:
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0, 0, 0, 0, 0])
    exif = b"Exif\0\0" + tiff
    data = cv2.imencode(".jpg", image)[1].tobytes()
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


def test_colour_order_is_the_models(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), picture())
    assert np.array_equal(read_image(path, "bgr"), picture())
    assert np.array_equal(read_image(path, "rgb"), picture()[..., ::-1])


def test_grey_alpha_and_16_bits_become_three_channels_of_8(tmp_path):
    rgba = np.dstack([picture(), np.full((40, 60), 7, np.uint8)])
    for name, stored, wanted in (
        ("grey.png", picture()[..., 0], np.repeat(picture()[..., :1], 3, 2)),
        ("alpha.png", rgba, picture()),
        ("deep.png", picture().astype(np.uint16) * 256 + 90, picture()),
    ):
        cv2.imwrite(str(tmp_path / name), stored)
        assert np.array_equal(read_image(tmp_path / name, "bgr"), wanted), name


def test_exif_rotation_is_ignored(tmp_path):
    path = tmp_path / "turned.jpg"
    path.write_bytes(jpeg_with_orientation(picture(), 6))
    assert cv2.imread(str(path)).shape == (60, 40, 3)
    assert read_image(path).shape == (40, 60, 3)


def test_unusable_files_are_named(tmp_path):
    good = cv2.imencode(".jpg", picture())[1].tobytes()
    thumbnail = good[:2] + b"\xff\xe1" + (len(good) + 2).to_bytes(2, "big") + good + good[2:]
    png = cv2.imencode(".png", picture())[1].tobytes()
    for name, data, says in (
        ("cut.jpg", good[: len(good) // 2], "truncated"),
        ("thumb.jpg", thumbnail[:-40], "truncated"),
        ("cut.png", png[:-20], "truncated"),
        ("empty.jpg", b"", "not a picture"),
        ("text.jpg", b"hello", "not a picture"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=says) as error:
            read_image(tmp_path / name)
        assert name in str(error.value)
    with pytest.raises(DataError, match=r"gone.jpg cannot be read"):
        read_image(tmp_path / "gone.jpg")


def test_bytes_after_the_end_marker_do_no_harm(tmp_path):
    path = tmp_path / "tail.jpg"
    path.write_bytes(cv2.imencode(".jpg", picture())[1].tobytes() + b"\0" * 50)
    assert read_image(path).shape == (40, 60, 3)
