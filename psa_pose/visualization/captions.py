"""Words under pictures, in a size that fits. Pictures are (H, W, 3) uint8 RGB."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

FONT, INK = cv2.FONT_HERSHEY_SIMPLEX, (25, 25, 25)
LINE, MARGIN = 17, 4
LARGEST, SMALLEST = 0.45, 0.32


def captioned(image: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """The picture on top of a white strip with the lines, as high as their number asks for."""
    return np.concatenate([image, text_strip(lines, image.shape[1])])


def text_strip(lines: Sequence[str], width: int, largest: float = LARGEST) -> np.ndarray:
    """Lines of dark text on white, `width` pixels wide; a line that is too long becomes smaller, and is cut at last."""
    step = round(LINE * largest / LARGEST)
    strip = np.full((step * len(lines) + 2 * MARGIN, width, 3), 255, np.uint8)
    for number, line in enumerate(lines):
        text, scale = _fitted(line, width - 2 * MARGIN, largest)
        place = (MARGIN, MARGIN + step * number + round(step * 0.75))
        cv2.putText(strip, text, place, FONT, scale, INK, 1, cv2.LINE_AA)
    return strip


def _fitted(line: str, width: int, largest: float = LARGEST) -> tuple[str, float]:
    """The line in ASCII, which is what OpenCV can write, and the scale in which it is at most `width` pixels wide."""
    line = line.encode("ascii", "replace").decode()
    scale = largest * min(1.0, width / max(_text_width(line, largest), 1))
    if scale >= SMALLEST:
        return line, scale
    while len(line) > 1 and _text_width(line + "...", SMALLEST) > width:
        line = line[:-1]
    return line + "...", SMALLEST


def _text_width(line: str, scale: float) -> int:
    """Pixels."""
    return int(cv2.getTextSize(line, FONT, scale, 1)[0][0])
