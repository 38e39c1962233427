"""Segmentation: how fast its samples are made, and what each way to compute a network is worth."""

from __future__ import annotations

import io
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

from psa_pose.benchmark.infer import check_ways, sample_picture, untrained
from psa_pose.benchmark.measure import Timed, alternate, compare_ways, ratio, time_stages
from psa_pose.checkpoints import checkpoint_content, save_checkpoint
from psa_pose.data.augment import sample_generator
from psa_pose.media.pictures import decode_image
from psa_pose.models.fold import fold_batchnorm
from psa_pose.segmentation.data.augment import CropView, draw_view
from psa_pose.segmentation.data.build import build_test_sets, build_train_set
from psa_pose.segmentation.data.dataset import SegmentationDataset, make_segmentation_batch, make_whole_pictures
from psa_pose.segmentation.inference.export import export_segmentation
from psa_pose.segmentation.inference.labeller import Labeller, build_labeller
from psa_pose.segmentation.inference.segmenter import onnx_labeller
from psa_pose.segmentation.spec import SegmentationSpec
from psa_pose.segmentation.visualization import blended

CPU = torch.device("cpu")
BATCH, PICTURES = 16, 64

# (folded, channels last, precision); the first is what the others are compared with. None: ONNX Runtime.
WAYS: dict[str, tuple[bool, bool, str] | None] = {
    "eager": (False, False, "fp32"),
    "channels-last": (False, True, "fp32"),
    "folded": (True, False, "fp32"),
    "folded+channels-last": (True, True, "fp32"),
    "bf16": (True, True, "bf16"),
    "onnxruntime": None,
}


def benchmark_pictures(cfg: CfgNode, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of one sample of up to PICTURES training pictures, and of one whole test picture; medians.

    floor_ms: decoding image (OpenCV) and label (Pillow: indices) from memory, plus one resize of the sample's own
    rectangle in each; no reading of files, padding, mirror or colour.
    """
    cv2.setNumThreads(0)
    (test_set,) = build_test_sets(cfg, print, cfg.TEST.PROTOCOLS[:1])
    train = build_train_set(cfg, print)
    return [
        _measure("train", train, make_segmentation_batch, rounds, True),
        _measure("test", test_set.dataset, make_whole_pictures, rounds, False),
    ]


def _measure(
    name: str, dataset: SegmentationDataset, make: Callable[..., Any], rounds: int, cropped: bool
) -> dict[str, Any]:
    keys = [(0, row) for row in range(min(len(dataset), PICTURES))]
    images = [np.fromfile(dataset.pictures.images[row], np.uint8) for _, row in keys]
    labels = [dataset.pictures.labels[row].read_bytes() for _, row in keys if dataset.pictures.labels]
    decoded = [dataset.read(row) for _, row in keys]
    views = [_view(dataset, key, label.shape) for key, (_, label) in zip(keys, decoded, strict=True)]
    batches = [keys[i : i + BATCH] for i in range(0, len(keys), BATCH)]

    def decode() -> None:
        for content in images:
            cv2.imdecode(content, cv2.IMREAD_COLOR)
        for data in labels:
            np.array(Image.open(io.BytesIO(data)))

    def resize() -> None:
        for maps, view in zip(decoded, views, strict=True):
            for pixels, method in zip(maps, (cv2.INTER_LINEAR, cv2.INTER_NEAREST_EXACT), strict=True):
                _resize(pixels, view, dataset.crop_size, method)

    def sample() -> None:
        for batch in batches:
            make(dataset, batch)

    works = {"decode": decode, "sample": sample} | ({"resize": resize} if cropped else {})
    seconds = alternate(works, rounds, CPU)
    floor = [sum(parts) for parts in zip(*(seconds[what] for what in works if what != "sample"), strict=True)]
    times = {f"{what}_ms": 1e3 * statistics.median(values) / len(keys) for what, values in seconds.items()}
    row = {"set": name, "images": len(keys), **times, "floor_ms": 1e3 * statistics.median(floor) / len(keys)}
    return row | {"ratio": ratio(seconds["sample"], floor), "samples_per_second": 1e3 / times["sample_ms"]}


def _view(dataset: SegmentationDataset, key: tuple[int, int], shape: tuple[int, ...]) -> CropView:
    """What the sample shows where crops are not class-uniform, whose pictures are others."""
    generator = sample_generator(dataset.seed, *key)
    generator.random()
    return draw_view((shape[1], shape[0]), dataset.crop_size, dataset.augmentation, generator)


def _resize(pixels: np.ndarray, view: CropView, size: tuple[int, int], method: int) -> None:
    """The picture's part of the rectangle, at the crop's scale."""
    part = pixels[max(view.y, 0) : view.y + view.height, max(view.x, 0) : view.x + view.width]
    scaled = [max(1, round(side * s / v)) for side, s, v in zip(part.shape[1::-1], size, view[2:4], strict=True)]
    cv2.resize(part, scaled, interpolation=method)


def benchmark_segment(
    configs: Mapping[str, CfgNode], batches: Sequence[int], rounds: int, ways: Sequence[str], flip: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Untrained networks on a CPU, warm, on pictures of INPUT.SIZE: {"ways": ..., "stages": ..., "skipped": []}.

    ways: per network, pictures per call and way, the milliseconds from decoded pictures to labels, and how many times
    as fast as "eager" in the same rounds. stages: of one picture, from a JPEG to a blended one, as a Segmenter works.
    Protocol full, or with `flip` flip. Raises ConfigError for an unknown way.
    """
    check_ways(ways, WAYS)
    answer: dict[str, list[dict[str, Any]]] = {"ways": [], "stages": [], "skipped": []}
    for name, cfg in configs.items():
        pixels, jpeg = sample_picture(cfg.INPUT.SIZE)
        labellers = {way: _labeller(cfg, way, flip) for way in dict.fromkeys(["eager", *ways])}
        for batch in batches:
            shown = torch.from_numpy(np.stack([pixels] * batch))
            works = {way: partial(label, shown) for way, label in labellers.items()}
            answer["ways"] += compare_ways(name, works, batch, "images", rounds)
        answer["stages"].append({"network": name, **_stages(cfg, labellers["eager"], jpeg, rounds)})
    return answer


def _labeller(cfg: CfgNode, way: str, flip: bool) -> Labeller:
    cfg = cfg.clone()
    cfg.defrost()
    options = WAYS[way]
    folded, cfg.MODEL.CHANNELS_LAST, cfg.TEST.PRECISION = options or (False, False, "fp32")
    model = untrained(cfg, cfg.MODEL.CHANNELS_LAST)
    if options is not None:
        model = fold_batchnorm(model) if folded else model
        return build_labeller(cfg, model, "flip" if flip else "full", CPU)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, file = Path(folder) / "c.pt", Path(folder) / "c.onnx"
        save_checkpoint(checkpoint, checkpoint_content(cfg, SegmentationSpec.of_config(cfg), model))
        export_segmentation(checkpoint, file, flip=flip)
        return onnx_labeller(file)[0]


def _stages(cfg: CfgNode, label: Labeller, jpeg: bytes, rounds: int) -> dict[str, float]:
    classes = SegmentationSpec.of_config(cfg).classes

    def once(timed: Timed) -> None:
        image = timed("decode_ms", lambda: decode_image(jpeg, Path("benchmark.jpg")))
        labels = timed("network_ms", lambda: label(torch.from_numpy(image)[None])[0].numpy())
        timed("blend_ms", lambda: blended(image, labels, classes))

    return {stage: statistics.median(values) for stage, values in time_stages(once, rounds).items()}
