"""Backbones with one named slot for attention in each residual block."""
