"""Pictures, videos and cameras in, drawn people and COCO files out."""

from psa_pose.inference.streaming import Seen, stream

__all__ = ["Seen", "stream"]
