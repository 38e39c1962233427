"""SBD's own .mat files -> SegmentationClassAug and train_aug.txt of Pascal VOC 2012 (Hariharan et al., ICCV 2011)."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from psa_pose.errors import DataError
from psa_pose.files import atomic_write
from psa_pose.segmentation.classes import VOC
from psa_pose.segmentation.data.label_files import index_table, read_label, write_label
from psa_pose.segmentation.data.pictures import refuse_shared
from psa_pose.segmentation.data.voc import list_path, read_ids, voc_root


def build_voc_aug(voc: Path, sbd: Path) -> tuple[int, int]:
    """How many labels are VOC's and how many SBD's, after they were written: 1,464 and 9,118 of the whole data sets.

    voc: gets SegmentationClassAug/ID.png and ImageSets/Segmentation/train_aug.txt, which is VOC's train joined with
    SBD's train and val, without VOC's val. VOC's own label is taken where there is one; SBD's have no void border. The
    list is written last, so that an interrupted run leaves none. Raises DataError for a file that is missing or wrong.
    """
    folder, classes = voc_root(voc), sbd_root(sbd)
    val, own = (read_ids(list_path(folder, split)) for split in ("val", "train"))
    refuse_shared(own, val, list_path(folder, "train"), list_path(folder, "val"))
    more = {name for split in ("train", "val") for name in read_ids(classes.parent / f"{split}.txt")}
    added = sorted(more.difference(val, own))
    target = folder / "SegmentationClassAug"
    palette = VOC.palette()
    for name in own:
        labels = read_label(folder / "SegmentationClass" / f"{name}.png", index_table(len(VOC)))
        write_label(target / f"{name}.png", labels, palette)
    for name in added:
        write_label(target / f"{name}.png", read_sbd_label(classes / f"{name}.mat"), palette)
    names = sorted({*own, *added})
    listing = folder / "ImageSets/Segmentation/train_aug.txt"
    atomic_write(listing, lambda file: file.write("".join(f"{name}\n" for name in names).encode()))
    return len(own), len(added)


def sbd_root(root: Path) -> Path:
    """The folder of SBD's class files: dataset/cls below root, benchmark_RELEASE or benchmark."""
    for folder in (root / "cls", root / "dataset/cls", root / "benchmark_RELEASE/dataset/cls"):
        if folder.is_dir():
            return folder
    raise DataError(f"{root} holds no dataset/cls; unpack SBD's benchmark.tgz there, or correct the path")


def read_sbd_label(path: Path) -> np.ndarray:
    """The label map of one of SBD's cls/ID.mat, (H, W) uint8 of VOC's 21 classes.

    Raises DataError for a file that is missing, no MATLAB file, or of other values.
    """
    try:
        content = loadmat(path, mat_dtype=False, squeeze_me=True, struct_as_record=False)
        labels = np.asarray(content["GTcls"].Segmentation)
    except OSError as error:
        raise DataError(f"label {path} cannot be read: {error.strerror or error}; unpack SBD again") from None
    except (MatReadError, zlib.error, struct.error, LookupError, AttributeError, ValueError, TypeError, RuntimeError):
        raise DataError(f"label {path} is not one of SBD's cls files (GTcls.Segmentation); unpack SBD again") from None
    whole = labels.ndim == 2 and labels.dtype.kind in "ui" and labels.size > 0
    if not whole or not 0 <= labels.min() <= labels.max() < len(VOC):
        raise DataError(f"label {path} is not a map of VOC's {len(VOC)} classes; unpack SBD again")
    return labels.astype(np.uint8)
