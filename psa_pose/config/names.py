"""A config by its name in the folder of configs, `coco/hrnet/hrnet_w32_256x192`, wherever a path is taken."""

from __future__ import annotations

import difflib
from pathlib import Path

from psa_pose.errors import ConfigError
from psa_pose.files import shipped_folder

# End of the names of configs that an earlier version had, and what stands for them now.
_VARIANTS = {
    "_scratch": 'MODEL.PRETRAINED ""',
    "_imagenet": "MODEL.PRETRAINED imagenet",
    "_fig2": "MODEL.ATTENTION.SPATIAL fig2",
}


def config_folder() -> Path:
    """The folder of configs, of the checkout or of the installed package."""
    return shipped_folder("configs")


def config_names() -> list[str]:
    """The names of all configs that can be run, in order: without .yaml, relative to the folder."""
    folder = config_folder()
    paths = sorted(path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml"))
    return [path.as_posix() for path in paths if path.parts[0] != "paper" and not path.name.startswith("_")]


def find_config(path: Path) -> Path:
    """The file at a path, or of that name in the folder of configs, with or without .yaml and `configs/`.

    Raises ConfigError with the name that is meant: where a config was moved, or the nearest.
    """
    if path.is_file():
        return path
    name = path.as_posix().removeprefix("configs/").removesuffix(".yaml")
    found = config_folder() / f"{name}.yaml"
    if found.is_file():
        return found
    raise ConfigError(f"config {path} is neither a file nor the name of one; {suggestion(name)}")


def suggestion(name: str) -> str:
    """The end of an error's sentence: the config that is meant by a wrong name, or where the names are listed."""
    valid = {known.rpartition("/")[2]: known for known in config_names()}
    stem = name.rpartition("/")[2]
    if stem in valid:
        return f"write {valid[stem]}"
    for end, words in _VARIANTS.items():
        if stem.endswith(end) and stem.removesuffix(end) in valid:
            return f"write {valid[stem.removesuffix(end)]} and, at the end of the command, {words}"
    near = difflib.get_close_matches(stem, valid, 1, 0.7)
    return f"did you mean {valid[near[0]]}?" if near else "`psa-pose configs` lists the names"
