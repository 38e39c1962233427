"""What no single key can say: contradictions between fields, found before any data is read."""

from __future__ import annotations

import math
from typing import Any

from yacs.config import CfgNode

from psa_pose.config.check_segmentation import check_segmentation
from psa_pose.config.choices import CHOICES, NETWORKS, POSE_FORMATS
from psa_pose.config.defaults import default_config
from psa_pose.errors import ConfigError, closest

# Key, least and greatest value.
_RANGES = {
    "SEED": (0, 2**32 - 1),
    "INPUT.PADDING": (0.5, 10),
    "MODEL.HEAD_CHANNELS": (1, 4096),
    "MODEL.WIDTH": (0, 1024),
    "MODEL.STACKS": (1, 64),
    "MODEL.NUM_JOINTS": (0, 10_000),
    "MODEL.NUM_CLASSES": (1, 254),
    "MODEL.BACKBONE_BN_MOMENTUM": (0, 1),
    "CODEC.SIGMA": (0, 100),
    "CODEC.BLUR": (0, 101),
    "TRAIN.BATCH_SIZE": (1, 100_000),
    "TRAIN.EPOCHS": (1, 1_000_000),
    "TRAIN.STEPS": (0, 1_000_000_000),
    "TRAIN.EVAL_EVERY": (1, 1_000_000),
    "TRAIN.PATIENCE": (0, 1_000_000),
    "TRAIN.LOG_EVERY": (1, 1_000_000),
    "TRAIN.SAVE_EVERY": (0, 1_000_000),
    "TRAIN.KEEP_EPOCHS": (0, 1_000_000),
    "TRAIN.ACCUMULATE": (1, 100_000),
    "TRAIN.CLIP_GRAD_NORM": (0, 1e9),
    "TRAIN.EMA": (0, 0.999999),
    "TRAIN.OHKM_TOPK": (0, 10_000),
    "TRAIN.OPTIMIZER.LR": (0, 1e3),
    "TRAIN.OPTIMIZER.SCALE_LR_FROM": (0, 1_000_000),
    "TRAIN.OPTIMIZER.WEIGHT_DECAY": (0, 1e3),
    "TRAIN.OPTIMIZER.MOMENTUM": (0, 1),
    "TRAIN.SCHEDULE.GAMMA": (0, 1),
    "TRAIN.SCHEDULE.POWER": (0, 10),
    "TRAIN.OPTIMIZER.BACKBONE_LR": (0, 1e3),
    "TRAIN.SCHEDULE.MIN_LR": (0, 1e3),
    "TRAIN.SCHEDULE.WARMUP_STEPS": (0, 1_000_000_000),
    "AUGMENT.SCALE": (0, 0.95),
    "AUGMENT.ROTATION": (0, 180),
    "AUGMENT.ROTATION_PROB": (0, 1),
    "AUGMENT.FLIP_PROB": (0, 1),
    "AUGMENT.HALF_BODY_PROB": (0, 1),
    "AUGMENT.HALF_BODY_JOINTS": (0, 10_000),
    "AUGMENT.SCALE_STEP": (0, 10),
    "AUGMENT.COLOR": (0, 0.95),
    "AUGMENT.SHIFT": (0, 1),
    "AUGMENT.BLUR_PROB": (0, 1),
    "AUGMENT.JPEG_PROB": (0, 1),
    "AUGMENT.DROPOUT_PROB": (0, 1),
    "AUGMENT.CLASS_UNIFORM_PROB": (0, 1),
    "AUGMENT.CLASS_UNIFORM_TILE": (16, 100_000),
    "LOSS.OHEM_THRESHOLD": (0, 1),
    "LOSS.OHEM_KEPT": (1, 1_000_000_000),
    "LOSS.FOCAL_GAMMA": (0, 100),
    "LOSS.RMI_BCE": (0, 1),
    "TEST.BATCH_SIZE": (1, 100_000),
    "TEST.BOX_SCORE": (0, 1),
    "TEST.KEYPOINT_SCORE": (0, 1),
    "TEST.OKS_NMS": (0, 1),
    "TEST.CROP_SIZE": (16, 4096),
    "TEST.BASE_SIZE": (0, 100_000),
    "TEST.PAD_TO": (1, 4096),
    "LOADER.WORKERS": (0, 1024),
}


def check_config(config: CfgNode) -> None:
    """Raise ConfigError for the first value out of range or pair of keys that contradict each other."""
    for key, choices in CHOICES.items():
        if _get(config, key) not in choices:
            raise ConfigError(f"{key} is {_get(config, key)!r}; {closest(_get(config, key), choices)}")
    for key, (low, high) in _RANGES.items():
        value = _get(config, key)
        if value == "auto":
            continue
        if not (math.isfinite(value) and low <= value <= high):
            raise ConfigError(f"{key} is {value}; it must lie between {low} and {high}")
    _check_size(config)
    _check_schedule(config)
    _check_attention(config)
    if config.TASK == "segmentation":
        check_segmentation(config)
    else:
        _check_pose(config)


