import shutil
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from psa_pose.errors import DataError
from psa_pose.segmentation.cityscapes_classes import LABELS
from psa_pose.segmentation.classes import VOC
from psa_pose.segmentation.data.cityscapes import cityscapes_list, cityscapes_pictures, instance_path
from psa_pose.segmentation.data.label_files import (
    UNKNOWN,
    cityscapes_table,
    index_table,
    read_indices,
    read_label,
    write_label,
)
from psa_pose.segmentation.data.pictures import check_disjoint, folder_pictures, missing_files
from psa_pose.segmentation.data.sbd import build_voc_aug, read_sbd_label
from psa_pose.segmentation.data.voc import voc_pictures
from tests.commands import run_here
from tests.segmentation.layouts import blobs, make_cityscapes, make_voc, write_image, write_list

LABEL = np.array([[0, 1, 2, 255], [2, 2, 0, 1]], np.uint8)


@pytest.mark.parametrize("palette", [None, VOC.palette()])
def test_a_label_reads_back_as_written(tmp_path, palette):
    path = tmp_path / "deep/label.png"
    write_label(path, LABEL, palette)
    np.testing.assert_array_equal(read_label(path, index_table(3), (4, 2)), LABEL)
    with Image.open(path) as picture:
        shown = np.asarray(picture.convert("RGB"))
    grey = np.repeat(LABEL[..., None], 3, axis=2)
    np.testing.assert_array_equal(shown, grey if palette is None else palette[LABEL])
    assert [entry.name for entry in path.parent.iterdir()] == ["label.png"]


@pytest.mark.parametrize(
    "table", [index_table(3), index_table(254), cityscapes_table()], ids=["3", "254", "cityscapes"]
)
def test_each_value_alone_is_what_the_table_says_or_refused(tmp_path, table):
    for value in range(256):
        write_label(tmp_path / "a.png", np.full((2, 3), value, np.uint8))
        if table[value] == UNKNOWN:
            with pytest.raises(DataError, match=rf"has the values {value}, which"):
                read_label(tmp_path / "a.png", table)
        else:
            labels = read_label(tmp_path / "a.png", table)
            assert (labels == table[value]).all()
            assert labels.flags.writeable


def test_cityscapes_ids_become_train_ids(tmp_path):
    ids = np.arange(34, dtype=np.uint8)[None]
    write_label(tmp_path / "a.png", ids)
    got = read_label(tmp_path / "a.png", cityscapes_table())
    np.testing.assert_array_equal(got[0], [label.train_id for label in LABELS])


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """A PNG with one row of grey pixels of 1, 2 or 4 bits, as programs that save space write it."""
    packed = np.packbits(np.unpackbits(values[:, None], axis=1)[:, 8 - bits :]).tobytes()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", len(values), 1, bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" + packed)),
        (b"IEND", b""),
    )
    parts = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_indices_in_few_bits_are_not_stretched_to_255(tmp_path, bits):
    values = np.random.default_rng(0).integers(0, 2**bits, 16).astype(np.uint8)
    (tmp_path / "grey.png").write_bytes(grey_png(values, bits))
    np.testing.assert_array_equal(read_label(tmp_path / "grey.png", index_table(21))[0], values)
    picture = Image.fromarray(values[None])
    picture.putpalette(VOC.palette()[: 2**bits].tobytes())
    picture.save(tmp_path / "palette.png", bits=bits)
    np.testing.assert_array_equal(read_label(tmp_path / "palette.png", index_table(21))[0], values)


