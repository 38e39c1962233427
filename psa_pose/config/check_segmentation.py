"""What no single key of a segmentation config can say."""

from __future__ import annotations

from yacs.config import CfgNode

from psa_pose.config.choices import PROTOCOLS, SEGMENTATION_FORMATS, SEGMENTATION_NETWORKS
from psa_pose.errors import ConfigError, closest

# MODEL.NAME -> how many maps the network answers while it trains.
MAPS = {"deeplabv3plus": 1, "hrnetv2": 1, "hrnet_ocr": 2, "hrnet_ocr_hmsa": 4}


def check_segmentation(config: CfgNode) -> None:
    """Raise ConfigError for the first pair of keys that contradict each other."""
    for key, value, own in (
        ("MODEL.NAME", config.MODEL.NAME, SEGMENTATION_NETWORKS),
        ("DATASET.FORMAT", config.DATASET.FORMAT, SEGMENTATION_FORMATS),
    ):
        if value not in own:
            raise ConfigError(f"{key} is {value!r} but TASK is 'segmentation'; {closest(value, own)}")
    _check_sizes(config)
    _check_loss(config)
    _check_protocols(config)
    _check_network(config)


def _check_sizes(config: CfgNode) -> None:
    crop = config.INPUT.CROP_SIZE
    if len(crop) != 2 or (crop != (0, 0) and (min(crop) < 16 or max(crop) > 4096)):
        raise ConfigError(f"INPUT.CROP_SIZE is {list(crop)}; give [width, height] in pixels, from 16 to 4096")
    scales = config.AUGMENT.SCALE_RANGE
    if len(scales) != 2 or not 0 < scales[0] <= scales[1] <= 16:
        raise ConfigError(f"AUGMENT.SCALE_RANGE is {list(scales)}; give [least, greatest], above 0 and up to 16")
    for key in ("WINDOW", "STEP"):
        size = config.TEST[key]
        if len(size) != 2 or min(size) < 0 or (max(size) > 0) != (min(size) > 0):
            raise ConfigError(f"TEST.{key} is {list(size)}; give [width, height] in pixels, or [0, 0]")
    if max(config.TEST.STEP) and not max(config.TEST.WINDOW):
        raise ConfigError("TEST.STEP is set but TEST.WINDOW is [0, 0]; give the windows' size too")


def _check_loss(config: CfgNode) -> None:
    loss, classes, maps = config.LOSS, config.MODEL.NUM_CLASSES, MAPS[config.MODEL.NAME]
    if len(loss.OUTPUT_WEIGHTS) != maps or min(loss.OUTPUT_WEIGHTS) < 0:
        raise ConfigError(
            f"LOSS.OUTPUT_WEIGHTS is {list(loss.OUTPUT_WEIGHTS)} but {config.MODEL.NAME} answers {maps} maps in "
            "training; give a weight from 0 for each"
        )
    if len(loss.CLASS_WEIGHTS) not in (1, classes) or min(loss.CLASS_WEIGHTS) < 0:
        raise ConfigError(
            f"LOSS.CLASS_WEIGHTS has {len(loss.CLASS_WEIGHTS)} numbers for {classes} classes; give one from 0 for "
            "each, or [1.0]"
        )
    if len(loss.CLASS_WEIGHTS) > 1 and loss.NAME in ("focal", "rmi"):
        raise ConfigError(f"LOSS.CLASS_WEIGHTS is set but LOSS.NAME is {loss.NAME!r}, which has none; write [1.0]")
    if loss.OVER_ALL_PIXELS and loss.NAME == "rmi":
        raise ConfigError("LOSS.OVER_ALL_PIXELS is set but LOSS.NAME is 'rmi', which has no such mean; write false")


def _check_protocols(config: CfgNode) -> None:
    test, network = config.TEST, config.MODEL.NAME
    wrong = [name for name in test.PROTOCOLS if name not in PROTOCOLS]
    if wrong:
        raise ConfigError(f"TEST.PROTOCOLS has {wrong[0]!r}; {closest(wrong[0], PROTOCOLS)}")
    if not test.PROTOCOLS or len(set(test.PROTOCOLS)) < len(test.PROTOCOLS):
        raise ConfigError(f"TEST.PROTOCOLS is {list(test.PROTOCOLS)}; name at least one, and each once")
    if "hmsa" in test.PROTOCOLS and network != "hrnet_ocr_hmsa":
        raise ConfigError(f"TEST.PROTOCOLS has 'hmsa' but MODEL.NAME is {network!r}, which joins no scales; write full")
    if not test.SCALES or not 0 < min(test.SCALES) <= max(test.SCALES) <= 16:
        raise ConfigError(f"TEST.SCALES is {list(test.SCALES)}; give numbers above 0 and up to 16")


def _check_network(config: CfgNode) -> None:
    model, name = config.MODEL, config.MODEL.NAME
    mobile = name == "deeplabv3plus" and model.BACKBONE == "mobilenet_v2"
    where = model.ATTENTION.WHERE
    if mobile == (where == "basic") and where != "all":
        own = "'all', 'outputs' or 'inputs'" if mobile else "'all' or 'basic'"
        raise ConfigError(f"MODEL.ATTENTION.WHERE is {where!r} but the network's blocks are reached by {own}")
    if model.PRETRAINED == "imagenet" and name != "deeplabv3plus":
        raise ConfigError(
            "MODEL.PRETRAINED is 'imagenet' but torchvision has no hrnet; download the published HRNet weights by "
            "hand and write their path"
        )
    if config.LOADER.DEVICE_DECODE:
        raise ConfigError("LOADER.DEVICE_DECODE is for TASK pose; write false")
    if name != "deeplabv3plus" and config.TRAIN.OPTIMIZER.BACKBONE_LR != 1:
        raise ConfigError(f"TRAIN.OPTIMIZER.BACKBONE_LR is for deeplabv3plus, not {name}; leave it at 1.0")
