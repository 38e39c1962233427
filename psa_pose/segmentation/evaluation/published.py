"""Figures that others published, to set beside one's own; none was reproduced here."""

from __future__ import annotations

from psa_pose.errors import ConfigError
from psa_pose.segmentation.evaluation.result import format_stats

# Model, protocol, mIoU in percent. Sources: the projects' own tables.
PUBLISHED = {
    "voc": (
        ("DeepLabV3+ MobileNet, VainF, stride 16", "crop", 71.1),
        ("DeepLabV3+ R50, VainF, stride 16", "crop", 77.2),
        ("DeepLabV3+ R101, VainF, stride 16", "crop", 78.3),
        ("DeepLabV3+ R50, mmsegmentation, stride 8, 40k", "full", 76.81),
        ("DeepLabV3+ R101, mmsegmentation, stride 8, 40k", "full", 78.62),
        ("DeepLabV3+ R50, sssegmentation, stride 16", "full", 76.92),
        ("DeepLabV3+ R101, sssegmentation, stride 16", "full", 78.31),
    ),
    "cityscapes": (
        ("HRNetV2-W48", "full", 80.9),
        ("HRNetV2-W48, OHEM", "full", 81.2),
        ("HRNetV2-W48 + OCR", "full", 81.6),
        ("HRNetV2-W48 + OCR, mmsegmentation, 160k", "full", 81.35),
        ("HMSA, Mapillary start, fine labels", "hmsa", 84.7),
        ("HMSA, with auto-labelled coarse images", "hmsa", 86.8),
    ),
}


def published_table(form: str) -> str:
    """The rows of a DATASET.FORMAT's data set. Raises ConfigError where there are none."""
    key = form.partition("_")[0]
    if key not in PUBLISHED:
        raise ConfigError(f"nothing is published for DATASET.FORMAT {form!r}; leave --baselines out")
    rows = PUBLISHED[key]
    figures = [(protocol, "val", 0, {"miou": value / 100}) for _, protocol, value in rows]
    return format_stats(figures, [f"{name}, published" for name, _, _ in rows])
