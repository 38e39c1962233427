"""The published segmentation networks: their layouts, and the rule for the weights and images of the golden data."""

import gzip
import hashlib
import json
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from psa_pose.attention import RELEASED_KEYS, make_attention
from psa_pose.checkpoints.layouts import convert, detect_layout
from psa_pose.models.complexity import shapes_alone
from psa_pose.models.mobilenet import MobileNetV2
from psa_pose.models.resnet import ResNet
from psa_pose.segmentation.networks.deeplab import DeepLabV3Plus
from psa_pose.segmentation.networks.hmsa import HMSA
from psa_pose.segmentation.networks.hrnet import HRNetOCR, HRNetV2

GOLDEN = Path(__file__).parents[1] / "golden/segmentation"
VOC_CLASSES, CITYSCAPES_CLASSES = 21, 19


def build(model: str, output_stride: int = 16, **options) -> nn.Module:
    """The shapes of our network for a model of the golden data, such as deeplabv3plus_resnet50+psa_p."""
    name, _, attention = model.partition("+")
    factory = partial(make_attention, attention) if attention else None
    with shapes_alone():
        if name == "deeplabv3plus_mobilenet":
            return DeepLabV3Plus(MobileNetV2(output_stride, factory), VOC_CLASSES, output_stride, **options)
        if name.startswith("deeplabv3plus_resnet"):
            trunk = ResNet(int(name.removeprefix("deeplabv3plus_resnet")), factory, output_stride=output_stride)
            return DeepLabV3Plus(trunk, VOC_CLASSES, output_stride, **options)
        if name == "seg_hrnet_w48":
            return HRNetV2(48, CITYSCAPES_CLASSES, **options)
        if name == "seg_hrnet_ocr_w48":
            return HRNetOCR(48, CITYSCAPES_CLASSES, **options)
        if name == "ocrnet.HRNet":
            return HRNetOCR(48, CITYSCAPES_CLASSES, factory, "basic", align_corners=False, **options)
        assert name == "ocrnet.HRNet_Mscale"
        return HMSA(48, CITYSCAPES_CLASSES, factory, "basic", **options)


@cache
def layout(model: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a published state dict, by key."""
    entry = _layouts()[model]
    shapes = dict(layout(entry["base"])) if "base" in entry else {}
    for key in entry.get("without", []):
        del shapes[key]
    return shapes | {key: tuple(shape) for key, shape in entry["with"].items()}


@cache
def _layouts() -> dict:
    return json.loads(gzip.decompress((GOLDEN / "layouts.json.gz").read_bytes()))


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [-1, 1) that follow from a name."""
    seed = int.from_bytes(hashlib.sha256(f"public/{name}".encode()).digest()[:4], "little")
    return 2 * np.random.RandomState(seed).random_sample(shape) - 1


def published_weights(model: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A state dict of a published network, under its own names."""
    gain = 0.7 if model.startswith("deeplab") else 0.55
    return {key: torch.as_tensor(_weight(key, shape, gain), dtype=dtype) for key, shape in layout(model).items()}


def _weight(key: str, shape: tuple[int, ...], gain: float) -> np.ndarray | float:
    if key.endswith("num_batches_tracked"):
        return 0.0
    values = uniform(key, shape)
    if key.endswith("running_var"):
        return 1 + 0.2 * values
    if key.endswith("running_mean"):
        return 0.05 * values
    if len(shape) in (1, 3):
        return gain * (1 + 0.1 * values) if key.endswith(".weight") else 0.05 * values
    return values * (6 / np.prod(shape[1:])) ** 0.5


def under_our_names(model: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict by the strict tables; DeepLab's attention, which no file has, by the released names."""
    slots = {key: value for key, value in weights.items() if model.startswith("deeplab") and ".deattn." in key}
    rest = {key: value for key, value in weights.items() if key not in slots}
    ours, dropped = convert(rest, detect_layout(rest))
    assert not dropped
    for key, value in slots.items():
        block, name = key.split(".deattn.")
        ours[f"{block}.attention.{RELEASED_KEYS[name]}"] = value
    return ours


def our_names(model: str) -> dict[str, str]:
    """Published key -> ours."""
    keys = list(layout(model))
    named = under_our_names(model, {key: torch.tensor(i) for i, key in enumerate(keys)})
    return {keys[int(number)]: ours for ours, number in named.items()}


def load(network: nn.Module, model: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Give a network that was built on the meta device the weights of the golden data."""
    weights = under_our_names(model, published_weights(model, dtype))
    counters = {key: value.long() for key, value in weights.items() if key.endswith("num_batches_tracked")}
    network.load_state_dict(weights | counters, assign=True)
    return network


def image(name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Normalised images (B, 3, H, W)."""
    return torch.from_numpy(2 * uniform(name, shape)).to(dtype)


def labels(name: str, shape: tuple[int, ...], classes: int) -> Tensor:
    """Labels (B, H, W), a tenth of them 255."""
    found = np.floor((uniform(name, shape) + 1) / 2 * classes)
    found[(uniform(f"{name}/ignore", shape) + 1) / 2 < 0.1] = 255
    return torch.from_numpy(found).long()
