"""`tools/import_dataset.py`: what a label tool wrote, recognised by itself, into one clean COCO keypoints file."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from psa_pose.errors import ConfigError, DataError
from psa_pose.label_import.clean import CleanImage, clean
from psa_pose.label_import.formats.coco import is_coco, read_coco
from psa_pose.label_import.formats.deeplabcut import read_deeplabcut
from psa_pose.label_import.formats.label_studio import is_label_studio, read_label_studio
from psa_pose.label_import.formats.labelme import is_labelme, read_labelme
from psa_pose.label_import.formats.yolo import is_yolo, read_yaml, read_yolo
from psa_pose.label_import.records import Ledger, Source, Wishes, read_label_json
from psa_pose.label_import.write import Pairs, choose_split, chosen_pairs, write_all
from psa_pose.tables import format_columns

FORMS = (
    "COCO (CVAT, Label Studio, COCO Annotator, Roboflow, SLEAP), Label Studio's JSON, labelme's folder, a YOLO pose "
    "folder or data.yaml, DeepLabCut's CSV"
)
REMEDIES = {
    ".h5": "give the CollectedData .csv that DeepLabCut writes beside it, or SLEAP's COCO export",
    ".hdf5": "give the .csv or COCO file of the same labels",
    ".slp": "export the labels from SLEAP in COCO's form",
    ".pkl": "pickled files are never read; export a .csv or COCO file",
    ".xml": "export from CVAT as COCO Keypoints 1.0",
    ".zip": "unpack it and give the folder",
}


@dataclass(frozen=True)
class ImportOptions:
    """What `tools/import_dataset.py --help` says of each."""

    out: Path
    images: Path | None = None
    split: str = ""
    seed: int = 0
    group_by: str = "auto"
    names: tuple[str, ...] = ()
    category: str = ""
    flip: str = ""


def run_import(path: Path, options: ImportOptions, info: Callable[[str], None] = print) -> Ledger:
    """Read labels, write the data set into `options.out`, tell what was done; the ledger of it.

    Raises DataError where labels or pictures cannot be used, ConfigError for options that make no sense.
    """
    if options.images is not None and not options.images.is_dir():
        raise ConfigError(f"--images {options.images} is no folder; name the folder that holds the labelled pictures")
    if path.parent.resolve() == options.out.resolve() or path.resolve() == options.out.resolve():
        raise ConfigError(f"--out {options.out} is where the labels lie; give another folder, so that none is replaced")
    ledger = Ledger()
    source = read_source(path, options, ledger)
    _check_names(source, path)
    read = sum(len(image.instances) for image in source.images)
    pairs = chosen_pairs(source, options.flip)
    images = clean(source, ledger)
    if not any((i.points[:, 2] > 0).any() for image in images for i in image.instances):
        raise DataError(f"{path}: no picture that is there has an instance with a labelled keypoint; {_why(ledger)}")
    splits = choose_split(images, options.split, options.seed, options.group_by)
    counts = write_all(source, images, splits, pairs, options.out)
    info(_table(source, read, images, pairs, ledger, counts))
    for note in [*ledger.notes, *_notes(source, pairs, splits, options)]:
        info(f"note: {note}")
    info(_next_commands(pairs, options.out))
    return ledger


def _check_names(source: Source, path: Path) -> None:
    """Raise DataError for keypoint names that a skeleton cannot have."""
    odd = [name for name in source.names if not name or not name.isprintable()]
    twice = [name for name in source.names if source.names.count(name) > 1]
    if odd or twice:
        what = f"{odd[0]!r} is not printable" if odd else f"{twice[0]!r} is there twice"
        raise DataError(
            f"{path}: the keypoint name {what}; rename it in the label tool, or name all with --names a,b,c"
        )
    if not source.category.isprintable() or not source.category:
        source.category = "person"


def read_source(path: Path, options: ImportOptions, ledger: Ledger) -> Source:
    """The labels at a path, whatever form they have. Raises DataError for what is none of FORMS."""
    wishes = Wishes(options.names, options.category)
    if path.is_dir():
        return _read_folder(path, options, wishes, ledger)
    if not path.is_file():
        raise DataError(f"label file {path} is not there; check the path")
    suffix, root = path.suffix.lower(), options.images or path.parent
    if suffix in REMEDIES:
        raise DataError(f"label file {path} is of a form that is not read here; {REMEDIES[suffix]}")
    if suffix in (".yaml", ".yml") and is_yolo(read_yaml(path)):
        return _yolo(path, options, wishes, ledger)
    if suffix == ".csv":
        return read_deeplabcut([path], options.images or _project(path), wishes, ledger)
    content = read_label_json(path) if suffix == ".json" else None
    if is_coco(content):
        return read_coco([path], options.images or _above_annotations(path.parent), wishes, ledger)
    if is_label_studio(content):
        return read_label_studio(path, root, wishes, ledger)
    if is_labelme(content):
        return read_labelme([path], root, wishes, ledger)
    raise DataError(f"label file {path} is of no known form; known are {FORMS}")


def _read_folder(path: Path, options: ImportOptions, wishes: Wishes, ledger: Ledger) -> Source:
    root = options.images or path
    for file in sorted([*path.glob("*.yaml"), *path.glob("*.yml")]):
        if is_yolo(read_yaml(file)):
            return _yolo(file, options, wishes, ledger)
    tables = sorted(path.rglob("CollectedData*.csv")) or sorted(path.glob("*.csv"))
    if tables:
        return read_deeplabcut(tables, root, wishes, ledger)
    # What an earlier import wrote is no label file.
    out = options.out.resolve()
    files = [file for file in sorted(path.rglob("*.json")) if out not in file.resolve().parents]
    contents = {file: read_label_json(file) for file in files}
    coco = [file for file in files if is_coco(contents[file])]
    labelme = [file for file in files if is_labelme(contents[file])]
    tasks = [file for file in files if is_label_studio(contents[file])]
    if coco and not labelme:
        return read_coco(coco, root, wishes, ledger)
    if labelme and not coco:
        return read_labelme(labelme, root, wishes, ledger)
    if len(tasks) == 1 and not coco:
        return read_label_studio(tasks[0], root, wishes, ledger)
    refused = next((p for p in sorted(path.rglob("*")) if p.suffix.lower() in REMEDIES), None)
    remedy = f"; {refused.name}: {REMEDIES[refused.suffix.lower()]}" if refused else ""
    raise DataError(f"folder {path} holds no labels of one known form; known are {FORMS}{remedy}")


def _yolo(path: Path, options: ImportOptions, wishes: Wishes, ledger: Ledger) -> Source:
    if options.images is not None:
        raise ConfigError(f"--images is not for YOLO folders: {path} names them; write their place as `path` in it")
    return read_yolo(path, wishes, ledger)


def _above_annotations(folder: Path) -> Path:
    """Pictures lie beside the folder annotations in COCO's and CVAT's layout."""
    return folder.parent if folder.name == "annotations" else folder


def _project(path: Path) -> Path:
    """The folder above labeled-data, to which DeepLabCut's paths are relative; else the table's own."""
    above = [f for f in path.resolve().parents if f.name == "labeled-data"]
    return above[0].parent if above else path.parent


def _table(
    source: Source, read: int, images: Sequence[CleanImage], pairs: Pairs | None, ledger: Ledger, counts: dict[str, int]
) -> str:
    """Aligned text: what was read, changed, left out (with the first of each) and written."""
    instances = [i for image in images for i in image.instances]
    rows = [("read", f"{source.form}: pictures", len(source.images)), ("read", f"instances ({source.category})", read)]
    rows += [("done", what, count) for what, count in ledger.done.items()]
    rows += [("not used", f"{reason}; first: {where[0]}", len(where)) for reason, where in ledger.unused.items()]
    rows += [
        ("written", "instances", len(instances)),
        ("written", "labelled keypoints", sum(int((i.points[:, 2] > 0).sum()) for i in instances)),
        ("written", f"keypoints: {_shortened(source.names)}", len(source.names)),
        ("written", "mirror pairs", len(pairs or [])),
        *(("written", f"pictures in {name}", count) for name, count in counts.items()),
    ]
    return format_columns(("", "what", "count"), [(a, b, f"{c:,}") for a, b, c in rows], left=2)


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def _notes(source: Source, pairs: Pairs | None, splits: Sequence[str], options: ImportOptions) -> list[str]:
    notes = []
    if pairs is None:
        notes.append(
            f"the names do not tell which keypoints change places in a mirror: write flip into "
            f"{options.out / 'skeleton.yaml'} (`flip: []` for none), or import again with --flip a:b,c:d or --flip none"
        )
    if not any(splits):
        own = ", --split source takes the labels' own" if all(image.split for image in source.images) else ""
        notes.append(f"the config trains and tests on the same pictures; --split 0.2 holds a fifth out{own}")
    return notes


def _next_commands(pairs: Pairs | None, out: Path) -> str:
    config = shlex.quote(str(out / "config.yaml"))
    lines = ["next:" if pairs is not None else "next, when flip is there:"]
    lines += [f"  psa-pose {word} --cfg {config}" for word in ("check-dataset", "browse", "train")]
    return "\n".join(lines)


def _why(ledger: Ledger) -> str:
    reasons = [f"{len(where)} {reason}" for reason, where in ledger.unused.items()]
    return "not used: " + "; ".join(reasons) if reasons else "label some keypoints first"
