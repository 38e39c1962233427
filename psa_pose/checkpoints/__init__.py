"""Checkpoints: one layout, written whole, read without unpickling; other people's, converted by strict tables."""

from psa_pose.checkpoints.content import check_content
from psa_pose.checkpoints.exchange import save_safetensors
from psa_pose.checkpoints.foreign import load_source, read_weights
from psa_pose.checkpoints.load import load_checkpoint, load_weights
from psa_pose.checkpoints.save import plain_state, remove_leftovers, save_checkpoint, write_whole

__all__ = [
    "check_content",
    "load_checkpoint",
    "load_source",
    "load_weights",
    "plain_state",
    "read_weights",
    "remove_leftovers",
    "save_checkpoint",
    "save_safetensors",
    "write_whole",
]
