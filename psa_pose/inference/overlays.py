"""What the network sees, person by person, beside the pictures: `tools/infer.py --overlay`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from psa_pose.geometry import transform_points
from psa_pose.inference.estimator import Person, PoseEstimator
from psa_pose.visualization.draw import write_picture
from psa_pose.visualization.heatmaps_and_gates import gate_sheet, heatmap_sheet
from psa_pose.visualization.sheets import CropView

OVERLAYS = ("heatmaps", "gates")


def write_overlays(
    estimator: PoseEstimator,
    image: np.ndarray,
    people: Sequence[Person],
    threshold: float,
    stem: Path,
    overlays: Sequence[str],
) -> None:
    """Write <stem>_<n>_heatmaps.jpg and <stem>_<n>_gates.jpg, as OVERLAYS asks for, n from 1 in the people's order.

    image: (H, W, 3) uint8 RGB. people: with heatmaps, where these are drawn. threshold: joints with a higher score are
    drawn.
    """
    gates = estimator.gates(image, [person.box for person in people]) if "gates" in overlays and people else {}
    for number, person in enumerate(people, start=1):
        pixels, matrix = estimator.spec.crop(image, person.box)
        joints, scores = transform_points(person.keypoints[:, :2], matrix), person.keypoints[:, 2]
        if person.heatmaps is not None and "heatmaps" in overlays:
            maps = person.heatmaps[:: estimator.spec.make_codec().channels_per_joint]
            crop = CropView(pixels, joints, scores, maps, joints, scores)
            sheet = heatmap_sheet(crop, estimator.skeleton, threshold)
            write_picture(stem.with_name(f"{stem.name}_{number}_heatmaps.jpg"), sheet)
        if gates:
            ours = {name: tuple(_of(gate, number - 1) for gate in pair) for name, pair in gates.items()}
            write_picture(stem.with_name(f"{stem.name}_{number}_gates.jpg"), gate_sheet(pixels, ours))


def _of(gate: object, row: int) -> np.ndarray | None:
    """One person's gate: (C,) of channels, (h, w) of positions."""
    return None if gate is None else gate[row].float().cpu().numpy().squeeze()  # type: ignore[index]
