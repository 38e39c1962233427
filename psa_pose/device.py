"""Which device computes, in which precision, and what it cannot do."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from yacs.config import CfgNode

from psa_pose import distributed
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


@dataclass(frozen=True)
class Backends:
    """Settings of the whole process that decide how a GPU computes.

    tf32_matmul, tf32_conv: matrix products, and convolutions, of fp32 numbers are computed in TF32.
    benchmark: cuDNN tries its algorithms on the first batch of each shape, and keeps the fastest.
    """

    tf32_matmul: bool
    tf32_conv: bool
    benchmark: bool

    @classmethod
    def of_process(cls) -> Backends:
        """As they are, or would be if there were a GPU."""
        cudnn, matmul = _cudnn_and_matmul()
        if hasattr(matmul, "fp32_precision"):
            return cls(matmul.fp32_precision == "tf32", cudnn.conv.fp32_precision == "tf32", cudnn.benchmark)
        return cls(matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """With these settings; afterwards as before."""
        before = self.of_process()
        self._set()
        try:
            yield
        finally:
            before._set()

    def _set(self) -> None:
        cudnn, matmul = _cudnn_and_matmul()
        # The older names first, which torch before 2.9 knows alone. The others leave them as they are, and who reads an
        # older name that disagrees, as torch.compile does where it tunes, is answered with an error.
        matmul.allow_tf32, cudnn.allow_tf32 = self.tf32_matmul, self.tf32_conv
        if hasattr(matmul, "fp32_precision"):
            matmul.fp32_precision = "tf32" if self.tf32_matmul else "ieee"
            cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "tf32" if self.tf32_conv else "ieee"
        cudnn.benchmark = self.benchmark

    def describe(self) -> str:
        """For the log."""
        words = (("TF32 in matrix products", self.tf32_matmul), ("in convolutions", self.tf32_conv))
        said = [f"{what} {'on' if on else 'off'}" for what, on in (*words, ("cudnn.benchmark", self.benchmark))]
        return ", ".join(said)


def _cudnn_and_matmul() -> tuple[Any, Any]:
    """torch's own settings, whose types do not know all of them."""
    return torch.backends.cudnn, torch.backends.cuda.matmul


def backends(cfg: CfgNode, device: torch.device, training: bool) -> AbstractContextManager:
    """The context in which a GPU computes as the section GPU says; on a CPU nothing.

    training: steps of training, whose batches have one shape; an evaluation may see pictures of many.
    """
    if device.type != "cuda":
        return nullcontext()
    benchmark = training if cfg.GPU.CUDNN_BENCHMARK == "auto" else cfg.GPU.CUDNN_BENCHMARK
    return Backends(cfg.GPU.TF32_MATMUL, cfg.GPU.TF32_CONV, benchmark).applied()


def channels_last(cfg: CfgNode, device: torch.device) -> bool:
    """Whether features are in channels-last order: MODEL.CHANNELS_LAST; "auto": if a GPU trains in bf16 or fp16."""
    if cfg.MODEL.CHANNELS_LAST == "auto":
        return device.type == "cuda" and cfg.TRAIN.PRECISION in DTYPES
    return cfg.MODEL.CHANNELS_LAST


def place(model: nn.Module, cfg: CfgNode, device: torch.device) -> nn.Module:
    """The model on the device, in the memory format that `channels_last` says."""
    model.to(device)
    return model.to(memory_format=torch.channels_last) if channels_last(cfg, device) else model


def cuda_graphs(cfg: CfgNode, device: torch.device) -> bool:
    """Whether steps of training replay CUDA graphs: GPU.CUDA_GRAPHS, on a GPU."""
    return device.type == "cuda" and cfg.GPU.CUDA_GRAPHS


@functools.cache
def no_triton(device: torch.device) -> str:
    """Why Triton's kernels do not run on this device; "" where they do.

    Triton comes with PyTorch's CUDA builds for Linux, compiles for Ampere and later, and builds the code that launches
    a kernel with a C compiler.
    """
    if device.type != "cuda" or torch.version.cuda is None:
        return "no NVIDIA GPU"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "Triton needs a C compiler; install gcc"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "they need an Ampere GPU or a later one"
    return ""


def describe_psa(cfg: CfgNode, device: torch.device, compiled: bool) -> list[str]:
    """Whether psa_p as released has its own kernels on a GPU, or why not; nothing for other blocks and on a CPU."""
    node = cfg.MODEL.ATTENTION
    if device.type != "cuda" or node.NAME != "psa_p" or node.SPATIAL not in ("", "eq3") or node.DIRECT:
        return []
    off = "" if cfg.GPU.FUSED_PSA else "GPU.FUSED_PSA is false"
    reason = off or ("the network is compiled" if compiled else no_triton(device))
    return [f"psa_p by PyTorch's operators ({reason})" if reason else "psa_p by its own kernels"]


def describe_computing(cfg: CfgNode, device: torch.device, precision: str, training: bool) -> str:
    """What computes, and how, for the log. Every process calls it: each names its own GPU."""
    if device.type == "cuda":
        names = Counter(distributed.all_gather(torch.cuda.get_device_name(device)))
        what = ", ".join(f"{number} x {name}" for name, number in names.items())
    else:
        threads = torch.get_num_threads()
        what = f"{threads} CPU thread{'s' * (threads > 1)}"
    how = [precision, "channels-last" if channels_last(cfg, device) else "contiguous"]
    how += ["compiled"] * (training and cfg.TRAIN.COMPILE)
    how += ["CUDA graphs"] * (training and cuda_graphs(cfg, device))
    how += describe_psa(cfg, device, compiled=training and cfg.TRAIN.COMPILE)
    how += [Backends.of_process().describe()] if device.type == "cuda" else []
    return f"computing on {what}: {', '.join(how)}"


def cores_of_process() -> int:
    """Cores that this process may use, divided by the processes that torchrun started on this machine; 1 at least."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, allowed // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


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
    # The backward pass of a 1x1 convolution of stride 2 writes beyond its memory. Seen with AVX-512 below 16 channels,
    # with several threads (torch 2.15); with AVX2 below 8, also with one (torch 2.14).
    least = 16 if torch.get_num_threads() > 1 else 8
    if device.type == "cpu" and resnet and channels_last(cfg, device) and 0 < cfg.MODEL.WIDTH < least:
        raise ConfigError(
            f"MODEL.WIDTH {cfg.MODEL.WIDTH} with MODEL.CHANNELS_LAST crashes PyTorch on a CPU; write "
            "MODEL.CHANNELS_LAST false, or a width from 16"
        )
    if cfg.TRAIN.COMPILE and device.type == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        raise ConfigError("TRAIN.COMPILE needs a C++ compiler on a CPU and found none; install g++, or write false")
