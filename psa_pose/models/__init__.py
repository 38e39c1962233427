"""Backbones with one named slot for attention in each residual block."""

from psa_pose.models.build import build_model, output_channels

__all__ = ["build_model", "output_channels"]
