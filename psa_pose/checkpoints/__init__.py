"""Checkpoints: one layout, written whole, read without unpickling."""

from psa_pose.checkpoints.load import load_checkpoint, load_weights
from psa_pose.checkpoints.save import plain_state, save_checkpoint, write_whole

__all__ = ["load_checkpoint", "load_weights", "plain_state", "save_checkpoint", "write_whole"]
