"""Three precisions by name, set for a while: fp32 without TF32, TF32, and autocast to bf16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from psa_pose.device import Backends, autocast

PRECISIONS = ("fp32", "tf32", "bf16")


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Products and convolutions in this precision; afterwards as before."""
    tf32 = precision == "tf32"
    with Backends(tf32, tf32, benchmark=False).applied(), autocast(precision, device):
        yield