def broken(path, kind) -> None:
    if kind == "colour":
        Image.fromarray(VOC.palette()[LABEL]).save(path)
    elif kind == "alpha":
        Image.fromarray(VOC.palette()[LABEL]).convert("RGBA").save(path)
    elif kind == "16 bits":
        assert cv2.imwrite(str(path), LABEL.astype(np.uint16))
    elif kind == "values":
        write_label(path, LABEL + np.uint8(5) * (LABEL == 2))
    elif kind == "size":
        write_label(path, LABEL[:, :2])
    elif kind == "truncated":
        write_label(path, LABEL)
        path.write_bytes(path.read_bytes()[:-20])
    elif kind == "text":
        path.write_text("no picture")
    elif kind == "bomb":
        write_label(path, LABEL)
        data = bytearray(path.read_bytes())
        data[16:24] = (30000).to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        path.write_bytes(data)
    elif kind == "empty":
        path.touch()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "cannot be read"),
        ("colour", "colour picture"),
        ("alpha", "colour picture"),
        ("16 bits", "8-bit"),
        ("values", "the values 7, which are neither one of the 3 known"),
        ("size", "2x2 pixels, its image 4x2"),
        ("truncated", "truncated"),
        ("text", "not a picture"),
        ("empty", "not a picture"),
        ("bomb", "not a picture"),
    ],
)
def test_an_unfit_label_is_named_with_its_reason(tmp_path, kind, reason):
    path = tmp_path / "label.png"
    broken(path, kind)
    with pytest.raises(DataError, match=reason) as caught:
        read_label(path, index_table(3), (4, 2))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_voc_splits_in_their_usual_folders(tmp_path):
    folder = make_voc(tmp_path)
    for root in (tmp_path, tmp_path / "VOCdevkit", folder):
        pictures = voc_pictures(root, "train")
        assert pictures.names == ("2007_000001", "2007_000002")
        assert pictures.images[0] == folder / "JPEGImages/2007_000001.jpg"
        assert pictures.labels[0] == folder / "SegmentationClass/2007_000001.png"
        assert missing_files(pictures)[0].all()
    write_list(folder / "ImageSets/Segmentation/test.txt", ["2008_000003"])
    assert voc_pictures(folder, "test").labels == ()


def test_missing_files_are_named_and_can_be_left_out(tmp_path):
    folder = make_voc(tmp_path)
    (folder / "SegmentationClass/2007_000002.png").unlink()
    pictures = voc_pictures(folder, "train")
    there, problems = missing_files(pictures)
    assert there.tolist() == [True, False]
    assert len(problems) == 1
    assert "label" in problems[0]
    assert "2007_000002.png is missing" in problems[0]
    assert pictures.select(there).names == ("2007_000001",)
    with pytest.raises(DataError, match="lists no image"):
        pictures.select(np.zeros(2, bool))


def make_sbd(root, names, seed=3):
    """SBD's folder with .mat files of its own form; train holds the first, val the others."""
    (root / "dataset/cls").mkdir(parents=True)
    labels = {}
    for number, name in enumerate(names):
        labels[name] = blobs(np.random.default_rng(seed + number))[1]
        labels[name][labels[name] == 255] = 0
        content = {"GTcls": {"Segmentation": labels[name], "Boundaries": np.zeros(2), "CategoriesPresent": [1]}}
        savemat(root / f"dataset/cls/{name}.mat", content)
    write_list(root / "dataset/train.txt", names[:1])
    write_list(root / "dataset/val.txt", names[1:])
    return labels


def test_aug_labels_from_sbd_leave_out_val_and_keep_vocs_own(tmp_path):
    folder = make_voc(tmp_path / "voc")
    labels = make_sbd(tmp_path / "sbd", ["2007_000001", "2008_000003", "2009_000004", "2009_000005"])
    with pytest.raises(DataError, match="cannot be read"):
        voc_pictures(folder, "train_aug")
    result = run_here("tools/voc_aug.py", "--voc", str(tmp_path / "voc"), "--sbd", str(tmp_path / "sbd"))
    assert result.returncode == 0, result.stderr
    assert "2 labels of VOC and 2 of SBD" in result.stdout
    pictures = voc_pictures(folder, "train_aug")
    assert pictures.names == ("2007_000001", "2007_000002", "2009_000004", "2009_000005")
    np.testing.assert_array_equal(read_label(pictures.labels[2], index_table(21)), labels["2009_000004"])
    own = folder / "SegmentationClass/2007_000001.png"
    np.testing.assert_array_equal(read_indices(pictures.labels[0]), read_indices(own))
    check_disjoint(pictures, voc_pictures(folder, "val"))


def test_an_aug_list_with_an_image_of_val_is_refused(tmp_path):
    folder = make_voc(tmp_path)
    shutil.copytree(folder / "SegmentationClass", folder / "SegmentationClassAug")
    write_list(folder / "train_aug.txt", ["/JPEGImages/2007_000001.jpg /SegmentationClassAug/2007_000001.png"])
    assert voc_pictures(folder, "trainaug").names == ("2007_000001",)
    write_list(folder / "train_aug.txt", ["2007_000001", "2008_000003"])
    with pytest.raises(DataError, match="2008_000003") as caught:
        voc_pictures(folder, "train_aug")
    assert "train_aug.txt" in str(caught.value)
    write_list(
        folder / "ImageSets/Segmentation/val.txt", ["/JPEGImages/2008_000003.jpg /SegmentationClass/2008_000003.png"]
    )
    with pytest.raises(DataError, match="2008_000003"):
        voc_pictures(folder, "train_aug")
    with pytest.raises(DataError, match="2007_000001 and 1 more"):
        check_disjoint(voc_pictures(folder, "train"), voc_pictures(folder, "train"))


