"""What a recipe may add to plain training: precision, frozen layers, a moving average. Each does nothing when off."""

from __future__ import annotations

import copy
import shutil
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.errors import ConfigError, closest

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """The context in which a network computes in "bf16" or "fp16"; for "fp32" nothing."""
    return torch.autocast(device.type, DTYPES[precision]) if precision in DTYPES else nullcontext()


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


def wrap(cfg: CfgNode, model: nn.Module, device: torch.device) -> nn.Module:
    """What is called in training: the model, compiled and distributed where that is asked for. Shares its weights."""
    network: nn.Module = torch.compile(model) if cfg.TRAIN.COMPILE else model  # type: ignore[assignment]
    if distributed.world_size() == 1:
        return network
    # DDP gives every process the main one's BatchNorm statistics before each forward: those it saves are all there are.
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=devices)


def freeze(cfg: CfgNode, model: nn.Module) -> list[nn.Module]:
    """Stop the gradient of the modules that TRAIN.FREEZE names; the answer: modules that stay in evaluation mode.

    Raises ConfigError for a prefix of no module, and where nothing is left to train.
    """
    modules = dict(model.named_modules())
    frozen: list[nn.Module] = []
    for prefix in filter(None, map(str.strip, cfg.TRAIN.FREEZE.split(","))):
        if prefix not in modules:
            raise ConfigError(f"TRAIN.FREEZE names {prefix!r}, no module of this network; {_near(prefix, modules)}")
        frozen.append(modules[prefix].requires_grad_(False))
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError(f"TRAIN.FREEZE {cfg.TRAIN.FREEZE!r} leaves nothing to train; name fewer modules")
    if cfg.TRAIN.FREEZE_BATCHNORM:
        frozen += [module for module in modules.values() if isinstance(module, _BatchNorm)]
    return frozen


def _near(prefix: str, modules: dict[str, nn.Module]) -> str:
    """The nearest module's name among the siblings of what was typed."""
    parent = prefix.rpartition(".")[0]
    siblings = [name for name in modules if name and name.rpartition(".")[0] == parent]
    return closest(prefix, siblings or [name for name in modules if name and "." not in name])


class MovingAverage:
    """An exponential moving average of a model's weights, with a copy of its other buffers, as `model`."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take up the weights after a step, which counts from 0. Early steps decay faster: (1 + step) / (10 + step)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for own, new in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(new)
