"""Charts as SVG, of any size: bars and curves for a page, dots as a file by itself. Text is escaped."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape

_COLOURS = ("#0b62c4", "#c4570b", "#1f8a4c", "#8a1f7b", "#555555", "#b8860b", "#d11c4a", "#00838f")
# Of the dots' chart, in its units: the labels' and a panel's width, the space between panels, a row's height, the top.
_LABEL, _PANEL, _GAP, _ROW, _TOP = 150, 300, 40, 24, 40
# Dots farther than this from the first row's mean stand as a number at the panel's edge.
_SHOWN = 6


def bars(labels: Sequence[str], values: Sequence[float | None], title: str, unit: str = "%") -> str:
    """Horizontal bars, one per label, as long as their share of the greatest; None: no bar. Printed x 100."""
    row, left, width = 22, 170, 640
    most = max([abs(v) for v in values if v is not None] + [1e-9])
    parts = []
    for number, (label, value) in enumerate(zip(labels, values, strict=True)):
        y = 4 + row * number
        length = 0 if value is None else (width - left - 70) * abs(value) / most
        parts.append(_text(left - 8, y + 15, label, "end"))
        if value is not None:
            colour = _COLOURS[value < 0]
            parts.append(f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="{row - 6}" fill="{colour}"/>')
        text = "-" if value is None else f"{100 * value:.1f} {unit}".strip()
        parts.append(_text(left + 6 + length, y + 15, text))
    return _svg(width, row * len(labels) + 8, title, parts)


def curves(
    x: Sequence[float], lines: Sequence[tuple[str, Sequence[float]]], title: str, labels: tuple[str, str]
) -> str:
    """Lines over x, all values 0 to 1, with a legend. labels: of the two axes."""
    left, top, side, width, height = 48, 12, 300, 640, 362
    right = left + side * 1.4
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        px, py = left + tick * side * 1.4, top + (1 - tick) * side
        parts.append(f'<path d="M{left} {py:.1f}h{side * 1.4:.0f}M{px:.1f} {top}v{side}" stroke="#ccc" fill="none"/>')
        parts.append(_text(left - 6, py + 4, f"{tick:g}", "end"))
        parts.append(_text(px, top + side + 16, f"{tick:g}", "middle"))
    for number, (name, values) in enumerate(lines):
        points = " ".join(
            f"{left + a * side * 1.4:.1f},{top + (1 - b) * side:.1f}" for a, b in zip(x, values, strict=True)
        )
        colour, y = _COLOURS[number % len(_COLOURS)], top + 14 + 20 * number
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<rect x="{right + 14:.0f}" y="{y - 9}" width="14" height="4" fill="{colour}"/>')
        parts.append(_text(right + 34, y - 2, name))
    parts.append(_text(left + side * 0.7, height - 10, labels[0], "middle"))
    middle = top + side / 2
    parts.append(_text(12, middle, labels[1], "middle", f' transform="rotate(-90 12 {middle})"'))
    return _svg(width, height, title, parts)


def dots(labels: Sequence[str], panels: Mapping[str, Sequence[Sequence[float]]], title: str) -> str:
    """A file with a panel per entry, a row per label: its values as rings, their mean as a bar.

    The grey band is the first row's mean plus and minus one standard deviation.
    """
    width, height = _LABEL + len(panels) * (_PANEL + _GAP), _TOP + _ROW * len(labels) + 44
    parts = [f'<rect width="{width}" height="{height}" fill="white"/>']
    for number, label in enumerate(labels):
        parts.append(_text(_LABEL - 10, _middle(number) + 4, label, "end"))
    for number, (name, rows) in enumerate(panels.items()):
        parts += _panel(_LABEL + number * (_PANEL + _GAP), name, rows)
    more = f' width="{width}" font-family="sans-serif" font-size="12"'
    return _svg(width, height, title, parts, more) + "\n"


def differences(labels: Sequence[str], series: Mapping[str, Sequence[tuple[float, float, float]]], title: str) -> str:
    """A file with a group of rows per label, a row per series in it: a value as a dot on the line of its interval.

    series: name -> (value, low, high) of each label. The line of no difference is drawn through.
    """
    row, gap, left, right, top = 14, 10, _LABEL, 480, 50
    spans = [span for each in series.values() for span in each]
    low, high = min(0.0, *(span[1] for span in spans)), max(0.0, *(span[2] for span in spans))
    group = row * len(series) + gap
    width, bottom = left + right + 20, top + group * len(labels)
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if (high - low) / s <= 10 or s == 50)

    def x(value: float) -> float:
        return left + right * (value - low) / max(high - low, 1e-9)

    parts = [f'<rect width="{width}" height="{bottom + 40}" fill="white"/>', _text(left, 16, title)]
    for tick in range(math.ceil(low / step), math.floor(high / step) + 1):
        style = 'stroke="#333"' if tick == 0 else 'stroke="#ccc" stroke-dasharray="2 3"'
        parts.append(f'<path d="M{x(tick * step):.1f} {top - 6}V{bottom}" {style}/>')
        parts.append(_text(x(tick * step), bottom + 16, f"{tick * step:+g}" if tick else "0", "middle"))
    for number, (name, each) in enumerate(series.items()):
        colour, place = _COLOURS[number % len(_COLOURS)], left + number * right / len(series)
        parts.append(f'<circle cx="{place + 4:.1f}" cy="32" r="4" fill="{colour}"/>')
        parts.append(_text(place + 12, 36, name))
        for index, (value, lowest, highest) in enumerate(each):
            y = top + group * index + row * number + row / 2
            parts.append(f'<path d="M{x(lowest):.1f} {y:.1f}H{x(highest):.1f}" stroke="{colour}" stroke-width="2"/>')
            parts.append(f'<circle cx="{x(value):.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
    for index, label in enumerate(labels):
        parts.append(_text(left - 10, top + group * index + (group - gap) / 2 + 4, label, "end"))
    more = f' width="{width}" font-family="sans-serif" font-size="12"'
    return _svg(width, bottom + 40, title, parts, more) + "\n"


def _panel(left: float, name: str, rows: Sequence[Sequence[float]]) -> list[str]:
    mean = statistics.mean(rows[0])
    near = [value for row in rows for value in row if abs(value - mean) <= _SHOWN]
    low, high = math.floor(min(near)) - 0.5, math.ceil(max(near)) + 0.5
    bottom = _TOP + _ROW * len(rows)

    def x(value: float) -> float:
        return left + _PANEL * (value - low) / (high - low)

    deviation = statistics.stdev(rows[0]) if rows[0][1:] else 0.0
    start, end = x(mean - deviation), x(mean + deviation)
    parts = [
        _text(left + _PANEL / 2, _TOP - 16, name, "middle", ' font-weight="bold"'),
        f'<rect x="{start:.1f}" y="{_TOP}" width="{end - start:.1f}" height="{bottom - _TOP}" fill="#ddd"/>',
    ]
    for tick in range(math.ceil(low), int(high) + 1):
        parts.append(f'<path d="M{x(tick):.1f} {_TOP}V{bottom}" stroke="#bbb" stroke-dasharray="2 3"/>')
        parts.append(_text(x(tick), bottom + 16, f"{tick}", "middle"))
    for number, row in enumerate(rows):
        y, middle = _middle(number), statistics.mean(row)
        if low < middle < high:
            parts.append(f'<path d="M{x(middle):.1f} {y - 8}v16" stroke="{_COLOURS[0]}" stroke-width="3"/>')
        ring = f'r="4" fill="none" stroke="{_COLOURS[1]}" stroke-width="1.5"'
        parts += [f'<circle cx="{x(value):.1f}" cy="{y}" {ring}/>' for value in row if low < value < high]
        below, above = _numbers([v for v in row if v <= low]), _numbers([v for v in row if v >= high])
        parts += [_text(left + 4, y + 4, f"< {below}", more=f' fill="{_COLOURS[1]}"')] if below else []
        parts += [_text(left + _PANEL - 4, y + 4, f"{above} >", "end", f' fill="{_COLOURS[1]}"')] if above else []
    return parts


def _middle(row: int) -> float:
    return _TOP + _ROW * row + _ROW / 2


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in sorted(values))


def _text(x: float, y: float, text: str, anchor: str = "start", more: str = "") -> str:
    """Text that begins, ends or has its middle at x; more: further attributes."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _svg(width: int, height: int, title: str, parts: Sequence[str], more: str = "") -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg"{more}><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )
