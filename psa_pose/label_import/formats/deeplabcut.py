"""DeepLabCut's CollectedData_<scorer>.csv, with one animal or several.

"Using labeled data in DeepLabCut that was annotated elsewhere" (the wiki of github.com/DeepLabCut/DeepLabCut) and
issues 39 of spoonsso/dannce, 486 and 522: header lines scorer, individuals (only with several animals), bodyparts and
coords; a line for each picture, whose path stands in one cell (labeled-data/video/img.png) or in three; empty cells
where nothing is labelled. The individual `single` holds points of no animal. Lightning Pose ("Label CSV File Format",
lightning-pose.readthedocs.io) adds a column `visible` with COCO's values. `skeleton` in config.yaml gives limbs.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from psa_pose.errors import DataError
from psa_pose.label_import.formats.yolo import read_yaml
from psa_pose.label_import.records import Instance, LabelledImage, Ledger, Source, Wishes, blank_points, number, slashes

Columns = dict[str, dict[str, dict[str, int]]]


def read_deeplabcut(paths: Sequence[Path], root: Path, wishes: Wishes, ledger: Ledger) -> Source:
    """The animals of label tables that share their bodyparts. Raises DataError for other tables and for h5 files."""
    names: list[str] = []
    source = Source("DeepLabCut", names, [], root, category="animal")
    for path in paths:
        rows = _read(path)
        columns, first, start = _header(rows, path, ledger)
        found = list(dict.fromkeys(part for parts in columns.values() for part in parts))
        if names and set(found) != set(names):
            raise DataError(f"label file {path} has bodyparts {found}, not {names}; import the files one by one")
        names[:] = names or list(wishes.names) or found
        if set(names) != set(found):
            raise DataError(f"--names gives {list(names)}, but {path} has bodyparts {found}")
        source.images += [_image(row, columns, first, names, path) for row in rows[start:] if any(row)]
    source.limbs = _limbs(paths[0], names)
    return source


def _read(path: Path) -> list[list[str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return [[cell.strip() for cell in row] for row in csv.reader(file)]
    except OSError as error:
        raise DataError(f"label file {path} cannot be read: {error.strerror}; check the path") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"label file {path} is not a table of text ({error}); export it again") from None


def _header(rows: list[list[str]], path: Path, ledger: Ledger) -> tuple[Columns, int, int]:
    """individual -> bodypart -> coordinate -> column; the first column of numbers; the first row of a picture."""
    words = ("scorer", "individuals", "bodyparts", "coords")
    lines = {row[0].lower(): row for row in rows[:4] if row and row[0].lower() in words}
    if not {"scorer", "bodyparts", "coords"} <= lines.keys():
        raise DataError(
            f"label file {path} does not begin with DeepLabCut's scorer, bodyparts and coords; give CollectedData.csv"
        )
    parts, coords, animals = lines["bodyparts"], lines["coords"], lines.get("individuals")
    first = next((i for i, cell in enumerate(coords) if cell == "x"), len(coords))
    columns: Columns = {}
    for i in range(first, min(len(parts), len(coords))):
        animal = animals[i] if animals and i < len(animals) else ""
        columns.setdefault(animal, {}).setdefault(parts[i], {})[coords[i]] = i
    shared = columns.pop("single", None) if len(columns) > 1 else None
    if not columns or any(not {"x", "y"} <= c.keys() for held in columns.values() for c in held.values()):
        raise DataError(f"label file {path} lacks an x or y column for a bodypart; export it again")
    if shared:
        ledger.leave_out("bodyparts of no animal (individual 'single')", f"{path.name}: {', '.join(shared)}")
    return columns, first, len(lines)


def _image(row: list[str], columns: Columns, first: int, names: Sequence[str], path: Path) -> LabelledImage:
    """A line of the table: the picture, in a group with the others of its video."""
    name = slashes("/".join(cell for cell in row[:first] if cell))
    if name.isdigit():
        raise DataError(f"label file {path} has frame numbers for pictures: it is a tracking result, not labels")
    image = LabelledImage(name, path.parent, group=name.rpartition("/")[0] or path.parent.name)
    for animal, parts in columns.items():
        points = blank_points(len(names))
        for part, held in parts.items():
            x, y = (number(row[held[c]]) if held[c] < len(row) else float("nan") for c in ("x", "y"))
            seen = number(row[held["visible"]]) if "visible" in held and held["visible"] < len(row) else 2.0
            points[names.index(part)] = x, y, seen
        if np.isfinite(points[:, 0]).any():
            image.instances.append(Instance(points, where=f"{name} {animal}".strip()))
    return image


def _limbs(path: Path, names: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs of the skeleton in the project's config.yaml, if it lies above the labels."""
    config = next((f / "config.yaml" for f in list(path.resolve().parents)[:3] if (f / "config.yaml").is_file()), None)
    content = read_yaml(config) if config else None
    pairs = content.get("skeleton") if isinstance(content, dict) else None
    known = [p for p in pairs or [] if isinstance(p, list) and len(p) == 2 and set(map(str, p)) <= set(names)]
    return [(names.index(str(a)), names.index(str(b))) for a, b in known]
