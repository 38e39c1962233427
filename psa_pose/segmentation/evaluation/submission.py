"""What the test servers of Pascal VOC and Cityscapes ask for: index PNGs of a whole split, checked, then zipped.

VOC's server (comp6: any training data) takes results/VOC2012/Segmentation/comp6_test_cls/ID.png, class indices 0 to 20
with VOC's palette. Cityscapes' takes one PNG per image, named by city, sequence and frame, whose pixels are label ids.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.device import backends
from psa_pose.errors import ConfigError, DataError
from psa_pose.evaluation.submission import check_algorithm
from psa_pose.evaluation.test import load_model
from psa_pose.files import atomic_write
from psa_pose.run_log import RunLog
from psa_pose.segmentation.cityscapes_classes import CITYSCAPES, label_ids
from psa_pose.segmentation.classes import VOC, ClassList
from psa_pose.segmentation.data.build import SegmentationTestSet, build_test_sets, find_pictures
from psa_pose.segmentation.data.label_files import read_indices, write_label
from psa_pose.segmentation.data.pictures import Pictures, missing_files
from psa_pose.segmentation.evaluation.evaluate import batches, by_size
from psa_pose.segmentation.inference.labeller import Labeller, build_labeller


@dataclass(frozen=True)
class Server:
    """What a test server takes.

    name: starts the zip's name. folder: of the PNGs in it. classes: that the network must have. values (256,) uint8:
    our class -> pixel. palette (256, 3) uint8 RGB of the PNGs, or None.
    """

    name: str
    folder: str
    classes: ClassList
    values: np.ndarray
    palette: np.ndarray | None

    def member(self, picture: str) -> str:
        """The path of a picture's PNG in the zip."""
        return f"{self.folder}{picture}.png"


def build_server(form: str) -> Server:
    """Of a DATASET.FORMAT. Raises ConfigError where it has none."""
    if form == "voc":
        folder = "results/VOC2012/Segmentation/comp6_test_cls/"
        return Server("voc2012", folder, VOC, np.arange(256, dtype=np.uint8), VOC.palette())
    if form.startswith("cityscapes"):
        return Server("cityscapes", "", CITYSCAPES, label_ids(), None)
    raise ConfigError(
        f"--submission is for the servers of VOC and Cityscapes, not DATASET.FORMAT {form!r}; leave it out"
    )


def run_submission(task: Any, checkpoint: Path, algorithm: str) -> Path:
    """The zip of what a checkpoint predicts on the test split, under the first of TEST.PROTOCOLS.

    task: `psa_pose.tasks.segmentation.SegmentationTask`. Every picture is predicted: one that is missing or broken is
    an error, whatever DATASET.ON_ERROR says.
    """
    check_algorithm(algorithm)
    cfg, protocol = task.cfg, task.cfg.TEST.PROTOCOLS[0]
    server, folder = build_server(cfg.DATASET.FORMAT), Path(cfg.OUTPUT_DIR) / "submission"
    if protocol == "crop":
        raise ConfigError(
            "protocol crop leaves out the rim of a picture; write TEST.PROTOCOLS ['full'] for a submission"
        )
    if task.classes.names != server.classes.names:
        raise ConfigError(
            f"the server of {server.name} has classes of its own; write DATASET.CLASSES as its configs do"
        )
    with distributed.process_group(task.device), RunLog(folder) as log, backends(cfg, task.device, False):
        pictures = find_pictures(cfg, "TEST")
        _, missing = missing_files(pictures)
        if missing:
            raise DataError(f"{missing[0]}; a submission needs every picture")
        (test_set,) = build_test_sets(cfg, log.info, (protocol,))
        label = build_labeller(cfg, load_model(task, checkpoint, log.info), protocol, task.device)
        log.info(f"predicting {len(test_set.dataset):,} images of {test_set.split}, protocol {protocol}")
        _predict(cfg, test_set, label, server, folder)
        path = folder / f"{server.name}_{test_set.split}_{algorithm}.zip"
        distributed.barrier()
        if distributed.is_main():
            members = check_submission(pictures, server, folder)
            atomic_write(path, lambda file: _write_zip(file, members))
            log.info(f"{len(members):,} images, checked: {path}")
    return path


def _predict(cfg: CfgNode, test_set: SegmentationTestSet, label: Labeller, server: Server, folder: Path) -> None:
    """Write the PNGs of this process's share of the pictures."""
    names = test_set.dataset.pictures.names
    for pictures in batches(cfg, test_set):
        problems = [picture.problem for picture in pictures if picture.problem]
        if problems:
            raise DataError(f"{problems[0]}; a submission needs every picture")
        for group in by_size(pictures):
            found = label(torch.stack([picture.image for picture in group])).cpu().numpy()
            for picture, prediction in zip(group, found, strict=True):
                write_label(folder / server.member(names[picture.row]), server.values[prediction], server.palette)


def check_submission(pictures: Pictures, server: Server, folder: Path) -> dict[str, Path]:
    """Path in the zip -> file, of every picture of the split. Raises DataError for what the server would refuse."""
    allowed = set(server.values[: len(server.classes)].tolist())
    members = {}
    for name, image in zip(pictures.names, pictures.images, strict=True):
        path = folder / server.member(name)
        if not path.is_file():
            raise DataError(
                f"the submission lacks {name}, which {pictures.source} lists; mend the image and test again"
            )
        values = read_indices(path)
        with Image.open(image) as opened:
            size = opened.size
        if values.shape != size[::-1]:
            raise DataError(
                f"{path} is {values.shape[1]}x{values.shape[0]} pixels, its image {size[0]}x{size[1]}; test again"
            )
        wrong = set(np.unique(values).tolist()) - allowed
        if wrong:
            raise DataError(f"{path} has the value {min(wrong)}, which is no class of the server; test again")
        members[server.member(name)] = path
    return members


def _write_zip(file: BinaryIO, members: Mapping[str, Path]) -> None:
    """The same files give the same bytes."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, path in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), path.read_bytes(), zipfile.ZIP_STORED)
