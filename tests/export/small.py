"""Small networks with the statistics of trained ones: what they answer is neither nothing nor without bounds."""

from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from psa_pose.checkpoints import checkpoint_content, save_checkpoint
from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.config import load_config
from psa_pose.models import build_model

BACKBONES = {
    "simple_baseline": ("MODEL.NAME", "simple_baseline", "MODEL.DEPTH", "18", "MODEL.WIDTH", "8"),
    "hrnet_w32": ("MODEL.NAME", "hrnet", "MODEL.WIDTH", "8"),
    "hrnet_w48": ("MODEL.NAME", "hrnet", "MODEL.WIDTH", "12"),
    "hourglass": ("MODEL.NAME", "hourglass", "MODEL.STACKS", "2", "MODEL.WIDTH", "32"),
    "cpn": ("MODEL.NAME", "cpn", "MODEL.DEPTH", "18", "MODEL.WIDTH", "8"),
}


def small_config(backbone: str, *overrides: object) -> CfgNode:
    """Of a small network of that kind, 64x64."""
    base = ["INPUT.SIZE", "[64, 64]", "MODEL.HEAD_CHANNELS", "16"]
    words = [*base, *BACKBONES[backbone], "DEVICE", "cpu", *map(str, overrides)]
    return load_config(Path(__file__).parents[2] / "configs/synthetic/quickstart.yaml", words)


def small_network(backbone: str, *overrides: object) -> nn.Module:
    """Such a network, in evaluation mode."""
    torch.manual_seed(0)
    return settle(build_model(small_config(backbone, *overrides)))


def saved(path: Path, backbone: str = "simple_baseline", *overrides: object) -> Path:
    """The checkpoint of such a network, written to `path`."""
    cfg = small_config(backbone, *overrides)
    save_checkpoint(path, checkpoint_content(cfg, ModelSpec.of_config(cfg), small_network(backbone, *overrides)))
    return path


def settle(model: nn.Module) -> nn.Module:
    """Random norms with about the statistics of their inputs, and no layer that answers nothing."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for parameter in model.parameters():
        if parameter.abs().max() < 0.02:
            nn.init.normal_(parameter, std=0.2)
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(8, 3, 64, 64))
        for norm in norms:
            norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.7, 1.4))
            norm.running_mean.add_(0.1 * torch.randn_like(norm.running_mean) * norm.running_var.sqrt())
    return model.eval()
