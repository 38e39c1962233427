"""`psa-pose configs`: what configs there are, how large their networks are, and what AP is published for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from psa_pose.config import load_config
from psa_pose.config.names import config_folder, config_names, suggestion
from psa_pose.errors import ConfigError
from psa_pose.models.complexity import meta_model
from psa_pose.tables import format_columns

HEADER = ("name", "input", "M parameters", "published")
LEGEND = (
    "input: height x width, pixels. published: what the config's paper or project states, on COCO val2017 with flip "
    "test\nunless told; -: nothing is published."
)


@dataclass(frozen=True)
class ConfigRow:
    """A config as the list shows it.

    name: as --cfg takes it. input_size: (width, height), pixels. params: learned numbers of its network.
    published: the figures of the config's first lines with their boxes; "" where none is published.
    """

    name: str
    input_size: tuple[int, int]
    params: int
    published: str


def list_configs(word: str = "") -> list[ConfigRow]:
    """The configs whose names hold a word, upper case or lower. Raises ConfigError where none does."""
    names = [name for name in config_names() if word.casefold() in name.casefold()]
    if not names:
        raise ConfigError(f"no config has {word!r} in its name; {suggestion(word)}")
    params: dict[str, int] = {}
    rows = []
    for name in names:
        cfg = load_config(name)
        # Configs that differ in the input's size, or in what they start from, share a network.
        network = f"{cfg.TASK} {cfg.MODEL.clone()} {cfg.CODEC.NAME}".replace(cfg.MODEL.PRETRAINED or "''", "")
        if network not in params:
            params[network] = sum(p.numel() for p in meta_model(cfg).parameters())
        head = (config_folder() / f"{name}.yaml").read_text(encoding="utf-8")
        rows.append(ConfigRow(name, cfg.INPUT.SIZE, params[network], published(head)))
    return rows


def published(text: str) -> str:
    """The figures that a config expects, its first lines "Expected on val2017, flip test: 72.0 AP with ..."; or ""."""
    head = re.match(r"(#.*\n)*", text)
    assert head is not None
    told = re.search(r"Expected(?: on ([^:(]*))?[^:]*: (.+?)(?:\. [A-Z]|\.?$)", head[0].replace("\n# ", " ").strip())
    if not told:
        return ""
    where = (told[1] or "").strip()
    return told[2] if where in ("", "val2017, flip test") else f"{told[2]} ({where})"


def format_configs(rows: Sequence[ConfigRow]) -> str:
    """The list as aligned text."""
    cells = []
    for row in rows:
        width, height = row.input_size
        cells.append([row.name, f"{height}x{width}", f"{row.params / 1e6:.3f}", row.published or "-"])
    return f"{format_columns(HEADER, cells, left=len(HEADER))}\n\n{LEGEND}"
