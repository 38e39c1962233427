"""psa_pose: train and evaluate top-down human pose networks with Polarized Self-Attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psa_pose.inference.estimator import PoseEstimator
    from psa_pose.segmentation.inference.segmenter import Segmenter

__version__ = "0.2.0"
__all__ = ["PoseEstimator", "Segmenter", "__version__"]


def __getattr__(name: str) -> Any:
    """`psa_pose.PoseEstimator` and `Segmenter`, found when asked for: importing psa_pose alone imports no torch."""
    if name == "PoseEstimator":
        from psa_pose.inference.estimator import PoseEstimator

        return PoseEstimator
    if name == "Segmenter":
        from psa_pose.segmentation.inference.segmenter import Segmenter

        return Segmenter
    raise AttributeError(f"module 'psa_pose' has no attribute {name!r}")
