"""The layouts of other people's checkpoints: one strict table each.

A layout says how each of its keys is called here, and which of its keys are deliberately not taken. Any other key is an
error: a file that is not wholly understood is not loaded. The key names are those of the published code: torchvision's
`resnet.py` and `mobilenetv2.py`, HRNet-Image-Classification's `cls_hrnet.py`, deep-high-resolution-net.pytorch's
`pose_hrnet.py` and `pose_resnet.py` (Microsoft's human-pose-estimation.pytorch, DARK and UDP have the same), mmpose's
backbones and heads; for segmentation VainF's DeepLabV3Plus-Pytorch, HRNet-Semantic-Segmentation (branch HRNet-OCR),
NVIDIA's semantic-segmentation and DeLightCMU's PSA.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from psa_pose.attention import RELEASED_KEYS

_NORM = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"
_BLOCK = rf"(?:conv[1-3]\.weight|bn[1-3]\.{_NORM}|downsample\.0\.weight|downsample\.1\.{_NORM})"
_RESNET = rf"conv1\.weight|bn1\.{_NORM}|layer[1-4]\.\d+\.{_BLOCK}"
_CONV_NORM = rf"(?:0\.weight|1\.{_NORM})"
_HRNET = "|".join(
    (
        rf"conv[12]\.weight|bn[12]\.{_NORM}|layer1\.\d+\.{_BLOCK}",
        rf"transition[1-3]\.\d\.(?:0\.)?{_CONV_NORM}",
        rf"stage[2-4]\.\d\.branches\.\d\.\d+\.{_BLOCK}",
        rf"stage[2-4]\.\d\.fuse_layers\.\d\.\d\.(?:\d\.)?{_CONV_NORM}",
    )
)
_MOBILENET_BLOCK = rf"conv\.(?:[01]\.{_CONV_NORM}|[12]\.weight|[23]\.{_NORM})"
_MOBILENET = rf"low_level_features\.0\.{_CONV_NORM}|(?:low|high)_level_features\.\d+\.{_MOBILENET_BLOCK}"
_FINAL = r"final_layer\.(?:weight|bias)"
_DECONV = rf"deconv_layers\.(?:[036]\.weight|[147]\.{_NORM})|{_FINAL}"
_MMPOSE_HEAD = r"(?:keypoint_head|head)\."
_CONV_WITH_BIAS = r"(?:weight|bias)"
_DEEPLAB_HEAD = "|".join(
    (
        rf"(?:project|aspp\.convs\.[0-3]|aspp\.project|classifier)\.{_CONV_NORM}",
        rf"aspp\.convs\.4\.(?:1\.weight|2\.{_NORM})",
        rf"classifier\.3\.{_CONV_WITH_BIAS}",
    )
)
_CONTEXT = "|".join(
    (
        rf"object_context_block\.f_(?:pixel|object|down|up)\.(?:[02]\.weight|[13]\.0\.{_NORM})",
        rf"conv_bn_dropout\.(?:0\.weight|1\.0\.{_NORM})",
    )
)
_OCR = "|".join(
    (
        rf"conv3x3_ocr\.(?:0\.{_CONV_WITH_BIAS}|1\.{_NORM})|aux_head\.(?:[03]\.{_CONV_WITH_BIAS}|1\.{_NORM})",
        rf"ocr_distri_head\.(?:{_CONTEXT})|cls_head\.{_CONV_WITH_BIAS}",
    )
)
# The same head where batch norm and ReLU are one module.
_NESTED_OCR = "|".join(
    (
        rf"conv3x3_ocr\.(?:0\.{_CONV_WITH_BIAS}|1\.0\.{_NORM})",
        rf"aux_head\.(?:[02]\.{_CONV_WITH_BIAS}|1\.0\.{_NORM})",
        rf"ocr_distri_head\.(?:{_CONTEXT})|cls_head\.{_CONV_WITH_BIAS}",
    )
)
_DEATTN = rf"stage[2-4]\.\d\.branches\.\d\.\d+\.deattn\.(?:{'|'.join(map(re.escape, RELEASED_KEYS))})"
_SCALE_ATTENTION = rf"scale_attn\.(?:conv[0-2]\.weight|bn[01]\.{_NORM})"
_NOTHING = r"(?!)"
# HRNet-Semantic-Segmentation keeps the weights of the classes beside its network.
_HRNET_LOSS = r"loss\.criterion\.weight"


@dataclass(frozen=True)
class Layout:
    """One way in which a project names the parts of its networks."""

    name: str
    title: str
    # The layout is that of a file which holds all of these keys.
    marks: tuple[str, ...]
    # Its keys; the group that matches is our key.
    keys: str
    # Its keys that are not taken.
    dropped: str
    # A classifier: its head is of no use here.
    imagenet: bool
    # The order in which the published networks of this layout read the channels of an image.
    channel_order: str
    # Pairs (expression, replacement) that make our key of a group that matched, one after the other.
    renames: tuple[tuple[str, str], ...] = ()
    # imagenet: our names of the keys, those of the trunk.
    trunk: str = ""
    # imagenet: those that not every network has.
    optional: str = _NOTHING


LAYOUTS = (
    # The segmentation networks first: they hold the marks of some that follow.
    Layout(
        name="deeplabv3plus",
        title="VainF's DeepLabV3+",
        marks=("classifier.aspp.project.0.weight", "classifier.project.0.weight"),
        keys=rf"(backbone\.(?:{_RESNET}|{_MOBILENET})|classifier\.(?:{_DEEPLAB_HEAD}))",
        dropped=_NOTHING,
        imagenet=False,
        channel_order="rgb",
    ),
    Layout(
        name="hrnetv2",
        title="HRNetV2's segmentation network",
        marks=("stage4.0.branches.0.0.conv1.weight", "last_layer.0.weight"),
        keys=rf"({_HRNET}|last_layer\.(?:[03]\.{_CONV_WITH_BIAS}|1\.{_NORM}))",
        dropped=_HRNET_LOSS,
        imagenet=False,
        channel_order="rgb",
    ),
    Layout(
        name="hrnet_ocr",
        title="HRNet-OCR's segmentation network",
        marks=("stage4.0.branches.0.0.conv1.weight", "conv3x3_ocr.0.weight"),
        keys=rf"({_HRNET}|{_OCR})",
        dropped=_HRNET_LOSS,
        imagenet=False,
        channel_order="rgb",
    ),
    Layout(
        name="nvidia_hrnet_ocr",
        title="NVIDIA's or DeLightCMU's HRNet-OCR",
        marks=("backbone.stage4.0.branches.0.0.conv1.weight", "ocr.cls_head.weight"),
        keys=rf"backbone\.({_HRNET}|{_DEATTN})|ocr\.({_NESTED_OCR})|({_SCALE_ATTENTION})",
        dropped=_NOTHING,
        imagenet=False,
        channel_order="rgb",
        renames=(
            (r"^(conv3x3_ocr|aux_head)\.1\.0\.", r"\1.1."),
            (r"^aux_head\.2\.", "aux_head.3."),
            *((rf"\.deattn\.{re.escape(theirs)}$", f".attention.{ours}") for theirs, ours in RELEASED_KEYS.items()),
        ),
    ),
    Layout(
        name="torchvision_mobilenet",
        title="torchvision's MobileNetV2 for ImageNet",
        marks=("features.18.0.weight", "classifier.1.weight"),
        keys=rf"features\.(0\.{_CONV_NORM}|(?:\d|1[0-7])\.{_MOBILENET_BLOCK})",
        dropped=r"features\.18\..*|classifier\.1\.(?:weight|bias)",
        imagenet=True,
        channel_order="rgb",
        renames=((r"^([0-3]\.)", r"low_level_features.\1"), (r"^(\d+\.)", r"high_level_features.\1")),
        trunk=_MOBILENET,
    ),
    Layout(
        name="torchvision_resnet",
        title="torchvision's ResNet for ImageNet",
        marks=("layer4.0.conv1.weight", "fc.weight"),
        keys=f"({_RESNET})",
        dropped=r"fc\.(?:weight|bias)",
        imagenet=True,
        channel_order="rgb",
        trunk=_RESNET,
    ),
    Layout(
        name="hrnet_imagenet",
        title="HRNet's classifier for ImageNet",
        marks=("stage4.2.fuse_layers.1.0.0.0.weight",),
        keys=f"({_HRNET})",
        # HRNet-Image-Classification's names, and those of the files beside HRNet's pose networks: head.*, fc.*.
        dropped=r"(?:incre_modules|downsamp_modules|final_layer|classifier|head|fc)\..*",
        imagenet=True,
        channel_order="rgb",
        trunk=_HRNET,
        # The classifier goes on with all four resolutions, the pose network with the finest alone.
        optional=r"stage4\.2\.fuse_layers\.[1-3]\..*",
    ),
    Layout(
        name="hrnet",
        title="HRNet's pose network",
        marks=("stage4.0.branches.0.0.conv1.weight", "final_layer.weight"),
        keys=f"({_HRNET}|{_FINAL})",
        dropped=_NOTHING,
        imagenet=False,
        channel_order="rgb",
    ),
    Layout(
        name="simple_baseline",
        title="SimpleBaseline's pose network",
        marks=("layer4.0.conv1.weight", "deconv_layers.0.weight"),
        keys=f"({_RESNET}|{_DECONV})",
        dropped=_NOTHING,
        imagenet=False,
        channel_order="bgr",
    ),
    Layout(
        name="mmpose_hrnet",
        title="mmpose's HRNet",
        marks=("backbone.stage4.0.branches.0.0.conv1.weight",),
        keys=rf"backbone\.({_HRNET})|{_MMPOSE_HEAD}({_FINAL})",
        dropped=r"data_preprocessor\.(?:mean|std)",
        imagenet=False,
        channel_order="rgb",
    ),
    Layout(
        name="mmpose_simple_baseline",
        title="mmpose's SimpleBaseline",
        marks=("backbone.layer4.0.conv1.weight",),
        keys=rf"backbone\.({_RESNET})|{_MMPOSE_HEAD}({_DECONV})",
        dropped=r"data_preprocessor\.(?:mean|std)",
        imagenet=False,
        channel_order="rgb",
    ),
)
