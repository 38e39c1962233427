"""From the config to data sets of pictures: which split, which labels, what is done with a file that is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.errors import ConfigError, closest
from psa_pose.run_log import Info, report_problems
from psa_pose.segmentation.cityscapes_classes import CITYSCAPES
from psa_pose.segmentation.classes import VOC, ClassList, read_classes
from psa_pose.segmentation.data import synthetic
from psa_pose.segmentation.data.augment import SegmentationAugmentation
from psa_pose.segmentation.data.cityscapes import cityscapes_list, cityscapes_pictures
from psa_pose.segmentation.data.class_uniform import ClassPlaces
from psa_pose.segmentation.data.dataset import LabelReader, SegmentationDataset, find_places
from psa_pose.segmentation.data.label_files import cityscapes_table, index_table
from psa_pose.segmentation.data.pictures import Pictures, check_disjoint, folder_pictures, missing_files
from psa_pose.segmentation.data.voc import voc_pictures

# Of the embedded data set, where the config asks for it and it is not there.
SYNTHETIC_SIZES, SYNTHETIC_IMAGE = {"train": 1000, "val": 100}, (128, 96)
CLASS_LISTS = {"voc": VOC, "cityscapes": CITYSCAPES, "synthetic": synthetic.SYNTHETIC}


@dataclass(frozen=True)
class SegmentationTestSet:
    """Pictures to test on. protocol: how the network is asked about them. split: what they are called."""

    protocol: str
    split: str
    dataset: SegmentationDataset


def build_classes(cfg: CfgNode) -> ClassList:
    """The classes that DATASET.CLASSES names. Raises ConfigError where MODEL.NUM_CLASSES is another number."""
    word = cfg.DATASET.CLASSES
    if word not in CLASS_LISTS and not word.endswith((".yaml", ".yml")):
        raise ConfigError(f"DATASET.CLASSES is {word!r}, which is no .yaml file either; {closest(word, CLASS_LISTS)}")
    classes = CLASS_LISTS[word] if word in CLASS_LISTS else read_classes(_root(cfg) / word)
    if len(classes) != cfg.MODEL.NUM_CLASSES:
        raise ConfigError(
            f"MODEL.NUM_CLASSES is {cfg.MODEL.NUM_CLASSES} but DATASET.CLASSES {word} has {len(classes)} classes; "
            f"write MODEL.NUM_CLASSES {len(classes)}"
        )
    return classes


def build_train_set(cfg: CfgNode, info: Info) -> SegmentationDataset:
    """The training pictures with their augmentation.

    Raises DataError for files that cannot be used, and for a picture that is tested on too, unless the two splits are
    one and the same: then what is learnt by heart is what is asked for.
    """
    options = cfg.AUGMENT
    _draw_synthetic(cfg)
    pictures, tested = find_pictures(cfg, "TRAIN"), find_pictures(cfg, "TEST")
    if pictures.source == tested.source:
        info(f"note: training and testing on the same pictures, of {pictures.source}")
    else:
        _check_disjoint(cfg, pictures, tested)
    if not pictures.labels:
        raise ConfigError(f"{pictures.source} has no labels to learn from; train on another split")
    pictures, reader = _usable(cfg, pictures, info), build_reader(cfg)
    places = _places(cfg, pictures, reader, info) if options.CLASS_UNIFORM_PROB else None
    augmentation = SegmentationAugmentation(
        scale=options.SCALE_RANGE,
        scale_step=options.SCALE_STEP,
        flip_prob=options.FLIP_PROB,
        color=options.COLOR,
        class_uniform_prob=options.CLASS_UNIFORM_PROB,
    )
    return _dataset(cfg, pictures, reader, augmentation, options.PAD_LABEL, places)


def build_test_sets(cfg: CfgNode, info: Info, protocols: tuple[str, ...]) -> list[SegmentationTestSet]:
    """The test pictures, once per protocol. Raises DataError for files that cannot be used."""
    _draw_synthetic(cfg)
    pictures = _usable(cfg, find_pictures(cfg, "TEST"), info)
    dataset, split = _dataset(cfg, pictures, build_reader(cfg)), split_name(cfg)
    return [SegmentationTestSet(protocol, split, dataset) for protocol in protocols]


def find_pictures(cfg: CfgNode, which: str) -> Pictures:
    """The pictures of "TRAIN" or "TEST". Raises DataError where there are none, or their list is wrong."""
    data, root = cfg.DATASET, _root(cfg)
    split = data[f"{which}_SPLIT"]
    if data.FORMAT == "voc":
        return voc_pictures(root, split)
    if data.FORMAT == "cityscapes":
        return cityscapes_pictures(root, split, data.LABELS)
    if data.FORMAT == "cityscapes_list":
        return cityscapes_list(root, root / split)
    if data.FORMAT == "synthetic":
        return folder_pictures(synthetic.image_folder(root, split), synthetic.label_folder(root, split))
    labels = data[f"{which}_LABELS"]
    return folder_pictures(root / data[f"{which}_IMAGES"], root / labels if labels else None)


def build_reader(cfg: CfgNode) -> LabelReader:
    """How the label files of the config's format become classes."""
    classes = cfg.MODEL.NUM_CLASSES
    table = cityscapes_table() if cfg.DATASET.FORMAT.startswith("cityscapes") else index_table(classes)
    return LabelReader(table, classes)


def split_name(cfg: CfgNode) -> str:
    """Of the test pictures, in tables and file names."""
    data = cfg.DATASET
    return Path(data.TEST_IMAGES if data.FORMAT == "folder" else data.TEST_SPLIT).stem


def _dataset(
    cfg: CfgNode,
    pictures: Pictures,
    reader: LabelReader,
    augmentation: SegmentationAugmentation | None = None,
    pad_label: str = "ignore",
    places: ClassPlaces | None = None,
) -> SegmentationDataset:
    size, order = cfg.INPUT.CROP_SIZE, cfg.INPUT.CHANNEL_ORDER
    return SegmentationDataset(pictures, reader, size, order, augmentation, cfg.SEED, pad_label, places)


def _check_disjoint(cfg: CfgNode, train: Pictures, test: Pictures) -> None:
    """Pictures of a data set are told apart by their ids; those of folders by their files."""
    if cfg.DATASET.FORMAT in ("folder", "synthetic"):
        train, test = (replace(some, names=tuple(str(p.resolve()) for p in some.images)) for some in (train, test))
    check_disjoint(train, test)


def _usable(cfg: CfgNode, pictures: Pictures, info: Info) -> Pictures:
    there, problems = missing_files(pictures)
    report_problems(problems, cfg.DATASET.ON_ERROR, info)
    return pictures.select(there)


def _places(cfg: CfgNode, pictures: Pictures, reader: LabelReader, info: Info) -> ClassPlaces:
    places, problems = find_places(pictures, reader, cfg.AUGMENT.CLASS_UNIFORM_TILE)
    report_problems(problems, cfg.DATASET.ON_ERROR, info)
    return places


def _draw_synthetic(cfg: CfgNode) -> None:
    """Draw the embedded data set where there is none yet: by one process, while the others wait."""
    root = _root(cfg)
    if cfg.DATASET.FORMAT == "synthetic":
        if distributed.is_main() and not synthetic.is_complete(root):
            synthetic.generate(root, SYNTHETIC_SIZES, image_size=SYNTHETIC_IMAGE)
        distributed.barrier()


def _root(cfg: CfgNode) -> Path:
    return Path(cfg.DATASET.ROOT).expanduser()