def _check_pose(config: CfgNode) -> None:
    for key, value, own in (
        ("MODEL.NAME", config.MODEL.NAME, NETWORKS),
        ("DATASET.FORMAT", config.DATASET.FORMAT, POSE_FORMATS),
        ("MODEL.ATTENTION.WHERE", config.MODEL.ATTENTION.WHERE, ("all", "basic")),
    ):
        if value not in own:
            raise ConfigError(f"{key} is {value!r} but TASK is 'pose'; {closest(value, own)}")
    _check_sizes(config)
    _check_pretrained(config)
    _check_codec(config)
    _check_format(config)
    _check_pixels(config)
    if config.TEST.BOXES == "detector" and not config.DATASET.TEST_DETECTIONS:
        raise ConfigError("TEST.BOXES is 'detector' but DATASET.TEST_DETECTIONS is empty; give it the detection file")


def _get(config: CfgNode, key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node[part]
    return node


def _check_size(config: CfgNode) -> None:
    size = config.INPUT.SIZE
    if len(size) != 2 or min(size) < 1 or max(size) > 4096:
        raise ConfigError(f"INPUT.SIZE is {list(size)}; give [width, height] in pixels, from 1 to 4096")
    for key in ("MEAN", "STD"):
        if len(config.INPUT[key]) != 3 or not all(map(math.isfinite, config.INPUT[key])):
            raise ConfigError(
                f"INPUT.{key} is {list(config.INPUT[key])}; give one number for each of the three channels"
            )
    if min(config.INPUT.STD) <= 0:
        raise ConfigError(f"INPUT.STD is {list(config.INPUT.STD)}; a standard deviation is above 0")


def _check_sizes(config: CfgNode) -> None:
    size = config.INPUT.SIZE
    width, height = size
    if width % 32 or height % 32:
        raise ConfigError(f"INPUT.SIZE is {[width, height]}; the networks halve it five times: use multiples of 32")
    if config.MODEL.NAME == "hourglass" and (width % 64 or height % 64):
        raise ConfigError(f"INPUT.SIZE is {[width, height]}; 'hourglass' halves it six times: use multiples of 64")
    if config.INPUT.HEATMAP_SIZE not in ((0, 0), quarter(size)):
        raise ConfigError(
            f"INPUT.HEATMAP_SIZE is {list(config.INPUT.HEATMAP_SIZE)} but the networks give a quarter of INPUT.SIZE "
            f"{[width, height]}; write INPUT.HEATMAP_SIZE [0, 0], which takes {list(quarter(size))}"
        )


def quarter(size: tuple[int, int]) -> tuple[int, int]:
    """The size of the heatmaps that a network gives for an input, both (width, height) in pixels."""
    return size[0] // 4, size[1] // 4


def _check_schedule(config: CfgNode) -> None:
    default = default_config().TRAIN.EPOCHS
    if config.TRAIN.STEPS and default != config.TRAIN.EPOCHS:
        raise ConfigError(
            f"TRAIN.STEPS is {config.TRAIN.STEPS} and TRAIN.EPOCHS is {config.TRAIN.EPOCHS}, but a run has one length; "
            f"write TRAIN.STEPS 0 to count epochs, or leave TRAIN.EPOCHS at its default {default} to count steps"
        )
    milestones = config.TRAIN.SCHEDULE.MILESTONES
    if list(milestones) != sorted(set(milestones)) or min(milestones, default=1) < 1:
        raise ConfigError(f"TRAIN.SCHEDULE.MILESTONES is {list(milestones)}; give rising epoch numbers from 1")
    if config.TRAIN.OPTIMIZER.LR == 0:
        raise ConfigError("TRAIN.OPTIMIZER.LR is 0: nothing would be learned; give a rate such as 1e-3")
    if config.GPU.CUDA_GRAPHS and config.TRAIN.ACCUMULATE > 1:
        raise ConfigError(
            f"TRAIN.ACCUMULATE is {config.TRAIN.ACCUMULATE} but GPU.CUDA_GRAPHS is true, whose gradients cannot be "
            "added up; write GPU.CUDA_GRAPHS false, or TRAIN.ACCUMULATE 1"
        )
    if config.TRAIN.ACCUMULATE > config.TRAIN.BATCH_SIZE:
        raise ConfigError(
            f"TRAIN.ACCUMULATE is {config.TRAIN.ACCUMULATE} but TRAIN.BATCH_SIZE is {config.TRAIN.BATCH_SIZE}; a batch "
            "has no more parts than samples"
        )
    for key in ("TRAIN", "TEST"):
        if config[key].PRECISION == "fp16" and config.DEVICE == "cpu":
            raise ConfigError(f"{key}.PRECISION is 'fp16' but DEVICE is 'cpu'; fp16 needs a GPU: write 'bf16'")


def _check_pretrained(config: CfgNode) -> None:
    model = config.MODEL
    if model.PRETRAINED != "imagenet":
        return
    if model.NAME == "hrnet":
        raise ConfigError(
            "MODEL.PRETRAINED is 'imagenet' but torchvision has no hrnet; download the published HRNet ImageNet "
            "weights by hand and write their path"
        )
    if model.NAME not in ("simple_baseline", "cpn"):
        raise ConfigError(
            f"MODEL.PRETRAINED is 'imagenet' but no ImageNet weights of {model.NAME} are published; leave it at ''"
        )
    if model.WIDTH not in (0, 64):
        raise ConfigError(
            f"MODEL.PRETRAINED is 'imagenet' but MODEL.WIDTH is {model.WIDTH}: published ResNets have 64; write 0"
        )


def _check_attention(config: CfgNode) -> None:
    attention = config.MODEL.ATTENTION
    for key, off in (("SPATIAL", ""), ("DIRECT", False)):
        if attention[key] != off and not attention.NAME.startswith("psa"):
            raise ConfigError(
                f"MODEL.ATTENTION.{key} is {attention[key]!r} but MODEL.ATTENTION.NAME is {attention.NAME!r}; "
                f"{key} belongs to the psa_ blocks: leave it at {off!r}"
            )
    on_resnet = config.MODEL.NAME in ("simple_baseline", "cpn")
    if on_resnet and attention.WHERE == "basic" and config.MODEL.DEPTH >= 50:
        raise ConfigError(
            f"MODEL.ATTENTION.WHERE is 'basic' but a ResNet-{config.MODEL.DEPTH} has no basic blocks; write 'all'"
        )


def _check_format(config: CfgNode) -> None:
    data, form = config.DATASET, config.DATASET.FORMAT
    if form != "coco" and form != data.SKELETON:
        raise ConfigError(
            f"DATASET.SKELETON is {data.SKELETON!r} but DATASET.FORMAT is {form!r}; write {form!r} for both"
        )
    if form != "coco" and data.TEST_DETECTIONS:
        raise ConfigError(
            f"DATASET.TEST_DETECTIONS is set but DATASET.FORMAT {form!r} has no detector's boxes; leave it at ''"
        )
    if (form == "mpii") != bool(data.TEST_HEADS):
        raise ConfigError(
            f"DATASET.TEST_HEADS is {data.TEST_HEADS!r} but DATASET.FORMAT is {form!r}; PCKh of 'mpii' needs "
            "gt_valid.mat, and no other form has head boxes: leave it at ''"
        )
    for key in ("TRAIN_RANGE", "TEST_RANGE"):
        _check_range(f"DATASET.{key}", data[key], form)


def _check_range(key: str, chosen: tuple[int, ...], form: str) -> None:
    if chosen == (0, 0):
        return
    if len(chosen) != 2 or not 1 <= chosen[0] <= chosen[1]:
        raise ConfigError(f"{key} is {list(chosen)}; give the first and the last image, from 1, or [0, 0] for all")
    if form == "mpii":
        raise ConfigError(f"{key} is set but the files of DATASET.FORMAT 'mpii' are splits; leave it at [0, 0]")


def _check_pixels(config: CfgNode) -> None:
    on = [key for key in ("COLOR", "BLUR_PROB", "JPEG_PROB", "DROPOUT_PROB") if config.AUGMENT[key]]
    if on and config.LOADER.DEVICE_DECODE:
        raise ConfigError(
            f"AUGMENT.{on[0]} is {config.AUGMENT[on[0]]} but LOADER.DEVICE_DECODE is true, whose crops no worker sees; "
            f"write LOADER.DEVICE_DECODE false, or AUGMENT.{on[0]} 0"
        )


def _check_codec(config: CfgNode) -> None:
    codec = config.CODEC
    if codec.BLUR and codec.NAME == "standard":
        raise ConfigError(f"CODEC.BLUR is {codec.BLUR} but CODEC 'standard' decodes without a blur; leave it at 0")
    if codec.BLUR and codec.BLUR % 2 == 0:
        raise ConfigError(f"CODEC.BLUR is {codec.BLUR}; a blur kernel has a centre: make it odd")
    if config.TRAIN.OHKM_TOPK and codec.NAME == "udp_offset":
        raise ConfigError(
            f"TRAIN.OHKM_TOPK is {config.TRAIN.OHKM_TOPK} but CODEC 'udp_offset' has its own loss; leave it at 0"
        )
    if codec.SIGMA and codec.NAME == "udp_offset":
        raise ConfigError(f"CODEC.SIGMA is {codec.SIGMA} but CODEC 'udp_offset' draws discs; leave it at 0")
