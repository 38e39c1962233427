"""Charts as inline SVG: bars and curves that scale with the page. Text is escaped; numbers are 0 to 1 unless said."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

COLOURS = ("#0b62c4", "#c4570b", "#1f8a4c", "#8a1f7b", "#555555", "#b8860b")


def bars(labels: Sequence[str], values: Sequence[float | None], title: str, unit: str = "%") -> str:
    """Horizontal bars, one per label, as long as their share of the greatest; None: no bar. Printed x 100."""
    row, left, width = 22, 170, 640
    height = row * len(labels) + 8
    most = max([abs(v) for v in values if v is not None] + [1e-9])
    parts = [_open(width, height, title)]
    for number, (label, value) in enumerate(zip(labels, values, strict=True)):
        y = 4 + row * number
        parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(label)}</text>')
        if value is not None:
            length = (width - left - 70) * abs(value) / most
            colour = COLOURS[value < 0]
            parts.append(f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="{row - 6}" fill="{colour}"/>')
        text = "-" if value is None else f"{100 * value:.1f} {unit}".strip()
        x = left + 6 + (0 if value is None else (width - left - 70) * abs(value) / most)
        parts.append(f'<text x="{x:.1f}" y="{y + 15}">{text}</text>')
    return "".join(parts) + "</svg>"


def curves(
    x: Sequence[float], lines: Sequence[tuple[str, Sequence[float]]], title: str, labels: tuple[str, str]
) -> str:
    """Lines over x in 0 to 1, with a legend. labels: of the two axes."""
    left, top, side, width, height = 48, 12, 300, 640, 362
    parts = [_open(width, height, title)]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        px, py = left + tick * side * 1.4, top + (1 - tick) * side
        parts.append(f'<path d="M{left} {py:.1f}h{side * 1.4:.0f}M{px:.1f} {top}v{side}" stroke="#ccc" fill="none"/>')
        parts.append(f'<text x="{left - 6}" y="{py + 4:.1f}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text x="{px:.1f}" y="{top + side + 16}" text-anchor="middle">{tick:g}</text>')
    for number, (name, values) in enumerate(lines):
        points = " ".join(
            f"{left + a * side * 1.4:.1f},{top + (1 - b) * side:.1f}" for a, b in zip(x, values, strict=True)
        )
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = top + 14 + 20 * number
        x0 = left + side * 1.4 + 14
        parts.append(f'<rect x="{x0:.0f}" y="{y - 9}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x0 + 20:.0f}" y="{y - 2}">{escape(name)}</text>')
    parts.append(f'<text x="{left + side * 0.7:.0f}" y="{height - 10}" text-anchor="middle">{escape(labels[0])}</text>')
    turned = f"rotate(-90 12 {top + side / 2})"
    parts.append(
        f'<text x="12" y="{top + side / 2}" text-anchor="middle" transform="{turned}">{escape(labels[1])}</text>'
    )
    return "".join(parts) + "</svg>"


def _open(width: int, height: int, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>'
    )
