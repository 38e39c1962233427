"""What the lines are measured on: the device, the networks, the data."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from yacs.config import CfgNode

from psa_pose.config import load_config
from psa_pose.files import write_json
from psa_pose.synthetic.dataset import annotation_path, generate

QUICKSTART = "synthetic/quickstart"
# The network's name in a line -> its config and the changes that make it the one.
NETWORKS = {
    "R50": ("coco/simple_baseline/simple_baseline_r50_256x192", ()),
    "W32": ("coco/hrnet/hrnet_w32_256x192", ()),
    "W48": ("coco/hrnet/hrnet_w48_384x288", ()),
}
# With PSA as the paper's rows have it; and the same without.
PSA_PAIRS = {
    "R50 384x288": "coco/simple_baseline/simple_baseline_r50_384x288_psa_p",
    "W48 384x288": "coco/hrnet/hrnet_w48_384x288_psa_p",
}
SMALL_NETWORKS = {"small": (QUICKSTART, ("MODEL.ATTENTION.NAME", "none"))}
SMALL_PSA_PAIRS = {"small": QUICKSTART}
# What makes a step fast on a GPU.
FASTEST = ("TRAIN.PRECISION", "bf16", "GPU.CUDA_GRAPHS", True)
# A network and crops for runs whose speed does not matter; so narrow a one is not trained in channels-last order where
# OMP_NUM_THREADS gives a CPU several threads.
TINY = (
    *("INPUT.SIZE", [64, 64], "CODEC.SIGMA", 0, "LOADER.WORKERS", 0),
    *("MODEL.WIDTH", 8, "MODEL.HEAD_CHANNELS", 16, "MODEL.CHANNELS_LAST", False),
)
# Of runs in several processes, which share it.
SHARED_BATCH = 16
# The long data set lists each picture so often, under numbers of its own: an epoch of real length.
TIMES = 40


@dataclass(frozen=True)
class Bench:
    """Where the check runs.

    device: of the lines of one process.
    gpus: how many torch sees.
    folder: of everything that is written.
    """

    device: torch.device
    gpus: int
    folder: Path

    @property
    def gpu(self) -> bool:
        """There is a GPU; else networks are small and lines of speed are few."""
        return self.device.type == "cuda"

    @property
    def networks(self) -> dict[str, tuple[str, tuple]]:
        """Name -> config and overrides of networks without attention."""
        return NETWORKS if self.gpu else SMALL_NETWORKS

    @property
    def psa_pairs(self) -> dict[str, str]:
        """Name -> config of a network with psa_p."""
        return PSA_PAIRS if self.gpu else SMALL_PSA_PAIRS

    @property
    def batch(self) -> int:
        """Persons of a step: what the published recipes give to each GPU."""
        return 32 if self.gpu else 16

    @property
    def rounds(self) -> int:
        """Of an alternation."""
        return 10 if self.gpu else 4

    @property
    def job_device(self) -> str:
        """Of runs in several processes: nccl wants a GPU for each."""
        return "cuda" if self.gpus > 1 else "cpu"

    @property
    def processes(self) -> int:
        """Of runs in several processes: a power of two, so that a batch of 16 can be shared out."""
        return 2 ** min(self.gpus.bit_length() - 1, 3) if self.gpus > 1 else 2

    @property
    def where(self) -> str:
        """What runs in several processes compute on, for notes."""
        return f"{self.processes} GPUs, nccl" if self.job_device == "cuda" else f"{self.processes} processes, CPU, gloo"

    def people(self) -> Path:
        """The drawn people that speed is measured on; where there is a GPU, pictures of the size of COCO's."""
        pictures, size = (160, (640, 480)) if self.gpu else (32, (320, 256))
        return _people(self.folder / f"people_{size[0]}x{size[1]}", pictures, size)

    def few_people(self) -> Path:
        """Small pictures of 64 persons, for runs in which a step has to be quick."""
        root = _people(self.folder / "few_people", 40, (192, 160))
        listed = annotation_path(root, "train2017")
        content = json.loads(listed.read_text())
        content["annotations"] = [a for a in content["annotations"] if a["num_keypoints"] and not a["iscrowd"]][:64]
        write_json(listed.with_name("sixty_four.json"), content)
        return root

    def config(self, name: str, *words: object) -> CfgNode:
        """A config by its name, on `people` and the check's device, with the changes; nothing is pretrained."""
        base = [
            *("DATASET.ROOT", self.people(), "DATASET.TRAIN_ANNOTATIONS", "annotations/long.json"),
            *("DATASET.TEST_DETECTIONS", "", "MODEL.PRETRAINED", "", "DEVICE", self.device.type),
            *("TRAIN.BATCH_SIZE", self.batch, "LOADER.WORKERS", self.workers),
        ]
        return load_config(name, [str(word) for word in (*base, *words)])

    @property
    def workers(self) -> int:
        """Of a process: its share of the cores, at most 16."""
        return min(16, max(1, len(os.sched_getaffinity(0)) // max(self.gpus, 1)))

    def tiny_config(self, *words: object) -> CfgNode:
        """A very small network on `few_people`, without randomness but for the seed; device as of several processes."""
        base = [
            *("DATASET.ROOT", self.few_people(), "DATASET.TRAIN_ANNOTATIONS", "annotations/sixty_four.json"),
            *("DATASET.TEST_DETECTIONS", "", "DEVICE", self.job_device, *TINY, "MODEL.ATTENTION.NAME", "none"),
            *("TRAIN.EVAL_EVERY", 100, "TRAIN.LOG_EVERY", 2, "TRAIN.SCHEDULE.WARMUP_STEPS", 0),
            *("TRAIN.OPTIMIZER.LR", 1e-3, "TRAIN.SCHEDULE.MILESTONES", [100], "TEST.FLIP", False),
        ]
        return load_config(QUICKSTART, [str(word) for word in (*base, *words)])


def _people(root: Path, pictures: int, size: tuple[int, int]) -> Path:
    """The data set, made if it is not there, and its long list."""
    cores = len(os.sched_getaffinity(0))
    generate(root, {"train2017": pictures, "val2017": 32}, 1, size, workers=min(cores, 16), progress=False)
    listed, long = annotation_path(root, "train2017"), root / "annotations/long.json"
    if not long.exists() or long.stat().st_mtime < listed.stat().st_mtime:
        write_json(long, repeated(json.loads(listed.read_text()), TIMES))
    return root


def repeated(content: dict, times: int) -> dict:
    """An annotation file's content, times over, with new ids for pictures and persons."""
    pictures, persons = content["images"], content["annotations"]
    step = 1 + max(entry["id"] for entry in (*pictures, *persons))
    turns = [number * step for number in range(times)]
    images = [{**picture, "id": picture["id"] + turn} for turn in turns for picture in pictures]
    annotations = [
        {**person, "id": person["id"] + turn, "image_id": person["image_id"] + turn}
        for turn in turns
        for person in persons
    ]
    return {**content, "images": images, "annotations": annotations}
