"""The embedded data set: synthetic people in COCO's layout, of any size, made on the spot from a seed.

    root/train2017/000000000001.jpg ...
    root/annotations/person_keypoints_train2017.json
    root/person_detection_results/train2017_person_detections.json
    root/synthetic.json                                 what was made; written last

A picture depends on (seed, split, its index in the split) and on nothing else, whatever the number of workers.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from psa_pose.data.formats.coco_form import PERSON_CATEGORY
from psa_pose.errors import DataError
from psa_pose.files import read_json, write_json
from psa_pose.skeleton import COCO
from psa_pose.synthetic.scene import draw_image, stable_rng

# Part of what makes two data sets equal: raise it whenever the same parameters would give other files.
FORMAT_VERSION = 1
GENERATOR = "psa_pose.data.synthetic"
MARKER = "synthetic.json"
UNFINISHED = "synthetic.json.tmp"

T = TypeVar("T")


def annotation_path(root: Path, split: str) -> Path:
    """Where a split's keypoint annotations are."""
    return root / "annotations" / f"person_keypoints_{split}.json"


def _detection_path(root: Path, split: str) -> Path:
    """Where a split's simulated detections are."""
    return root / "person_detection_results" / f"{split}_person_detections.json"


def _simulate_detections(
    rng: np.random.Generator, annotations: list[dict[str, Any]], image_size: tuple[int, int]
) -> list[dict[str, Any]]:
    """What a fair person detector might say of a picture: {"category_id", "bbox", "score"} without image ids.

    Boxes are jittered more for small and for hidden people, and score less; some people are missed or found twice,
    and some boxes hold nobody. Crowd regions are left to the false alarms. image_size: (width, height).
    """
    found = []
    for annotation in annotations:
        if annotation["iscrowd"]:
            continue
        box = np.array(annotation["bbox"])
        hidden = 1 - np.mean(np.array(annotation["keypoints"][2::3]) == 2)
        small = np.clip(40 / np.sqrt(annotation["area"]) - 0.4, 0, 1)
        if rng.random() < 0.015 + 0.15 * max(hidden - 0.4, 0) + 0.12 * small:
            continue
        for copy in range(1 + (rng.random() < 0.06)):
            jitter = rng.normal(0, (0.03 + 0.05 * hidden + 0.05 * small) * (1 + copy), 4)
            score = 0.99 - 1.2 * np.abs(jitter).mean() - 0.35 * hidden**2 - 0.2 * small - 0.3 * copy
            found.append((_jittered(box, jitter), score + rng.normal(0, 0.02)))
    for _ in range(rng.poisson(0.35)):
        size = np.array([rng.uniform(0.06, 0.35), rng.uniform(0.15, 0.7)]) * image_size
        corner = rng.uniform(0, 1, 2) * (np.array(image_size) - size)
        found.append((np.concatenate([corner, size]), rng.beta(1.2, 8)))
    return [
        {
            "category_id": PERSON_CATEGORY,
            "bbox": _clipped(box, image_size),
            "score": round(float(np.clip(score, 0.01, 0.999)), 4),
        }
        for box, score in sorted(found, key=lambda pair: -pair[1])
    ]


def _jittered(box: np.ndarray, jitter: np.ndarray) -> np.ndarray:
    """A box [x, y, w, h] moved by jitter[:2] of its size and resized by jitter[2:]."""
    size = box[2:] * np.exp(jitter[2:])
    return np.concatenate([box[:2] + 0.5 * box[2:] + jitter[:2] * box[2:] - 0.5 * size, size])


def _clipped(box: np.ndarray, image_size: tuple[int, int]) -> list[float]:
    """A box [x, y, w, h] cut to the picture, at least two pixels wide and high, to a hundredth of a pixel."""
    low = np.clip(box[:2], 0, np.array(image_size) - 2)
    high = np.clip(box[:2] + box[2:], low + 2, image_size)
    return [round(float(value), 2) for value in (*low, *(high - low))]


def generate(
    root: Path,
    sizes: Mapping[str, int],
    seed: int = 0,
    image_size: tuple[int, int] = (320, 256),
    people: tuple[int, int] = (1, 3),
    workers: int = 2,
    progress: bool = True,
) -> None:
    """Write the data set under root, unless the same one is there already.

    sizes: split name -> number of images, e.g. {"train2017": 1000, "val2017": 150}.
    image_size: (width, height) in pixels; people: fewest and most persons in a picture.
    workers: processes; 0 or 1 draws in this one. The files do not depend on it.

    An older or unfinished data set of this generator is replaced. Raises DataError for parameters that make no
    sense and for a root that holds anything else.
    """
    root = Path(root)
    _check(sizes, image_size, people)
    wanted = {
        "made_by": GENERATOR,
        "format": FORMAT_VERSION,
        "seed": int(seed),
        "sizes": {split: int(n) for split, n in sizes.items()},
        "image_size": list(image_size),
        "people": list(people),
    }
    if _read_marker(root / MARKER) == wanted:
        return
    _clear(root, list(sizes))
    first_id = 1
    for split, count in sizes.items():
        _write_split(root, split, count, first_id, partial(
            _make_file, folder=root / split, seed=seed, split=split, first_id=first_id,
            image_size=(image_size[0], image_size[1]), people=(people[0], people[1]),
        ), workers, progress)  # fmt: skip
        first_id += count
    write_json(root / UNFINISHED, wanted)
    os.replace(root / UNFINISHED, root / MARKER)


