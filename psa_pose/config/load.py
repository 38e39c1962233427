"""From a YAML file, its _BASE_ chain and command-line overrides to one frozen, checked config."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from psa_pose.config.check import check_config, quarter
from psa_pose.config.choices import AUTO
from psa_pose.config.defaults import default_config
from psa_pose.config.names import find_config
from psa_pose.config.skeleton import joints_of
from psa_pose.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number: YAML 1.1 asks for a dot, and reads it as a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> CfgNode:
    """A config file merged over its _BASE_ chain and the defaults, then the overrides; checked and frozen.

    path: YAML file, or the name of a config, `coco/hrnet/hrnet_w32_256x192`. Its optional `_BASE_` is another one, a
    path relative to it or a name. A dumped config reloads to itself.
    overrides: ["KEY", "value", ...] as typed on a command line; values are YAML (`[192, 256]`, `1e-3`, `true`).
    A stated 0 of MODEL.NUM_JOINTS becomes the skeleton's number, (0, 0) of INPUT.HEATMAP_SIZE a quarter of INPUT.SIZE,
    (0, 0) of INPUT.CROP_SIZE is INPUT.SIZE.
    Raises ConfigError naming the file and the key, the nearest valid key, and what to write instead.
    """
    path = find_config(Path(path))
    config = default_config()
    for file, values in _base_chain(path):
        _merge(values, config, file.name)
    _merge(_from_command_line(overrides), config, "command line")
    config.OUTPUT_DIR = config.OUTPUT_DIR.replace("{config}", path.stem)
    _check_and_complete(config)
    if config.TASK == "pose":
        config.MODEL.NUM_JOINTS = joints_of(config)
    config.freeze()
    return config


def parse_config(text: str, source: str) -> CfgNode:
    """The config that `dump_config` wrote, as a checkpoint holds it; no other file is looked at.

    source: what holds it, for messages. Raises ConfigError as `load_config`.
    """
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: its config is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: its config must hold `KEY: value` lines, not a {type(values).__name__}")
    config = default_config()
    _merge(values, config, source)
    _check_and_complete(config)
    config.freeze()
    return config


def _check_and_complete(config: CfgNode) -> None:
    check_config(config)
    if config.TASK == "pose":
        config.INPUT.HEATMAP_SIZE = quarter(config.INPUT.SIZE)
    elif config.INPUT.CROP_SIZE == (0, 0):
        config.INPUT.CROP_SIZE = config.INPUT.SIZE


def dump_config(config: CfgNode) -> str:
    """The config as YAML text that `load_config` reads back to the same config."""
    return yaml.safe_dump(_plain(config), sort_keys=False)


def _base_chain(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Files to merge with their values, the farthest base first."""
    chain: list[tuple[Path, dict[str, Any]]] = []
    seen: set[Path] = set()
    next_path: Path | None = path
    while next_path is not None:
        if next_path.resolve() in seen:
            raise ConfigError(f"{next_path}: its _BASE_ chain comes back to itself; break the circle")
        seen.add(next_path.resolve())
        values = _read_yaml(next_path)
        base = values.pop("_BASE_", None)
        chain.append((next_path, values))
        next_path = _base_file(next_path, base) if base else None
    return chain[::-1]


def _base_file(path: Path, base: Any) -> Path:
    if not isinstance(base, str):
        raise ConfigError(f"{path}: _BASE_ is {base!r}; write the path of a config file, or the name of a config")
    beside = path.parent / base
    try:
        return beside if beside.is_file() else find_config(Path(base))
    except ConfigError as error:
        raise ConfigError(f"{path}: _BASE_: {error}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}; check --cfg and _BASE_") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"config file {path} must hold `KEY: value` lines, not a {type(values).__name__}")
    return values


def _from_command_line(overrides: Sequence[str]) -> dict[str, Any]:
    if len(overrides) % 2:
        raise ConfigError(f"overrides come as KEY value pairs; {overrides[-1]!r} has no value")
    # A string is taken as typed: "" and 2026-01-01 are not what YAML makes of them.
    texts = {key for key, default in _all_keys(default_config()).items() if isinstance(default, str)} - AUTO.keys()
    nested: dict[str, Any] = {}
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        value = text if key in texts else _parse(text)
        *parents, last = key.split(".")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(
                    f"override {key}: {parent} was given a value before; give either the group or its keys"
                )
        node[last] = value
    return nested


def _parse(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        return text


def _merge(values: dict[str, Any], config: CfgNode, source: str, prefix: str = "") -> None:
    for key, value in values.items():
        full = f"{prefix}{key}"
        if key not in config:
            raise ConfigError(f"{source}: unknown key {full}; {_nearest(full, prefix, config)}")
        if isinstance(config[key], CfgNode):
            if not isinstance(value, dict):
                raise ConfigError(f"{source}: {full} is a group of keys ({', '.join(config[key])}), not a value")
            _merge(value, config[key], source, f"{full}.")
        else:
            config[key] = _typed(value, config[key], full, source)


def _nearest(full: str, prefix: str, config: CfgNode) -> str:
    valid = _all_keys(default_config())
    close = difflib.get_close_matches(full, valid, 1, 0.75)
    # A key typed without its group: LR means TRAIN.OPTIMIZER.LR.
    close = close or [key for key in valid if key.endswith(f".{full.split('.')[-1]}")][:1]
    if close:
        return f"did you mean {close[0]}?"
    return f"valid keys here: {', '.join(prefix + key for key in config)}"


def _all_keys(config: CfgNode, prefix: str = "") -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for key, value in config.items():
        keys |= _all_keys(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else {prefix + key: value}
    return keys


def _typed(value: Any, default: Any, key: str, source: str) -> Any:
    """The value in the type of its default; an integer may stand for a float, a list for a tuple, nothing else.

    Keys of AUTO take "auto" or their own type.
    """
    if key in AUTO:
        if value != "auto" and type(value) is not AUTO[key]:
            wanted = _type_name(AUTO[key]())
            raise ConfigError(f"{source}: {key} must be {wanted}, or 'auto', not {value!r} ({_type_name(value)})")
        return value
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        of = default[0] if default else 0
        return tuple(_typed(item, of, f"{key}[{i}]", source) for i, item in enumerate(value))
    if type(default) is float and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        example = f"[{', '.join(map(str, default))}]" if isinstance(default, tuple) else repr(default)
        raise ConfigError(
            f"{source}: {key} must be {_type_name(default)} such as {example}, not {value!r} ({_type_name(value)})"
        )
    return value


def _type_name(value: Any) -> str:
    names = {
        tuple: "a list",
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "an integer",
        float: "a number",
    }
    return names.get(type(value), type(value).__name__)


def _plain(config: CfgNode) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, CfgNode):
            return _plain(value)
        return list(value) if isinstance(value, tuple) else value

    return {key: plain(value) for key, value in config.items()}
