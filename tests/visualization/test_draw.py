import cv2
import numpy as np
import pytest

from psa_pose.errors import DataError
from psa_pose.skeleton import COCO
from psa_pose.visualization.draw import LEFT, RIGHT, draw_skeleton, grid, overlay_heatmap, write_picture
from psa_pose.visualization.sheets import CropView, enlarge, prediction_sheet, target_sheet

BLACK = np.zeros((120, 100, 3), np.uint8)


def person() -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.uniform(10, 90, (17, 2))


def test_joints_are_drawn_where_they_are_in_the_colour_of_their_side():
    joints = person()
    for name, colour in (("left_wrist", LEFT), ("right_knee", RIGHT)):
        joint = COCO.names.index(name)
        shown = np.zeros(17, bool)
        shown[joint] = True
        picture = draw_skeleton(BLACK, joints, shown, COCO)
        ys, xs = np.nonzero(picture.any(2))
        assert np.hypot(xs.mean() - joints[joint, 0], ys.mean() - joints[joint, 1]) < 1
        x, y = joints[joint].round().astype(int)
        assert np.abs(picture[y, x].astype(int) - colour).max() < 40
    assert not BLACK.any()


def test_hidden_far_and_undefined_joints_do_no_harm():
    assert not draw_skeleton(BLACK, person(), np.zeros(17), COCO).any()
    wild = person()
    wild[0], wild[1], wild[2] = np.nan, np.inf, 1e12
    assert draw_skeleton(BLACK, wild, np.ones(17), COCO).shape == BLACK.shape


def test_a_heatmap_glows_where_its_maximum_is():
    maps = np.zeros((2, 30, 25), np.float32)
    maps[1, 10, 20] = 1
    picture = overlay_heatmap(BLACK + 100, maps)
    y, x = np.unravel_index((picture[..., 0].astype(int) - picture[..., 2]).argmax(), picture.shape[:2])
    assert (abs(y - 41), abs(x - 81)) <= (3, 3)


def test_an_enlarged_crop_keeps_its_joints_on_the_picture():
    image = BLACK.copy()
    image[40, 30] = 255
    crop = enlarge(CropView(image, np.array([[30.0, 40.0]]), np.ones(1), np.zeros((1, 30, 25))))
    ys, xs = np.nonzero(crop.image[..., 0] > 128)
    assert (xs.mean(), ys.mean()) == pytest.approx(tuple(crop.truth[0]), abs=0.1)


def test_sheets_hold_every_picture(tmp_path):
    assert grid([BLACK] * 5, 3).shape == (2 * 120 + 4, 3 * 100 + 8, 3)
    crop = CropView(BLACK, person(), np.ones(17), np.zeros((17, 30, 25), np.float32), person(), np.ones(17))
    assert target_sheet([crop] * 5, COCO).shape[0] == 2 * 360 + 4
    sheet = prediction_sheet([crop] * 4, COCO, 0.2)
    assert sheet.shape == (360, 12 * 304 - 4, 3)
    write_picture(tmp_path / "new" / "a.png", sheet)
    assert np.array_equal(cv2.imread(str(tmp_path / "new" / "a.png"))[..., ::-1], sheet)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"folder\.png"):
        write_picture(tmp_path / "folder.png", sheet)