def test_a_vocs_list_in_train_and_val_stops_the_aug_labels(tmp_path):
    folder = make_voc(tmp_path, val=("2007_000001",))
    make_sbd(tmp_path / "sbd", ["2009_000004", "2009_000005"])
    with pytest.raises(DataError, match="2007_000001"):
        build_voc_aug(folder, tmp_path / "sbd")
    assert not (folder / "ImageSets/Segmentation/train_aug.txt").exists()
    assert not (folder / "SegmentationClassAug").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"other": 1},
        {"GTcls": 3},
        {"GTcls": {"Segmentation": np.full((2, 2), 40)}},
        {"GTcls": {"Segmentation": np.full((2, 2), -1)}},
        None,
    ],
)
def test_files_that_are_not_sbds_are_named(tmp_path, content):
    path = tmp_path / "a.mat"
    if content is None:
        path.write_text("no MATLAB file")
    else:
        savemat(path, content)
    with pytest.raises(DataError, match="SBD") as caught:
        read_sbd_label(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("nvidia", [False, True])
def test_cityscapes_in_both_folder_conventions(tmp_path, nvidia):
    make_cityscapes(tmp_path, nvidia)
    train = cityscapes_pictures(tmp_path, "train")
    assert train.names[:2] == ("aachen_000000_000000", "aachen_000000_000001")
    assert len(train) == 4
    assert len(cityscapes_pictures(tmp_path, "trainval")) == 6
    for split in ("train", "val", "trainval"):
        assert missing_files(cityscapes_pictures(tmp_path, split))[0].all()
    labels = read_label(train.labels[0], cityscapes_table(), (64, 32))
    assert labels.max() == 255
    instances = cv2.imread(str(instance_path(train.labels[0])), cv2.IMREAD_UNCHANGED)
    assert instances.dtype == np.uint16
    with pytest.raises(DataError, match="test does not exist"):
        cityscapes_pictures(tmp_path, "test")
    with pytest.raises(DataError, match="no gtFine 'vale'"):
        cityscapes_pictures(tmp_path, "vale")


def test_lists_of_hrnets_form(tmp_path):
    make_cityscapes(tmp_path)
    walked = cityscapes_pictures(tmp_path, "val")
    pairs = [
        f"{image.relative_to(tmp_path)}\t{label.relative_to(tmp_path)}"
        for image, label in zip(walked.images, walked.labels, strict=True)
    ]
    write_list(tmp_path / "val.lst", pairs)
    listed = cityscapes_list(tmp_path, tmp_path / "val.lst")
    assert (listed.names, listed.images, listed.labels) == (walked.names, walked.images, walked.labels)
    write_list(tmp_path / "test.lst", [pair.split()[0] for pair in pairs])
    assert cityscapes_list(tmp_path, tmp_path / "test.lst").labels == ()
    write_list(tmp_path / "odd.lst", [pairs[0], pairs[1].split()[0]])
    with pytest.raises(DataError, match="line 2"):
        cityscapes_list(tmp_path, tmp_path / "odd.lst")


@pytest.mark.parametrize(("text", "reason"), [("", "is empty"), ("\n \n", "is empty"), (None, "cannot be read")])
def test_an_empty_or_missing_list_is_named(tmp_path, text, reason):
    path = tmp_path / "a.lst"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=reason) as caught:
        cityscapes_list(tmp_path, path)
    assert str(path) in str(caught.value)


def test_a_name_listed_twice_is_refused(tmp_path):
    folder = make_voc(tmp_path)
    write_list(folder / "ImageSets/Segmentation/val.txt", ["2008_000003", "2008_000003"])
    with pytest.raises(DataError, match="more than once"):
        voc_pictures(folder, "val")


def test_folders_of_ones_own_pair_images_and_labels_by_name(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("b.jpg", "a.PNG", "deep/v1.2.png", "notes.txt"):
        if name.endswith("txt"):
            (tmp_path / "images" / name).write_text("x")
            continue
        image, label = blobs(rng)
        write_image(tmp_path / "images" / name, image)
        write_label((tmp_path / "labels" / name).with_suffix(".png"), label)
    pictures = folder_pictures(tmp_path / "images", tmp_path / "labels")
    assert pictures.names == ("a", "b", "deep/v1.2")
    assert missing_files(pictures)[0].all()
    assert folder_pictures(tmp_path / "images", None).labels == ()
    with pytest.raises(DataError, match="does not exist"):
        folder_pictures(tmp_path / "nothing", None)
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="lists no image"):
        folder_pictures(tmp_path / "bare", None)
