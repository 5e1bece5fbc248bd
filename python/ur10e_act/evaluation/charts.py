"""Charts as inline SVG: axes with readable ticks, lines, bars.

Colours are CSS classes, so that a page can have a dark side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from operator import itemgetter
from typing import TypeGuard

MAX_POINTS = 1500  # A line with more is downsampled; a chart is not wider than that in pixels.


def format_number(value: float | None, digits: int = 3) -> str:
    """A figure with ``digits`` significant digits, by an exponent only far from 1; – for none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -5 <= exponent < 6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def linear_ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round numbers within [low, high]."""
    rough = (high - low) / max(count, 1)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers within [low, high] > 0 for a logarithmic axis, at most about eight."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [
            m * 10.0**e for e in exponents for m in mantissas if low * 0.999 <= m * 10.0**e <= high * 1.001
        ]
        if len(ticks) <= 8:
            return ticks
    return ticks[:: math.ceil(len(ticks) / 8)]


def tick_label(value: float) -> str:
    """Shortest decimal text of a tick."""
    return f"{value:.6g}".replace("-", "−")


def downsample(xs: Sequence[float], ys: Sequence[float | None]) -> tuple[list[float], list[float | None]]:
    """At most ``MAX_POINTS`` points, keeping every stretch's extremes."""
    if len(xs) <= MAX_POINTS:
        return list(xs), list(ys)
    width = math.ceil(2 * len(xs) / MAX_POINTS)
    keep: list[int] = []
    for start in range(0, len(xs), width):
        stretch = [(i, y) for i, y in enumerate(ys[start : start + width], start) if _drawable(y)]
        if stretch:
            lowest, highest = min(stretch, key=itemgetter(1)), max(stretch, key=itemgetter(1))
            keep += sorted({lowest[0], highest[0]})
    return [xs[i] for i in keep], [ys[i] for i in keep]


def _drawable(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


class Chart:
    """One pair of axes. Sizes in px of the SVG's own coordinates; data coordinates everywhere else."""

    def __init__(
        self,
        width: int,
        height: int,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        label: str,
        x_label: str = "",
        y_label: str = "",
        title: str = "",
        note: str = "",
        log_y: bool = False,
        x_ticks: int = 8,
        y_ticks: int = 5,
        y_axis: bool = True,
        y_whole: bool = False,
        margins: tuple[int, int, int, int] | None = None,
    ) -> None:
        """``label`` is for screen readers; ``title`` and ``note`` stand above the axes, left and right;
        ``y_whole`` leaves out fractions, for counts.
        """
        self.width, self.height, self.log_y, self.label = width, height, log_y, label
        top, right, bottom, left = margins or (24 if title or note else 10, 12, 44 if x_label else 24, 58)
        self.left, self.right, self.top, self.bottom = left, width - right, top, height - bottom
        self.x_range, self.y_range = _widened(x), _widened(y)
        self.parts: list[str] = []
        if y_axis:
            ticks = log_ticks(*self.y_range) if log_y else linear_ticks(*self.y_range, y_ticks)
            for tick in ticks:
                if y_whole and tick != int(tick):
                    continue
                self.parts.append(self._segment("grid", self.left, self.y(tick), self.right, self.y(tick)))
                self.text(self.left - 7, self.y(tick) + 4, tick_label(tick), "tick end")
        for tick in linear_ticks(*self.x_range, x_ticks):
            self.parts.append(self._segment("axis", self.x(tick), self.bottom, self.x(tick), self.bottom + 4))
            self.text(self.x(tick), self.bottom + 17, tick_label(tick), "tick middle")
        self.parts.append(self._segment("axis", self.left, self.bottom, self.right, self.bottom))
        if x_label:
            self.text((self.left + self.right) / 2, height - 6, x_label, "name middle")
        if y_label:
            middle = (self.top + self.bottom) / 2
            self.parts.append(
                f'<text class="name middle" transform="rotate(-90 13 {middle:.1f})" x="13" y="{middle:.1f}">'
                f"{escape(y_label)}</text>"
            )
        if title:
            self.text(self.left, 15, title, "title")
        if note:
            self.text(self.right, 15, note, "tick end")

    def x(self, value: float) -> float:
        """Pixel column of a data value."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Pixel row of a data value."""
        low, high = self.y_range
        if self.log_y:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def _segment(self, css: str, x1: float, y1: float, x2: float, y2: float) -> str:
        return f'<path class="{css}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'

    def text(self, x: float, y: float, text: str, css: str) -> None:
        """Text at a pixel position; ``css`` may hold end or middle."""
        self.parts.append(f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>')

    def line(self, xs: Sequence[float], ys: Sequence[float | None], css: str) -> None:
        """A line in data coordinates, broken where there is no value."""
        path, pen_down = [], False
        for x, y in zip(*downsample(xs, ys), strict=True):
            if not _drawable(y):
                pen_down = False
                continue
            path.append(f"{'L' if pen_down else 'M'}{self.x(x):.1f} {self.y(y):.1f}")
            pen_down = True
        self.parts.append(f'<path class="line {css}" d="{"".join(path)}"/>')

    def dots(self, xs: Iterable[float], ys: Iterable[float | None], css: str, radius: float = 2.6) -> None:
        """A dot per value."""
        for x, y in zip(xs, ys, strict=True):
            if _drawable(y):
                self.parts.append(
                    f'<circle class="{css}" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{radius}"/>'
                )

    def level(self, y: float, css: str) -> None:
        """A horizontal line over the whole width."""
        self.parts.append(self._segment(f"line {css}", self.left, self.y(y), self.right, self.y(y)))

    def mark(self, x: float, css: str, text: str = "", row: int = 0) -> None:
        """A vertical line over the whole height, its text above the axes; ``row`` keeps texts apart."""
        self.parts.append(self._segment(f"line {css}", self.x(x), self.top, self.x(x), self.bottom))
        if text:
            before = self.x(x) > (self.left + self.right) / 2
            self.text(
                self.x(x) + (3 if before else -3),
                self.top - 7 - 16 * row,
                text,
                "note end" if before else "note",
            )

    def bars(self, edges: Sequence[float], heights: Sequence[float], css: str) -> None:
        """Bars between consecutive edges, standing on the x axis."""
        for left, right, height in zip(edges, edges[1:], heights, strict=False):
            if height > 0:
                x, y = self.x(left), self.y(height)
                width = max(self.x(right) - x - 0.6, 0.8)
                self.parts.append(
                    f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                    f'height="{self.bottom - y:.1f}"/>'
                )

    def outline(
        self, edges: Sequence[float], heights: Sequence[float], base: float, rise: float, css: str
    ) -> None:
        """A filled histogram standing on the pixel row ``base``, its highest bin ``rise`` px high."""
        peak = max(max(heights), 1)
        path = [f"M{self.x(edges[0]):.1f} {base:.1f}"]
        for left, right, height in zip(edges, edges[1:], heights, strict=False):
            y = base - height / peak * rise
            path.append(f"L{self.x(left):.1f} {y:.1f}L{self.x(right):.1f} {y:.1f}")
        path.append(f"L{self.x(edges[-1]):.1f} {base:.1f}Z")
        self.parts.append(f'<path class="{css}" d="{"".join(path)}"/>')

    def svg(self) -> str:
        """The chart as one element, as wide as its container."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.label)}">'
            f"{''.join(self.parts)}</svg>"
        )


def _widened(limits: tuple[float, float]) -> tuple[float, float]:
    """Limits that differ, so that constant data has an axis, too."""
    low, high = limits
    if high > low:
        return low, high
    margin = abs(low) * 0.1 or 1.0
    return low - margin, high + margin
