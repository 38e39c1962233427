"""Zips for the servers of VOC and Cityscapes: every image is there, at its size, in the server's values."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

import psa_pose
from psa_pose.config import dump_config
from psa_pose.errors import ConfigError, DataError
from psa_pose.segmentation.cityscapes_classes import EVALUATED
from psa_pose.segmentation.classes import VOC
from psa_pose.segmentation.data.build import find_pictures
from psa_pose.segmentation.data.label_files import write_label
from psa_pose.segmentation.evaluation.submission import build_server, check_submission, run_submission
from psa_pose.tasks import build_task
from tests.commands import run_here
from tests.segmentation.layouts import blobs, make_voc, write_image, write_list
from tests.segmentation.test_segmenter import save
from tests.segmentation.test_task import REPOSITORY

NAMES = ("2008_000006", "2008_000011", "2008_000012")


@pytest.fixture
def voc(scene_config, tmp_path):
    """A config whose split test has three pictures of two sizes, and no labels."""
    folder = make_voc(tmp_path / "voc")
    for number, name in enumerate(NAMES):
        write_image(folder / f"JPEGImages/{name}.jpg", blobs(np.random.default_rng(number), (60 + number % 2, 44))[0])
    write_list(folder / "ImageSets/Segmentation/test.txt", NAMES)
    return scene_config(
        *("DATASET.FORMAT", "voc", "DATASET.ROOT", tmp_path / "voc", "DATASET.CLASSES", "voc"),
        *("MODEL.NUM_CLASSES", 21, "DATASET.TEST_SPLIT", "test", "MODEL.ATTENTION.NAME", "none"),
    )


def read(path):
    """Member -> (pixels, the picture)."""
    with zipfile.ZipFile(path) as archive:
        pictures = {name: Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()}
    return {name: (np.asarray(picture), picture) for name, picture in pictures.items()}


def test_vocs_zip_holds_every_picture_with_the_palette(voc, tmp_path):
    checkpoint = save(voc, tmp_path / "c.pt")
    (tmp_path / "c.yaml").write_text(dump_config(voc))
    words = ["--cfg", tmp_path / "c.yaml", "--checkpoint", checkpoint, "--submission", "PSA-p"]
    done = run_here(REPOSITORY / "tools/test.py", *words)
    assert done.returncode == 0, done.stderr
    assert "3 images, checked" in done.stdout
    found = read(tmp_path / "run/submission/voc2012_test_PSA-p.zip")
    assert set(found) == {f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in NAMES}
    segmenter = psa_pose.Segmenter.from_checkpoint(checkpoint, "cpu")
    for name, (values, picture) in found.items():
        image = tmp_path / "voc/VOCdevkit/VOC2012/JPEGImages" / name.split("/")[-1].replace(".png", ".jpg")
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.array(picture.getpalette()).reshape(-1, 3)[:21], VOC.palette()[:21])
        assert values.max() < 21
        # A test stacks pictures of a size: a tie may fall otherwise.
        assert (segmenter(image) != values).mean() < 1e-3


def test_cityscapes_zip_holds_label_ids(scene_config, tmp_path):
    names = [f"berlin_000000_{frame:06d}" for frame in range(2)]
    for frame, name in enumerate(names):
        image, _ = blobs(np.random.default_rng(frame), (64, 32))
        write_image(tmp_path / f"city/leftImg8bit/test/berlin/{name}_leftImg8bit.png", image)
    cfg = scene_config(
        *("DATASET.FORMAT", "cityscapes", "DATASET.ROOT", tmp_path / "city", "DATASET.CLASSES", "cityscapes"),
        *("MODEL.NUM_CLASSES", 19, "DATASET.TEST_SPLIT", "test", "MODEL.ATTENTION.NAME", "none"),
    )
    checkpoint = save(cfg, tmp_path / "c.pt")
    found = read(run_submission(build_task(cfg), checkpoint, "a"))
    assert set(found) == {f"{name}.png" for name in names}
    ids = np.array([label.id for label in EVALUATED], np.uint8)
    segmenter = psa_pose.Segmenter.from_checkpoint(checkpoint, "cpu")
    for name, (values, _) in found.items():
        image = tmp_path / f"city/leftImg8bit/test/berlin/{name.removesuffix('.png')}_leftImg8bit.png"
        assert values.shape == (32, 64)
        assert (ids[segmenter(image)] != values).mean() < 1e-3


def test_a_missing_picture_is_named_before_any_is_predicted(voc, tmp_path):
    (tmp_path / "voc/VOCdevkit/VOC2012/JPEGImages" / f"{NAMES[1]}.jpg").unlink()
    task = build_task(voc.clone())
    task.cfg.defrost()
    task.cfg.DATASET.ON_ERROR = "skip"
    with pytest.raises(DataError, match=r"2008_000011.jpg is missing .* a submission needs every picture"):
        run_submission(task, save(voc, tmp_path / "c.pt"), "a")
    assert not list(tmp_path.rglob("*.zip"))
    assert not list((tmp_path / "run").rglob("*.png"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: path.unlink(), "lacks 2008_000011"),
        (lambda path: write_label(path, np.zeros((3, 3), np.uint8)), "is 3x3 pixels, its image 61x44"),
        (lambda path: write_label(path, np.full((44, 61), 255, np.uint8)), "has the value 255"),
    ],
)
def test_what_the_server_would_refuse_is_found(voc, tmp_path, change, says):
    server, pictures = build_server("voc"), find_pictures(voc, "TEST")
    for number, name in enumerate(NAMES):
        write_label(tmp_path / server.member(name), np.full((44, 60 + number % 2), number, np.uint8))
    assert len(check_submission(pictures, server, tmp_path)) == 3
    change(tmp_path / server.member(NAMES[1]))
    with pytest.raises(DataError, match=says):
        check_submission(pictures, server, tmp_path)


def test_what_is_no_submission_is_refused(voc, scene_config, tmp_path):
    with pytest.raises(ConfigError, match=r"not DATASET\.FORMAT 'synthetic'"):
        run_submission(build_task(scene_config()), tmp_path / "c.pt", "a")
    with pytest.raises(DataError, match="letters, digits and hyphens"):
        run_submission(build_task(voc), tmp_path / "c.pt", "a b")
    voc.defrost()
    voc.TEST.PROTOCOLS = ("crop",)
    with pytest.raises(ConfigError, match="leaves out the rim"):
        run_submission(build_task(voc), tmp_path / "c.pt", "a")
