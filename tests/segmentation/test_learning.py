"""Networks learn a few pictures by heart: what is asked, shown and scored fit together, from the files to the mIoU."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from psa_pose.config import load_config
from psa_pose.segmentation.data.label_files import write_label
from psa_pose.tasks import build_task
from psa_pose.training.optimizer import build_schedule
from psa_pose.training.setup import build_state
from psa_pose.training.step import train_step
from tests.runs import json_lines, run_train

pytestmark = pytest.mark.slow

NAMES = ("2007_000001", "2007_000002", "2007_000003", "2007_000004")

# The published recipes start from ImageNet and last days; this one lasts some dozen steps, from nothing. Its rate falls
# to 0, and a batch is all there is: the statistics of the batch norms soon forget what they were, as testing needs.
MOMENTUM = 0.3
RECIPE = [
    *("DATASET.FORMAT", "voc", "DATASET.CLASSES", "voc", "DATASET.TRAIN_SPLIT", "train", "DATASET.TEST_SPLIT", "train"),
    *("MODEL.NUM_CLASSES", 21, "MODEL.PRETRAINED", "", "MODEL.BACKBONE_BN_MOMENTUM", MOMENTUM),
    *("MODEL.CHANNELS_LAST", True, "LOSS.CLASS_WEIGHTS", [1.0], "AUGMENT.SCALE_RANGE", [1.0, 1.0]),
    *("AUGMENT.SCALE_STEP", 0.0, "AUGMENT.FLIP_PROB", 0.0, "TRAIN.BATCH_SIZE", len(NAMES), "TRAIN.EMA", 0.0),
    *("TRAIN.SYNC_BATCHNORM", False, "TRAIN.OPTIMIZER.NAME", "adamw", "TRAIN.OPTIMIZER.LR", 1e-2),
    *("TRAIN.OPTIMIZER.WEIGHT_DECAY", 0.0, "TRAIN.OPTIMIZER.BACKBONE_LR", 1.0, "TRAIN.SCHEDULE.NAME", "poly"),
    *("TRAIN.SCHEDULE.POWER", 1.0, "TRAIN.SCHEDULE.MIN_LR", 0.0, "TRAIN.SCHEDULE.WARMUP_STEPS", 5),
    *("TEST.PROTOCOLS", ["full"], "LOADER.WORKERS", 0, "DEVICE", "cpu"),
]

# Config, what is smaller in it, (width, height) of the pictures, steps.
NETWORKS = {
    "synthetic": ("synthetic/segmentation", [], (500, 375), 60),
    "mobilenet": ("voc/deeplabv3plus_mobilenet", ["MODEL.HEAD_CHANNELS", 48], (160, 128), 80),
    "resnet50": ("voc/deeplabv3plus_r50", ["MODEL.WIDTH", 16, "MODEL.HEAD_CHANNELS", 48], (160, 128), 100),
    "hrnet_ocr": ("cityscapes/hrnet_w48_ocr", ["MODEL.WIDTH", 8, "MODEL.HEAD_CHANNELS", 32], (128, 96), 120),
}


def draw_voc(root, size):
    """Pictures of three large shapes on a ground, in VOC's folders. Colours say nothing of the class."""
    folder = root / "VOCdevkit/VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    classes = rng.permutation(np.arange(1, 9)).tolist() * 2
    width, height = size
    for name in NAMES:
        image, label = np.empty((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
        image[:] = rng.integers(0, 256, 3)
        for place in range(3):
            center = (int(width * (place + 0.5 + rng.uniform(-0.1, 0.1)) / 3), int(height * rng.uniform(0.35, 0.65)))
            axes = (int(width * rng.uniform(0.13, 0.18)), int(height * rng.uniform(0.2, 0.35)))
            color, value = rng.integers(0, 256, 3).tolist(), classes.pop()
            for canvas, paint in ((image, color), (label, value)):
                if place % 2:
                    cv2.rectangle(canvas, np.subtract(center, axes), np.add(center, axes), paint, -1)
                else:
                    cv2.ellipse(canvas, center, axes, 0, 0, 360, paint, -1)
        noisy = np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"JPEGImages/{name}.jpg"), noisy)
        write_label(folder / f"SegmentationClass/{name}.png", label)
    (folder / "ImageSets/Segmentation/train.txt").write_text("\n".join(NAMES))


def make_config(name, folder):
    config, words, size, steps = NETWORKS[name]
    draw_voc(folder / "voc", size)
    run = ["DATASET.ROOT", folder / "voc", "OUTPUT_DIR", folder / "run", "INPUT.SIZE", [*size]]
    run += ["INPUT.CROP_SIZE", [*size], "TRAIN.STEPS", steps, "TRAIN.EPOCHS", 210, "TRAIN.EVAL_EVERY", steps]
    return load_config(config, [str(word) for word in [*RECIPE, *run, *words]])


def learnt(task):
    """The mIoU after the steps of a run, all on one batch; a checkpoint after each would take longer."""
    torch.manual_seed(0)
    state, dataset = build_state(task, task.build_model()), task.train_set(print)
    batch = task.to_device(task.batch_maker()(dataset, [(0, row) for row in range(len(dataset))]), dataset)
    for norm in state.model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = MOMENTUM
    lr_at = build_schedule(task.cfg, task.cfg.TRAIN.OPTIMIZER.LR, 1)
    state.train_mode()
    for step in range(task.cfg.TRAIN.STEPS):
        train_step(task, state, batch, step, lr_at(step))
    (test_set,) = task.test_sets(print)
    return task.evaluate(state.model.eval(), test_set, lambda: None, print).stats["miou"]


def test_voc_sized_pictures_are_learnt_by_heart(tmp_path):
    """The whole way, with the network of the embedded example."""
    folder = run_train(make_config("synthetic", tmp_path))
    (figures,) = [line["test"]["full"] for line in json_lines(folder / "metrics.jsonl") if "test" in line]
    assert figures["miou"] > 0.95


@pytest.mark.parametrize("name", ["mobilenet", "resnet50", "hrnet_ocr"])
def test_small_pictures_are_learnt_by_heart(name, tmp_path):
    assert learnt(build_task(make_config(name, tmp_path))) > 0.95
