"""A picture, from a file or from a caller, as the published pipelines read it, or what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from psa_pose.errors import DataError
from psa_pose.media.headers import exif_orientation, jpeg_segments, upright

# Width and height; (0, 0) where nobody states them.
Size = tuple[float, float]
UNKNOWN: Size = (0, 0)

# cv2.warpAffine holds positions in 16 bits.
_GREATEST_SIDE = 32_766

# EXIF's tag of the orientation.
_ORIENTATION = 0x0112


def read_image(path: Path, channel_order: str = "rgb", size: Size = UNKNOWN, exif: str = "ignore") -> np.ndarray:
    """The picture as (H, W, 3) uint8 in "rgb" or "bgr" order.

    Grey becomes three equal channels, an alpha channel is dropped, 16 bits become 8. size: (width, height) that the
    annotations state. exif: what becomes of a camera's rotation, see `orientation_to_apply`; COCO's annotations are in
    the pixels as stored. Raises DataError for a missing, truncated or unreadable file and for one of another size.
    """
    return decode_image(read_file(path), path, channel_order, size, exif)


def as_pixels(image: Any) -> np.ndarray:
    """A path, a PIL image or an array of grey, RGB or RGBA uint8 pixels -> (H, W, 3) uint8 RGB. Raises DataError.

    A file or a PIL image whose EXIF says that the camera was turned is turned upright.
    """
    if isinstance(image, str | Path):
        pixels = read_image(Path(image), exif="apply")
    elif hasattr(image, "getbands") and hasattr(image, "convert"):
        if image.mode[0] in "IF":
            raise DataError(f"a PIL image of mode {image.mode} has no 8-bit pixels; convert it to 'L' or 'RGB'")
        pixels = upright(np.asarray(image.convert("RGB")), image.getexif().get(_ORIENTATION, 1))
    else:
        pixels = _from_array(image)
    if max(pixels.shape[:2]) > _GREATEST_SIDE:
        raise DataError(
            f"an image of {pixels.shape[1]} x {pixels.shape[0]} pixels is too large; "
            f"cut or scale it to at most {_GREATEST_SIDE} a side"
        )
    return np.ascontiguousarray(pixels)


def _from_array(image: Any) -> np.ndarray:
    if not isinstance(image, np.ndarray):
        raise DataError(f"an image cannot be a {type(image).__name__}; give a path, a PIL image or a NumPy array")
    pixels = image[..., None] if image.ndim == 2 else image
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.size == 0:
        raise DataError(
            f"an image array of shape {image.shape} and type {image.dtype} is not a picture; "
            "give non-empty uint8 pixels (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey"
        )
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]


def orientation_to_apply(orientation: int, stored: Size, stated: Size, exif: str) -> int:
    """EXIF's orientation where a picture is to be turned by it; 1: as it is.

    orientation: the file's. stored, stated: (width, height) of its pixels and in the annotations. exif: "ignore";
    "apply"; "auto": where the stated size is that of the turned picture, and not of the stored; "upright": where it is
    that of the turned.
    """
    if exif == "ignore" or (exif == "auto" and _same(stored, stated)):
        return 1
    turned = stored[::-1] if orientation >= 5 else stored
    return orientation if exif == "apply" or _same(turned, stated) else 1


def size_problem(path: Path, orientation: int, actual: Size, stated: Size, turned: bool = False) -> str:
    """Both sizes and the likely cause where a picture is not of the stated size; "" where it is, or none is stated.

    orientation: EXIF's. actual: (width, height) as it was read; turned: as EXIF wants it.
    """
    if min(stated) <= 0 or _same(actual, stated):
        return ""
    ratio = actual[0] / stated[0], actual[1] / stated[1]
    if _same(actual[::-1], stated):
        cause = "width and height are exchanged: write those of the file"
        if orientation >= 5 and not turned:
            cause = f"its EXIF orientation is {orientation}, DATASET.EXIF 'auto' reads it upright"
        elif turned:
            cause = "the labels are of the picture as stored: write DATASET.EXIF 'auto' or 'ignore'"
    elif abs(ratio[0] / ratio[1] - 1) < 0.02:
        cause = f"the labels were made at {1 / ratio[0]:.3g} times its resolution: scale them, or use those pictures"
    else:
        cause = "it is another picture, or was cut since: label this one, or bring back the other"
    stated_text = f"{stated[0]:.0f} x {stated[1]:.0f}"
    return f"image {path} is {actual[0]} x {actual[1]} pixels, the annotations say {stated_text}; {cause}"


def _same(size: Size, stated: Size) -> bool:
    """A pixel's difference is rounding."""
    return abs(size[0] - stated[0]) <= 1 and abs(size[1] - stated[1]) <= 1


def read_file(path: Path) -> bytes:
    """A picture's file as it is. Raises DataError where it is missing or truncated."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error.strerror}; check the image folder") from None
    if is_truncated(data):
        raise DataError(f"image {path} is truncated ({len(data)} bytes, its end is missing); copy or download it again")
    return data


def decode_image(
    data: bytes, path: Path, channel_order: str = "rgb", size: Size = UNKNOWN, exif: str = "ignore"
) -> np.ndarray:
    """The picture in a file's bytes, as `read_image` gives it; path: for the DataError where it cannot be used."""
    colour = cv2.IMREAD_COLOR_RGB if channel_order == "rgb" else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), colour | cv2.IMREAD_IGNORE_ORIENTATION) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"image {path} is not a picture that OpenCV can read ({len(data)} bytes); replace the file")
    stored = image.shape[1::-1]
    wanted = exif in ("apply", "upright") or (min(size) > 0 and not _same(stored, size))
    own = exif_orientation(data) if wanted else 1
    orientation = orientation_to_apply(own, stored, size, exif)
    if orientation > 1:
        image = upright(image, orientation)
    problem = size_problem(path, own, image.shape[1::-1], size, orientation > 1)
    if problem:
        raise DataError(problem)
    return image


def is_truncated(data: bytes) -> bool:
    """True for a JPEG or PNG whose end marker is missing: OpenCV would fill the rest with grey and say nothing."""
    if data.startswith(b"\xff\xd8"):
        if data.endswith(b"\xff\xd9"):
            return False
        # An EXIF thumbnail has an end marker of its own, but it lies before the picture's last start-of-scan.
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda") or b"\xff\xd9" not in data
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    return False


def is_plain_jpeg(data: bytes) -> bool:
    """True for a JPEG as every decoder reads it: 8 bits, Huffman codes, grey or YCbCr (ITU-T T.81, annex B).

    False for anything else, among it CMYK and RGB stored as such, of which decoders make different colours.
    """
    if not data.startswith(b"\xff\xd8"):
        return False
    converted = True
    for marker, segment in jpeg_segments(data):
        if marker == 0xEE and segment.startswith(b"Adobe"):
            converted = segment[11:12] != b"\0"
        # Start of frame: bits, height and width (2 bytes each), number of components, then 3 bytes for each.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            grey, colour = segment[5:6] == b"\1", segment[5:6] == b"\3" and converted and segment[6::3] != b"RGB"
            return marker <= 0xC2 and segment[:1] == b"\x08" and (grey or colour)
    return False