def _check(sizes: Mapping[str, int], image_size: tuple[int, int], people: tuple[int, int]) -> None:
    for split, count in sizes.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", split):
            raise DataError(f"synthetic data: split name {split!r} becomes a folder; use letters, digits, - and _")
        if count < 1:
            raise DataError(f"synthetic data: split {split!r} has {count} images; ask for at least 1 or leave it out")
    if not sizes:
        raise DataError("synthetic data: no split was asked for; give at least one, such as {'train2017': 1000}")
    if min(image_size) < 64:
        raise DataError(f"synthetic data: image size {tuple(image_size)} is too small for people; use at least 64 x 64")
    if not 1 <= people[0] <= people[1]:
        raise DataError(f"synthetic data: people {tuple(people)} must be (fewest, most) with 1 <= fewest <= most")


def _read_marker(path: Path) -> dict[str, Any] | None:
    """The parameters this generator recorded at path, None where it did not."""
    try:
        marker = read_json(path, "marker")
    except DataError:
        return None
    return marker if isinstance(marker, dict) and marker.get("made_by") == GENERATOR else None


def _clear(root: Path, splits: list[str]) -> None:
    """Make root ready for `splits`: remove what this generator made there before, and nothing else."""
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: synthetic data needs a folder but this is a file; choose another root")
    markers = [root / MARKER, root / UNFINISHED]
    strangers = root.exists() and any(not path.name.startswith(f".{UNFINISHED}.") for path in root.iterdir())
    if strangers and all(_read_marker(path) is None for path in markers):
        raise DataError(
            f"{root}: the folder is not empty and was not made by the synthetic data generator; "
            "choose another root, or empty it yourself"
        )
    root.mkdir(parents=True, exist_ok=True)
    old = {split for path in markers for split in (_read_marker(path) or {"sizes": {}})["sizes"]}
    # The unfinished marker names every split that may have files here, before the first of them changes.
    write_json(root / UNFINISHED, {"made_by": GENERATOR, "sizes": dict.fromkeys(sorted(old | set(splits)), 0)})
    (root / MARKER).unlink(missing_ok=True)
    for split in old:
        for image in (root / split).glob("[0-9]" * 12 + ".jpg"):
            image.unlink()
        annotation_path(root, split).unlink(missing_ok=True)
        _detection_path(root, split).unlink(missing_ok=True)
        if (root / split).is_dir() and not any((root / split).iterdir()):
            (root / split).rmdir()


Made = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def _make_file(
    index: int, *, folder: Path, seed: int, split: str, first_id: int,
    image_size: tuple[int, int], people: tuple[int, int],
) -> Made:  # fmt: skip
    """Write picture `index` of a split; return its annotations and detections, without ids."""
    image, annotations = draw_image(seed, split, index, image_size, people)
    rng = stable_rng(seed, split, index, stream=1)
    quality = int(rng.integers(80, 96))
    path = folder / _file_name(first_id + index)
    done, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError(f"{path}: the JPEG encoder failed; check the OpenCV installation")
    path.write_bytes(jpeg.tobytes())
    return annotations, _simulate_detections(rng, annotations, image_size)


def _file_name(image_id: int) -> str:
    """COCO's file name of an image."""
    return f"{image_id:012d}.jpg"


def _start_worker() -> None:
    # One thread a process: the pictures are the parallelism.
    cv2.setNumThreads(0)
    # A worker of a pool does not notice that its owner was killed, and waits for ever.
    threading.Thread(target=_end_with_owner, daemon=True).start()


def _end_with_owner() -> None:
    owner = multiprocessing.parent_process()
    assert owner, "workers have one"
    owner.join()
    os._exit(1)


def in_order(make: partial[T], count: int, workers: int, bar: str = "") -> Iterator[T]:
    """make(0), make(1), ... in order, on `workers` processes. bar: what a progress bar is called; "" for none."""
    if bar:
        # Imported here, because it needs torch, which no worker process does.
        from psa_pose.distributed import progress_bar

        yield from progress_bar(in_order(make, count, workers), bar, count, unit="image")
        return
    if min(workers, count) <= 1:
        yield from map(make, range(count))
        return
    # Spawn, not fork: the caller may have threads running.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        yield from pool.map(make, range(count), chunksize=max(1, min(16, count // (4 * workers))))


def _write_split(
    root: Path, split: str, count: int, first_id: int, make: partial[Made], workers: int, progress: bool
) -> None:
    """Images, annotations and detections of one split; image and annotation ids are unique over all splits."""
    (root / split).mkdir(exist_ok=True)
    images, annotations, detections = [], [], []
    width, height = make.keywords["image_size"]
    made = in_order(make, count, workers, split * progress)
    for image_id, (people, boxes) in enumerate(made, start=first_id):
        images.append({"id": image_id, "file_name": _file_name(image_id), "width": width, "height": height})
        for n, person in enumerate(people):
            # Ids that do not depend on the other pictures, so that they can be drawn in any order.
            annotations.append({"id": image_id * 100 + n, "image_id": image_id, **person})
        detections += [{"image_id": image_id, **box} for box in boxes]
    limbs = [[a + 1, b + 1] for a, b in COCO.limb_pairs]
    category = {
        "id": PERSON_CATEGORY, "name": "person", "supercategory": "person", "keypoints": list(COCO.names),
        "skeleton": limbs,
    }  # fmt: skip
    info = {"description": "synthetic people of psa_pose", "version": str(FORMAT_VERSION)}
    content = {"info": info, "images": images, "annotations": annotations, "categories": [category]}
    write_json(annotation_path(root, split), content)
    write_json(_detection_path(root, split), detections)
