"""Attention blocks: (B, C, H, W) to the same shape."""
