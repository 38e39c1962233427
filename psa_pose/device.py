"""Which device computes, in which precision, and what it cannot do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from yacs.config import CfgNode

from psa_pose.errors import ConfigError

T = TypeVar("T")


def choose_device(name: str) -> torch.device:
    """ "auto", "cpu" or "cuda" -> this process's device; with several GPUs, the one of its local rank."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("DEVICE is 'cuda' but torch sees no GPU; write DEVICE cpu, or install a driver for your GPU")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def usable_device(device: str | torch.device) -> torch.device:
    """ "auto" or a torch device -> a device that is there. Raises ConfigError. Changes no process-wide setting."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        first = str(error).splitlines()[0][:120]
        raise ConfigError(f"device {str(device)!r} cannot be used ({first}); choose 'auto' or 'cpu'") from None
    return chosen


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """The context in which a network computes in "bf16" or "fp16"; for "fp32" nothing."""
    return torch.autocast(device.type, DTYPES[precision]) if precision in DTYPES else nullcontext()


def prefetch(batches: Iterable[Any], prepare: Callable[[Any], T], device: torch.device) -> Iterator[T]:
    """`prepare` of each batch. On a GPU the next one is prepared on a stream beside the work on this one.

    prepare: answers a tuple; its tensors on the device are handed over to the current stream.
    """
    if device.type != "cuda":
        yield from map(prepare, batches)
        return
    aside = torch.cuda.Stream(device)
    ready: list[T] = []
    for batch in batches:
        with torch.cuda.stream(aside):
            prepared: Any = prepare(batch)
            done = aside.record_event()
        # The work on the batch before is queued by whoever takes it; what is queued after that waits for this one.
        yield from ready
        current = torch.cuda.current_stream(device)
        current.wait_event(done)
        for part in prepared:
            if isinstance(part, torch.Tensor) and part.is_cuda:
                part.record_stream(current)
        ready = [prepared]
    yield from ready


def check_dtype(dtype: torch.dtype, device: torch.device) -> None:
    """Raise ConfigError for a number type that networks are not evaluated in on this device."""
    allowed = (torch.float32, torch.bfloat16, *((torch.float16,) if device.type == "cuda" else ()))
    if dtype not in allowed:
        raise ConfigError(f"dtype {dtype} cannot be used on a {device.type}; choose one of {allowed}")


def check_device(cfg: CfgNode, device: torch.device) -> None:
    """Raise ConfigError for what the device that was found cannot do."""
    for key in ("TRAIN", "TEST"):
        if cfg[key].PRECISION == "fp16" and device.type != "cuda":
            raise ConfigError(f"{key}.PRECISION is 'fp16' but the device is a {device.type}; write 'bf16'")
    if cfg.TRAIN.SYNC_BATCHNORM and device.type != "cuda":
        raise ConfigError(f"TRAIN.SYNC_BATCHNORM needs GPUs but the device is a {device.type}; write false")
    resnet = cfg.MODEL.NAME in ("simple_baseline", "cpn")
    narrow = resnet and cfg.MODEL.CHANNELS_LAST and 0 < cfg.MODEL.WIDTH < 16
    if narrow and device.type == "cpu" and torch.get_num_threads() > 1:
        # Seen with torch 2.15: the backward pass of a 1x1 convolution of stride 2 with fewer than 16 channels.
        raise ConfigError(
            f"MODEL.WIDTH {cfg.MODEL.WIDTH} with MODEL.CHANNELS_LAST crashes PyTorch on a CPU with several threads; "
            "write MODEL.CHANNELS_LAST false, or a width from 16"
        )
    if cfg.TRAIN.COMPILE and device.type == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        raise ConfigError("TRAIN.COMPILE needs a C++ compiler on a CPU and found none; install g++, or write false")
