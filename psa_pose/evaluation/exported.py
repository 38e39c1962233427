"""`tools/export.py`: a checkpoint as a file for other programs, and what that costs in AP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from psa_pose.checkpoints import load_checkpoint
from psa_pose.checkpoints.spec import ModelSpec, load_network
from psa_pose.codecs import build_codec
from psa_pose.config.skeleton import build_skeleton
from psa_pose.data.build import build_test_sets, build_train_set
from psa_pose.data.dataset import Batch
from psa_pose.evaluation.predict_set import evaluate
from psa_pose.evaluation.result import Evaluation
from psa_pose.export.files import FORMATS
from psa_pose.export.quantize import calibration_crops
from psa_pose.export.write import Differences, check_request, export_checkpoint
from psa_pose.inference.backends import Backend, OnnxBackend
from psa_pose.predict import Predictor, TorchBackend


def run_export(
    checkpoint: Path,
    out: Path | None,
    form: str,
    keypoints: bool,
    flip: bool,
    quantized: str,
    cfg: CfgNode | None = None,
) -> tuple[Path, Differences]:
    """Write the file, `out` or beside the checkpoint under its name, and say how far its answers are from PyTorch's.

    cfg: of the data set whose training persons static quantization looks at; needed for that alone.
    """
    check_request(form, quantized, quantized == "static" and cfg is not None)
    crops = _calibration(cfg, checkpoint) if cfg is not None and quantized == "static" else None
    path = out or checkpoint.with_suffix(FORMATS[form])
    return path, export_checkpoint(checkpoint, path, form, keypoints, flip, quantized, crops)


def _calibration(cfg: CfgNode, checkpoint: Path) -> np.ndarray:
    """Crops of training persons, as `calibration_crops`. Raises CheckpointError where the config is not of it."""
    ModelSpec.of_config(cfg).check(load_checkpoint(checkpoint), checkpoint)
    dataset = build_train_set(cfg, build_skeleton(cfg), build_codec(cfg).grid, print)
    return calibration_crops(dataset, cfg.INPUT.CHANNEL_ORDER)


def compare_ap(cfg: CfgNode, checkpoint: Path, exported: Path, flip: bool) -> dict[str, list[Evaluation]]:
    """AP of the checkpoint in PyTorch and of the ONNX file made from it, on every test set of the config.

    flip: both average with the mirrored crop, or neither; the file must have been made so. Raises ConfigError if not.
    """
    skeleton, codec = build_skeleton(cfg), build_codec(cfg)
    ModelSpec.of_config(cfg).check(load_checkpoint(checkpoint), checkpoint)
    file = OnnxBackend(exported, flip=flip)
    torch_network = TorchBackend(*load_network(checkpoint), torch.device("cpu"), flip)
    sets = build_test_sets(cfg, skeleton, codec.grid, print, cfg.TEST.BOXES)
    backends: dict[str, Backend] = {"PyTorch": torch_network, exported.name: file}
    return {
        name: [
            evaluate(cfg, one, _backend_predictor(backend, cfg.INPUT.CHANNEL_ORDER), skeleton, flip, print).evaluation
            for one in sets
        ]
        for name, backend in backends.items()
    }


def _backend_predictor(backend: Backend, channel_order: str) -> Predictor:
    """The estimator's network for the evaluation's batches, whose crops are in the model's channel order."""

    def predict(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        crops = batch.crops if channel_order == "rgb" else batch.crops.flip(3)
        joints, scores, maps = backend(crops.cpu().numpy(), True)
        assert maps is not None
        return torch.from_numpy(joints), torch.from_numpy(scores), torch.from_numpy(maps)

    return predict
