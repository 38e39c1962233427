"""The names that a config may take, each listed once, so that reading a config needs no torch.

What is built by name is built from a dict of its room; a test holds each list equal to the keys of that dict.
"""

from __future__ import annotations

NETWORKS = ("simple_baseline", "hrnet", "hourglass", "cpn")
ATTENTIONS = (
    *("psa_p", "psa_s", "psa_s_plain", "psa_channel", "psa_spatial", "non_local", "global_context"),
    *("squeeze_excitation", "cbam", "dual", "efficient"),
)
SPATIAL_FORMS = ("eq3", "fig2", "released")
CODECS = ("standard", "dark", "udp_gaussian", "udp_offset")
PRECISIONS = ("fp32", "bf16", "fp16")
BOXES = ("ground_truth", "detector")
# DATASET.SKELETON may also be the path of a YAML file.
SKELETONS = ("coco", "mpii", "annotations")

CHOICES: dict[str, tuple[str | int, ...]] = {
    "TASK": ("pose",),
    "DEVICE": ("auto", "cpu", "cuda"),
    "DATASET.FORMAT": ("coco", "mpii"),
    "DATASET.ON_ERROR": ("raise", "skip"),
    "DATASET.EXIF": ("auto", "ignore", "apply"),
    "INPUT.CHANNEL_ORDER": ("rgb", "bgr"),
    "MODEL.NAME": NETWORKS,
    "MODEL.DEPTH": (18, 34, 50, 101, 152),
    "MODEL.ATTENTION.NAME": ("none", *ATTENTIONS),
    "MODEL.ATTENTION.WHERE": ("all", "basic"),
    "MODEL.ATTENTION.SPATIAL": ("", *SPATIAL_FORMS),
    "CODEC.NAME": CODECS,
    "TRAIN.PRECISION": PRECISIONS,
    "TRAIN.OPTIMIZER.NAME": ("adam", "adamw", "sgd"),
    "TRAIN.SCHEDULE.NAME": ("multistep", "cosine", "poly"),
    "TEST.PRECISION": PRECISIONS,
    "TEST.BOXES": ("auto", *BOXES),
}
"""Key of a config -> all that it may be."""
