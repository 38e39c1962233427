import numpy as np
import pytest

from psa_pose.skeleton import COCO
from psa_pose.visualization.captions import _fitted, _text_width, captioned, text_strip
from psa_pose.visualization.heatmaps_and_gates import (
    BAR,
    _channel_bars,
    _colour_over,
    _gate_tile,
    gate_sheet,
    heatmap_sheet,
)
from psa_pose.visualization.sheets import CropView

GREY = np.full((128, 96, 3), 120, np.uint8)


def yellow(picture: np.ndarray) -> np.ndarray:
    """Viridis goes from dark blue to yellow."""
    return picture[..., 0].astype(int) - picture[..., 2]


def test_a_spatial_gate_is_coloured_over_its_own_range_however_small():
    gate = np.full((16, 12), 0.5)
    gate[4, 9], gate[12, 2] = 0.50003, 0.49999
    picture = _colour_over(GREY, gate)
    y, x = np.unravel_index(yellow(picture).argmax(), picture.shape[:2])
    assert (abs(y - 4.5 * 8), abs(x - 9.5 * 8)) <= (5, 5)
    assert np.array_equal(np.unique(_colour_over(GREY, np.ones((3, 3))).reshape(-1, 3), axis=0).shape, (1, 3))
    tile = _gate_tile(GREY, "layer1.0.attention", None, gate)
    assert tile.shape[1] == GREY.shape[1]
    assert not np.array_equal(tile, _gate_tile(GREY, "layer1.0.attention", None, gate + 0.1))


@pytest.mark.parametrize("channels", [1, 7, 96, 2048])
def test_every_channel_has_its_height(channels):
    strip = _channel_bars(np.linspace(0, 1, channels) if channels > 1 else np.array([0.5]), 96)
    heights = (strip == BAR).all(2).sum(0)
    expected = np.linspace(0, 1, 96) * len(strip) if channels > 1 else np.full(96, len(strip) / 2)
    assert (np.diff(heights) >= -1).all()
    # The line in the middle covers one pixel of each bar; seven channels are seven steps.
    assert np.abs(heights - expected).max() <= (2 if channels != 7 else 8)
    assert _channel_bars(None, 96).shape == strip.shape


def test_sheets_hold_a_tile_for_everything():
    gates = {f"stage{n}.attention": (np.full(32, 0.4), np.full((16, 12), 0.5)) for n in range(4)}
    gates["last"] = (None, None)
    few, many = gate_sheet(GREY, gates), gate_sheet(GREY, {f"{n}{k}": g for n in range(20) for k, g in gates.items()})
    assert many.size > 10 * few.size
    assert 0.5 < many.shape[1] / many.shape[0] < 3
    assert gate_sheet(GREY, {}).shape[1] >= GREY.shape[1]
    maps = np.zeros((17, 32, 24), np.float32)
    maps[12, 10, 20] = 1
    crop = CropView(GREY, np.zeros((17, 2)), np.zeros(17), maps, np.full((17, 2), 50.0), np.full(17, 0.1))
    sheet = heatmap_sheet(crop, COCO, 0.2)
    red = (sheet[..., 0] > 150) & (sheet[..., 2] < 60)
    # Once among all maps, once alone.
    assert len(np.unique(np.flatnonzero(red.any(0)) // (192 + 6))) == 2
    assert not np.array_equal(sheet, heatmap_sheet(crop, COCO, 0.05))


@pytest.mark.parametrize("width", [40, 120, 400])
def test_words_stay_on_their_strip(width):
    for line in ("short", "a line that is far too long for a picture of this size " * 3, "Küche 右手", ""):
        text, scale = _fitted(line, width)
        assert _text_width(text, scale) <= width + 1
        assert text.isascii()
        strip = text_strip([line, line], width)
        assert strip.shape[1] == width
        assert (strip[:, -1] == 255).all()
    assert _fitted("short", 400)[0] == "short"
    assert captioned(GREY, ["one", "two"]).shape[0] > captioned(GREY, ["one"]).shape[0] > 128
