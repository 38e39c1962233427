"""How many kernels a work launches."""

from __future__ import annotations

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from psa_pose.benchmark.measure import Work

# Operators that compute nothing: views, and memory that is not written.
VIEWS = frozenset(
    """
    view t transpose expand slice select unsqueeze squeeze detach as_strided alias permute _unsafe_view unbind split
    split_with_sizes reshape _reshape_alias unfold empty empty_like new_empty empty_strided new_empty_strided
    """.split()  # noqa: SIM905
)


def count_launches(work: Work, device: torch.device) -> int:
    """On a GPU the launches of kernels and graphs that the driver is asked for; on a CPU the operators but for views.

    The work is run once before it is counted.
    """
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
            work()
            torch.cuda.synchronize(device)
        events = recorded.key_averages()
        return sum(event.count for event in events if "LaunchKernel" in event.key or "GraphLaunch" in event.key)
    with _Operators() as operators:
        work()
    return operators.count


class _Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ not in VIEWS
        return func(*args, **(kwargs or {}))
