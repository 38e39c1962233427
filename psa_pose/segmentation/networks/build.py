"""From a config to a segmentation network, and to the groups of its parameters. Touches neither disk nor network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from yacs.config import CfgNode

from psa_pose.errors import ConfigError, closest
from psa_pose.models.blocks import AttentionFactory
from psa_pose.models.build import build_network
from psa_pose.models.mobilenet import MobileNetV2
from psa_pose.models.resnet import ResNet
from psa_pose.segmentation.networks.deeplab import DeepLabV3Plus
from psa_pose.segmentation.networks.hmsa import HMSA
from psa_pose.segmentation.networks.hrnet import HRNetOCR, HRNetV2


def build_segmentation_model(cfg: CfgNode) -> nn.Module:
    """The network that `cfg.MODEL` describes: images (B, 3, H, W) -> logits (B, MODEL.NUM_CLASSES, H, W).

    In training mode it answers what its method `logits` does: a tuple of maps at their own size, auxiliary ones first,
    the final one last. Weights are initialised, not loaded. Raises ConfigError for a name, backbone, output stride,
    width or attention that does not exist, and for an attention that would be placed in no block at all.
    """
    return build_network(cfg, NETWORKS, "a segmentation network")


def parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    """The parameters that are trained, the trunk's apart; groups without a parameter are left out.

    Those with two or more dimensions decay; with DECAY_ALL biases and norms too.
    """
    options, backbone = cfg.TRAIN.OPTIMIZER, getattr(model, "backbone", None)
    trunk = {id(p) for p in backbone.parameters()} if isinstance(backbone, nn.Module) else set[int]()
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = []
    for in_trunk, scale in ((True, options.BACKBONE_LR), (False, 1.0)):
        for decays in (True, False):
            chosen = [
                p for p in parameters if (id(p) in trunk) == in_trunk and (p.ndim >= 2 or options.DECAY_ALL) == decays
            ]
            decay = options.WEIGHT_DECAY if decays else 0.0
            groups.append({"params": chosen, "weight_decay": decay, "lr_scale": scale})
    return [group for group in groups if group["params"]]


def check_batch_sizes(cfg: CfgNode, images: int, processes: int) -> None:
    """Raise ConfigError where a step of an epoch would show DeepLabV3+ a single image.

    Its pyramid pools an image to one pixel, and a batch norm in training cannot normalise one value. images: of the
    training set, shared out to the processes.
    """
    train, share = cfg.TRAIN, -(-images // processes)
    together = train.FREEZE_BATCHNORM or (train.SYNC_BATCHNORM and processes > 1)
    if cfg.MODEL.NAME != "deeplabv3plus" or together:
        return
    for batch in {min(train.BATCH_SIZE, share), share % train.BATCH_SIZE or train.BATCH_SIZE}:
        part = -(-batch // train.ACCUMULATE)
        if 1 in (part, batch % part):
            raise ConfigError(
                f"a step of {batch} of {share} images in {train.ACCUMULATE} parts shows deeplabv3plus one image alone, "
                "which its batch norms cannot train on; change TRAIN.BATCH_SIZE or TRAIN.ACCUMULATE"
            )


def _deeplabv3plus(cfg: CfgNode, attention: AttentionFactory | None) -> nn.Module:
    name, stride = cfg.MODEL.BACKBONE, cfg.MODEL.OUTPUT_STRIDE
    if name not in BACKBONES:
        raise ConfigError(f"MODEL.BACKBONE {name!r} is not a trunk of deeplabv3plus; {closest(name, BACKBONES)}")
    backbone = BACKBONES[name](cfg, attention)
    momentum = cfg.MODEL.BACKBONE_BN_MOMENTUM
    return DeepLabV3Plus(backbone, cfg.MODEL.NUM_CLASSES, stride, cfg.MODEL.HEAD_CHANNELS, backbone_momentum=momentum)


def _mobilenet(cfg: CfgNode, attention: AttentionFactory | None) -> nn.Module:
    return MobileNetV2(cfg.MODEL.OUTPUT_STRIDE, attention, cfg.MODEL.ATTENTION.WHERE)


def _resnet(depth: int) -> Callable[[CfgNode, AttentionFactory | None], nn.Module]:
    def build(cfg: CfgNode, attention: AttentionFactory | None) -> nn.Module:
        where, width = cfg.MODEL.ATTENTION.WHERE, cfg.MODEL.WIDTH or 64
        return ResNet(depth, attention, where, width, cfg.MODEL.OUTPUT_STRIDE)

    return build


def align_corners(cfg: CfgNode) -> bool:
    """How the config's network enlarges, and how its logits are to be enlarged: as those published were trained."""
    return cfg.MODEL.NAME in ("hrnetv2", "hrnet_ocr")


def _hrnetv2(cfg: CfgNode, attention: AttentionFactory | None) -> nn.Module:
    width, classes, where = cfg.MODEL.WIDTH or 48, cfg.MODEL.NUM_CLASSES, cfg.MODEL.ATTENTION.WHERE
    return HRNetV2(width, classes, attention, where, align_corners(cfg))


def _hrnet_ocr(cfg: CfgNode, attention: AttentionFactory | None) -> nn.Module:
    width, classes, where = cfg.MODEL.WIDTH or 48, cfg.MODEL.NUM_CLASSES, cfg.MODEL.ATTENTION.WHERE
    return HRNetOCR(width, classes, attention, where, align_corners(cfg), cfg.MODEL.HEAD_CHANNELS)


def _hrnet_ocr_hmsa(cfg: CfgNode, attention: AttentionFactory | None) -> nn.Module:
    width, classes, where = cfg.MODEL.WIDTH or 48, cfg.MODEL.NUM_CLASSES, cfg.MODEL.ATTENTION.WHERE
    return HMSA(width, classes, attention, where, tuple(cfg.TEST.SCALES), cfg.MODEL.HEAD_CHANNELS)


NETWORKS: dict[str, Callable[[CfgNode, AttentionFactory | None], nn.Module]] = {
    "deeplabv3plus": _deeplabv3plus,
    "hrnetv2": _hrnetv2,
    "hrnet_ocr": _hrnet_ocr,
    "hrnet_ocr_hmsa": _hrnet_ocr_hmsa,
}

BACKBONES: dict[str, Callable[[CfgNode, AttentionFactory | None], nn.Module]] = {
    # Called as torchvision calls those whose ImageNet weights they take.
    "mobilenet_v2": _mobilenet,
    "resnet18": _resnet(18),
    "resnet34": _resnet(34),
    "resnet50": _resnet(50),
    "resnet101": _resnet(101),
}
