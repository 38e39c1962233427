"""Weights that torchvision publishes, in torch.hub's cache, checked by the hash in their names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

import torch

from psa_pose import distributed
from psa_pose.errors import CheckpointError


def imagenet_weights(network: str) -> Path:
    """The file with a network's ImageNet weights, downloaded where it is not in torch.hub's cache yet.

    network: torchvision's name, such as "resnet50".
    The main process downloads first, then those that do not see its file: they are on other machines.
    No file is opened here. Raises CheckpointError without a network.
    """
    # Takes seconds to import, and nothing else here needs it.
    from torchvision.models import get_model_weights

    url = get_model_weights(network)["IMAGENET1K_V1"].url
    remedy = "or write MODEL.PRETRAINED with the path of a file, or '' to train without"
    if distributed.is_main():
        cached_download(url, "the ImageNet weights", remedy)
    distributed.barrier()
    return cached_download(url, "the ImageNet weights", remedy)


def cached_download(url: str, what: str, remedy: str) -> Path:
    """The file of a URL in torch.hub's cache, fetched where it is not there; the end of its name is its hash.

    what, remedy: of the CheckpointError where it cannot be had, "the ... weights" and what else to do.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.split("-")[-1], progress=False)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", error)
        raise CheckpointError(
            f"{what} {path} are not there and could not be downloaded ({reason}); put {url} there, {remedy}"
        ) from None
    return path
