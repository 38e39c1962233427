"""torchvision's ImageNet weights of the ResNets, in torch.hub's cache."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

import torch

from psa_pose import distributed
from psa_pose.errors import CheckpointError


def imagenet_resnet(depth: int) -> Path:
    """The file with the ImageNet weights of ResNet-`depth`, downloaded where it is not in torch.hub's cache yet.

    The main process downloads first, then those that do not see its file: they are on other machines.
    A download is checked by the hash in its name; no file is opened here. Raises CheckpointError without a network.
    """
    # Takes seconds to import, and nothing else here needs it.
    from torchvision.models import get_model_weights

    url = get_model_weights(f"resnet{depth}")["IMAGENET1K_V1"].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if distributed.is_main():
        _download(url, path)
    distributed.barrier()
    _download(url, path)
    return path


def _download(url: str, path: Path) -> None:
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.split("-")[-1])
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", error)
        raise CheckpointError(
            f"the ImageNet weights {path} are not there and could not be downloaded ({reason}); put {url} there, or "
            "write MODEL.PRETRAINED with the path of a file, or '' to train without"
        ) from None
