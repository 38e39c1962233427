"""Checkpoints: one layout, written whole, read without unpickling; other people's, converted by strict tables."""

from psa_pose.checkpoints.content import check_content, checkpoint_content, save_checkpoint, unwrapped_state_dict
from psa_pose.checkpoints.load import load_checkpoint, load_weights
from psa_pose.checkpoints.safetensors_file import save_safetensors

__all__ = [
    "check_content",
    "checkpoint_content",
    "load_checkpoint",
    "load_weights",
    "save_checkpoint",
    "save_safetensors",
    "unwrapped_state_dict",
]
