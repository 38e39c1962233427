"""Pages of one HTML file each: everything inline, nothing fetched, readable on a phone."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from psa_pose.visualization.draw import jpeg_bytes

_STYLE = """
:root{color-scheme:light}body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;padding:0 .8rem 3rem;
color:#1a1a1a;background:#fff}h1{font-size:1.35rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin-top:2rem;
border-bottom:1px solid #ccc}.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;
font-size:.92rem}td,th{padding:.2rem .55rem;text-align:right;white-space:nowrap;border-bottom:1px solid #e4e4e4}
td:first-child,th:first-child{text-align:left;white-space:normal}
svg{width:100%;max-width:640px;height:auto;font:12px system-ui,sans-serif}
.figures{display:grid;gap:1rem}figure{margin:0}
.strip{display:flex;gap:3px}.strip img{width:0;min-width:0;height:auto}figcaption{font-size:.85rem;
overflow-wrap:anywhere}
.note{color:#444;font-size:.9rem}@media(max-width:40rem){svg{font-size:17px}td,th{padding:.2rem .35rem}}
"""


@dataclass(frozen=True)
class Figure:
    """What there is to see of one person.

    pictures: (H, W, 3) uint8 RGB each, shown side by side.
    lines: the caption.
    """

    pictures: Sequence[np.ndarray]
    lines: Sequence[str]


def page(title: str, body: Sequence[str], width: int = 60) -> str:
    """The page's text: parts of HTML, one below the other, at most `width` rem wide."""
    return "\n".join(
        [
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            f"<title>{escape(title)}</title><style>{_STYLE}body{{max-width:{width}rem}}</style></head><body>",
            *filter(None, body),
            "</body></html>",
        ]
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells of plain text; a table that is too wide scrolls by itself."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<div class='wide'><table>{line(header, 'th')}{''.join(line(row, 'td') for row in rows)}</table></div>"


def note(text: str) -> str:
    """A paragraph of small print; nothing for an empty text."""
    return f"<p class='note'>{escape(text)}</p>" if text else ""


def figure_grid(figures: Sequence[Figure], width: int = 19) -> str:
    """Figures in as many columns, `width` rem wide each, as there is room for."""
    parts = "".join(
        f"<figure><div class='strip'>{''.join(map(_image, figure.pictures))}</div>"
        f"<figcaption>{'<br>'.join(map(escape, figure.lines))}</figcaption></figure>"
        for figure in figures
    )
    columns = f"grid-template-columns:repeat(auto-fill,minmax(min(100%,{width}rem),1fr))"
    return f"<div class='figures' style='{columns}'>{parts or 'none'}</div>"


def _image(picture: np.ndarray) -> str:
    """Pictures of a strip share its width by their aspect ratios, so that they are equally high."""
    height, width = picture.shape[:2]
    data = base64.b64encode(jpeg_bytes(picture)).decode()
    flex = f"flex:{width / height:.3f} 1 0"
    return f"<img alt='' width='{width}' height='{height}' style='{flex}' src='data:image/jpeg;base64,{data}'>"
