"""Checkpoints: one layout, written whole, read without unpickling."""
