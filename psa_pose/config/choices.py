"""The names that a config may take, each listed once, so that reading a config needs no torch.

What is built by name is built from a dict of its room; a test holds each list equal to the keys of that dict.
"""

from __future__ import annotations

NETWORKS = ("simple_baseline", "hrnet", "hourglass", "cpn")
SEGMENTATION_NETWORKS = ("deeplabv3plus", "hrnetv2", "hrnet_ocr", "hrnet_ocr_hmsa")
BACKBONES = ("mobilenet_v2", "resnet18", "resnet34", "resnet50", "resnet101")
ATTENTIONS = (
    *("psa_p", "psa_s", "psa_s_plain", "psa_channel", "psa_spatial", "non_local", "global_context"),
    *("squeeze_excitation", "cbam", "dual", "efficient"),
)
SPATIAL_FORMS = ("eq3", "fig2", "released")
CODECS = ("standard", "dark", "udp_gaussian", "udp_offset")
TRACKERS = ("wandb", "mlflow")
PRECISIONS = ("fp32", "bf16", "fp16")
BOXES = ("ground_truth", "detector")
# DATASET.SKELETON may also be the path of a YAML file.
SKELETONS = ("coco", "mpii", "lsp", "annotations")
POSE_FORMATS = ("coco", "mpii", "lsp")
SEGMENTATION_FORMATS = ("voc", "cityscapes", "cityscapes_list", "folder", "synthetic")
# DATASET.CLASSES may also be the path of a YAML file.
CLASS_LISTS = ("voc", "cityscapes", "synthetic")
LOSSES = ("cross_entropy", "ohem", "focal", "rmi")
PROTOCOLS = ("crop", "full", "flip", "ms_flip", "hmsa")
JOINS = ("probabilities", "logits", "exp")
# Of the residual blocks; in a MobileNet "all", "outputs" or "inputs".
PLACES = ("all", "basic", "outputs", "inputs")

AUTO: dict[str, type] = {"MODEL.CHANNELS_LAST": bool, "GPU.CUDNN_BENCHMARK": bool, "LOADER.WORKERS": int}
"""Keys that may be "auto" -> the type of every other value."""

CHOICES: dict[str, tuple[str | int, ...]] = {
    "TASK": ("pose", "segmentation"),
    "DEVICE": ("auto", "cpu", "cuda"),
    "DATASET.FORMAT": (*POSE_FORMATS, *SEGMENTATION_FORMATS),
    "DATASET.LABELS": ("gtFine", "gtCoarse"),
    "DATASET.ON_ERROR": ("raise", "skip"),
    "DATASET.EXIF": ("auto", "ignore", "apply"),
    "INPUT.CHANNEL_ORDER": ("rgb", "bgr"),
    "MODEL.NAME": (*NETWORKS, *SEGMENTATION_NETWORKS),
    "MODEL.BACKBONE": BACKBONES,
    "MODEL.OUTPUT_STRIDE": (16, 8),
    "MODEL.DEPTH": (18, 34, 50, 101, 152),
    "MODEL.ATTENTION.NAME": ("none", *ATTENTIONS),
    "MODEL.ATTENTION.WHERE": PLACES,
    "MODEL.ATTENTION.SPATIAL": ("", *SPATIAL_FORMS),
    "CODEC.NAME": CODECS,
    "LOSS.NAME": LOSSES,
    "AUGMENT.PAD_LABEL": ("ignore", "background"),
    "TRAIN.PRECISION": PRECISIONS,
    "TRAIN.TRACKER": ("none", *TRACKERS),
    "TRAIN.OPTIMIZER.NAME": ("adam", "adamw", "sgd"),
    "TRAIN.SCHEDULE.NAME": ("multistep", "cosine", "poly"),
    "TEST.PRECISION": PRECISIONS,
    "TEST.BOXES": ("auto", *BOXES),
    "TEST.JOIN": JOINS,
}
"""Key of a config -> all that it may be."""
