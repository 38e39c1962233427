"""From a picture to people: what each stage takes, and what each way to compute the network is worth."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from psa_pose.benchmark.measure import Timed, compare_ways, time_stages
from psa_pose.checkpoints import checkpoint_content, save_checkpoint
from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.config.skeleton import build_skeleton
from psa_pose.errors import ConfigError, PsaPoseError, closest
from psa_pose.export.write import export_checkpoint
from psa_pose.geometry import box_to_region, crop_matrix, warp
from psa_pose.inference.backends import OnnxBackend
from psa_pose.inference.estimator import PoseEstimator
from psa_pose.media.pictures import decode_image
from psa_pose.models import build_model
from psa_pose.predict import TorchBackend, crop_to_image
from psa_pose.visualization.draw import draw_skeleton

CPU = torch.device("cpu")
PICTURE = (640, 480)
"""Width and height of the picture, pixels."""

# The first is what the others are compared with: PyTorch as the network was built.
WAYS: dict[str, dict[str, Any] | None] = {
    "eager": {"fold": False, "channels_last": False},
    "channels-last": {"fold": False, "channels_last": True},
    "folded": {"fold": True, "channels_last": False},
    "folded+channels-last": {},
    "compiled": {"compile": True},
    "bf16": {"dtype": torch.bfloat16},
    "onnxruntime": None,
}


def benchmark_infer(
    configs: Mapping[str, CfgNode], batches: Sequence[int], rounds: int, ways: Sequence[str], flip: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Untrained networks on a CPU, warm: {"ways": ..., "stages": ..., "skipped": ...}, rows as dicts.

    ways: per network, batch and way the latency of one call of PoseEstimator with a decoded picture and `batch` boxes
    in milliseconds, its persons per second, and how many times as fast it was as "eager" in the same rounds. stages:
    what a picture with that many persons takes, from a JPEG to a drawn picture, by PoseEstimator's defaults.
    skipped: ways that cannot be measured here, and why. Raises ConfigError for an unknown way.
    """
    check_ways(ways, WAYS)
    picture, jpeg = sample_picture(PICTURE)
    answer: dict[str, list[dict[str, Any]]] = {"ways": [], "stages": [], "skipped": []}
    for name, cfg in configs.items():
        estimators: dict[str, PoseEstimator] = {}
        for way in dict.fromkeys(["eager", *ways]):
            try:
                estimators[way] = _estimator(cfg, way, flip)
                estimators[way](picture, _boxes(2))
            # Whatever a compiler or a package says that is not there, or cannot do this.
            except Exception as error:
                if not isinstance(error, PsaPoseError) and way != "compiled":
                    raise
                reason = " ".join(str(error).split())[:160]
                answer["skipped"].append({"network": name, "way": way, "reason": reason})
                estimators.pop(way, None)
        for batch in batches:
            works = {way: partial(one, picture, _boxes(batch), batch_size=batch) for way, one in estimators.items()}
            answer["ways"] += compare_ways(name, works, batch, "persons", rounds)
            answer["stages"].append({"network": name, "persons": batch, **_stages(cfg, jpeg, batch, rounds, flip)})
    return answer


def check_ways(ways: Sequence[str], known: Iterable[str]) -> None:
    """Raise ConfigError for a way that is not known."""
    for way in ways:
        if way not in known:
            raise ConfigError(f"there is no way {way!r} to infer; {closest(way, known)}")


def untrained(cfg: CfgNode, channels_last: bool = False) -> nn.Module:
    """The config's network without trained weights, in evaluation mode."""
    torch.manual_seed(0)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.CHANNELS_LAST = channels_last
    return build_model(cfg).eval().requires_grad_(False)


def _estimator(cfg: CfgNode, way: str, flip: bool) -> PoseEstimator:
    spec, model, options = ModelSpec.of_config(cfg), untrained(cfg), WAYS[way]
    if options is not None:
        return PoseEstimator(TorchBackend(model, spec, CPU, flip, **options))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, file = Path(folder) / "c.pt", Path(folder) / "c.onnx"
        save_checkpoint(checkpoint, checkpoint_content(cfg, spec, model))
        export_checkpoint(checkpoint, file, flip=flip)
        return PoseEstimator(OnnxBackend(file))


def _stages(cfg: CfgNode, jpeg: bytes, batch: int, rounds: int, flip: bool) -> dict[str, float]:
    """Milliseconds (medians) of what a JPEG with `batch` persons goes through, one stage after the other."""
    skeleton = build_skeleton(cfg)
    spec = ModelSpec.of_config(cfg)
    network, grid = TorchBackend(untrained(cfg), spec, CPU, flip), spec.make_codec().grid
    width, height = spec.input_size
    boxes = np.array(_boxes(batch))

    def once(timed: Timed) -> None:
        image = timed("decode_ms", lambda: decode_image(jpeg, Path("benchmark.jpg")))
        matrices = crop_matrix(*box_to_region(boxes, width / height, spec.padding), 0.0, (width, height), grid)
        crops = timed("crop_ms", lambda: np.stack([warp(image, m, (width, height)) for m in matrices]))
        maps = timed("network_ms", lambda: network.maps(crops))
        joints, _ = timed("maps_ms", lambda: network.decode(maps))
        found = crop_to_image(torch.from_numpy(joints), torch.from_numpy(matrices)).numpy()
        timed("draw_ms", lambda: _drawn(image, found, skeleton))

    runs = time_stages(once, rounds)
    row = {stage: statistics.median(values) for stage, values in runs.items()}
    total = statistics.median(map(sum, zip(*runs.values(), strict=True)))
    return row | {"images_per_s": 1e3 / total, "persons_per_s": 1e3 * batch / total}


def _drawn(image: np.ndarray, joints: np.ndarray, skeleton: Any) -> np.ndarray:
    for person in joints:
        image = draw_skeleton(image, person, np.ones(len(person), bool), skeleton)
    return image


def sample_picture(size: tuple[int, int]) -> tuple[np.ndarray, bytes]:
    """A picture of that width and height with as much in it as a photograph has: pixels, and a JPEG of them.

    The JPEG has about 100 kB at 640x480.
    """
    generator = np.random.default_rng(0)
    layers = [cv2.resize(generator.random((s, s, 3)), size, interpolation=cv2.INTER_CUBIC) for s in (4, 16, 64, 256)]
    pixels = np.clip(sum(layer * 0.4 / 2**i for i, layer in enumerate(layers)) * 330, 0, 255).astype(np.uint8)
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert done
    return pixels, data.tobytes()


def _boxes(count: int) -> list[list[float]]:
    """Persons of about a third of the picture's height, side by side."""
    step = (PICTURE[0] - 110) / max(count - 1, 1)
    return [[10 + step * i, 120, 90, 220] for i in range(count)]
