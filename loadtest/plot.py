"""Charts over time as inline SVG, drawn by hand: no script, no network, colours from the page's own variables.

Pure. Invariant: every text is escaped, and a chart of nothing says so instead of failing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 34, 30
_LABEL_WIDTH: Final = 6.2
"""Width of a character of the 11 px labels, in user units; labels are kept apart by it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One series: seconds from the start and a value, ascending in time. `colour`: a CSS variable's name. None = a gap."""

    name: str
    colour: str
    points: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True, slots=True)
class Shade:
    """A stretch of the time axis to be shaded, in seconds from the start."""

    from_s: float
    until_s: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """An instant to be marked by a vertical line, in seconds from the start."""

    at_s: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart. `is_stacked`: areas on top of one another; `is_log`: the value axis is logarithmic (not when stacked)."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    shades: tuple[Shade, ...] = ()
    marks: tuple[Mark, ...] = ()
    until_s: float = 0.0
    is_stacked: bool = False
    is_log: bool = False
    limit: float | None = None
    """A value to be drawn as a dashed line, such as 300 ms."""
    x_unit: str = "s"
    """Of the other axis, where it is not time: then points, marks and `until_s` are counted in it."""
    is_x_log: bool = False
    """The other axis is logarithmic, from the power of ten at or below its first point: for sizes, which are above 0."""
    x_ticks: tuple[float, ...] = ()
    """What stands at a logarithmic other axis, from its first to its last; () = whole powers of ten."""


def draw(chart: Chart, *, width: int, height: int) -> str:
    """The chart as one `<svg>` of that size."""
    frame = _Frame(chart, width, height)
    label = escape(f"{chart.title}, {chart.unit}", quote=True)
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}" xmlns="http://www.w3.org/2000/svg">']
    parts += frame.shades()
    parts += frame.axes()
    if not any(value is not None for line in chart.lines for _, value in line.points):
        parts.append(f'<text class="none" x="{width / 2:.0f}" y="{height / 2:.0f}" text-anchor="middle">no data</text>')
    parts += frame.areas() if chart.is_stacked else frame.lines()
    parts += frame.marks()
    parts.append("</svg>")
    return "".join(parts)


class _Frame:
    """Where things are: seconds and values to user units."""

    def __init__(self, chart: Chart, width: int, height: int) -> None:
        self._chart, self._width, self._height = chart, width, height
        ends = [at for line in chart.lines for at, _ in line.points] + [mark.at_s for mark in chart.marks]
        self._until_s = max([chart.until_s, 1.0, *ends])
        self._sizes: Sequence[float] = ()
        if chart.is_x_log:
            self._sizes = chart.x_ticks or _powers(min(ends, default=1.0), self._until_s)
        self._ticks = _log_ticks(chart) if chart.is_log else _even_ticks(_highest(chart))

    def x(self, at_s: float) -> float:
        """User units from the left."""
        share = at_s / self._until_s
        if self._sizes:
            low, high = math.log10(self._sizes[0]), math.log10(self._sizes[-1])
            length = high - low or 1.0  # one size alone stands at the left
            share = (math.log10(max(at_s, self._sizes[0])) - low) / length
        share = min(1.0, max(0.0, share))
        return _LEFT + share * (self._width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """User units from the top."""
        scale: Callable[[float], float] = (lambda each: math.log10(max(each, 1e-9))) if self._chart.is_log else float
        low, high = scale(self._ticks[0]), scale(self._ticks[-1])
        share = (scale(value) - low) / (high - low)
        return self._height - _BOTTOM - min(1.0, max(0.0, share)) * (self._height - _TOP - _BOTTOM)

    def axes(self) -> list[str]:
        """Horizontal rules with their values, and the seconds below."""
        parts = []
        for tick in self._ticks:
            at = self.y(tick)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{self._width - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
        for second in self._sizes or _even_ticks(self._until_s, count=max(4, self._width // 110)):
            if second <= self._until_s or self._sizes:
                parts.append(
                    f'<text class="tick" x="{self.x(second):.1f}" y="{self._height - 10}" '
                    f'text-anchor="middle">{_short(second)} {escape(self._chart.x_unit)}</text>'
                )
        if self._chart.limit is not None:
            at = self.y(self._chart.limit)
            right = self._width - _RIGHT
            parts.append(f'<line class="limit" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
            words = f"{_short(self._chart.limit)} {escape(self._chart.unit)}"
            parts.append(f'<text class="tick" x="{right}" y="{at - 5:.1f}" text-anchor="end">{words}</text>')
        return parts

    def shades(self) -> list[str]:
        """Stretches with faults, behind everything."""
        parts = []
        for shade in self._chart.shades:
            left, right = self.x(shade.from_s), self.x(shade.until_s)
            high = self._height - _TOP - _BOTTOM
            parts.append(
                f'<rect class="shade" x="{left:.1f}" y="{_TOP}" width="{max(0.0, right - left):.1f}" height="{high}"/>'
            )
            if len(shade.label) * _LABEL_WIDTH < right - left:
                parts.append(
                    f'<text class="shadelabel" x="{left + 6:.1f}" y="{_TOP + 14}">{escape(shade.label)}</text>'
                )
        return parts

    def marks(self) -> list[str]:
        """Vertical lines with a number each, above the plot; neighbours' labels never overlap. The legend has the words."""
        parts, taken = [], -1e9
        for number, mark in enumerate(self._chart.marks, start=1):
            at = self.x(mark.at_s)
            centre = min(max(at, taken + 20), self._width - _RIGHT - 8)
            taken = centre
            parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{self._height - _BOTTOM}"/>')
            parts.append(
                f"<g><title>{escape(mark.label)} at {mark.at_s:.0f} s</title>"
                f'<circle class="markdot" cx="{centre:.1f}" cy="{_TOP - 12}" r="9"/>'
                f'<text class="marknumber" x="{centre:.1f}" y="{_TOP - 8}" text-anchor="middle">{number}</text></g>'
            )
        return parts

    def lines(self) -> list[str]:
        """One path for each unbroken stretch of each series."""
        parts = []
        for line in self._chart.lines:
            for stretch in _stretches(line.points):
                path = " ".join(f"{self.x(at):.1f},{self.y(value):.1f}" for at, value in stretch)
                if len(stretch) == 1:
                    at, value = stretch[0]
                    parts.append(
                        f'<circle cx="{self.x(at):.1f}" cy="{self.y(value):.1f}" r="1.5" style="fill:var({line.colour})"/>'
                    )
                parts.append(f'<polyline class="line" points="{path}" style="stroke:var({line.colour})"/>')
        return parts

    def areas(self) -> list[str]:
        """Areas on top of one another, the first at the bottom. Every series has the same instants."""
        if not self._chart.lines or not self._chart.lines[0].points:
            return []
        instants = [at for at, _ in self._chart.lines[0].points]
        below = [0.0] * len(instants)
        parts = []
        for line in self._chart.lines:
            above = [base + (value or 0.0) for base, (_, value) in zip(below, line.points, strict=True)]
            top = [f"{self.x(at):.1f},{self.y(value):.1f}" for at, value in zip(instants, above, strict=True)]
            bottom = [f"{self.x(at):.1f},{self.y(value):.1f}" for at, value in zip(instants, below, strict=True)]
            outline = " ".join(top + bottom[::-1])
            parts.append(f'<polygon class="area" points="{outline}" style="fill:var({line.colour})"/>')
            below = above
        return parts


def _stretches(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    stretches: list[list[tuple[float, float]]] = [[]]
    for at, value in points:
        if value is None:
            stretches.append([])
        else:
            stretches[-1].append((at, value))
    return [stretch for stretch in stretches if stretch]


def _highest(chart: Chart) -> float:
    if chart.is_stacked:
        sums = [
            sum(value or 0.0 for _, value in row) for row in zip(*(line.points for line in chart.lines), strict=True)
        ]
        return max([1.0, *sums])
    return max([1.0, chart.limit or 0.0, *(value or 0.0 for line in chart.lines for _, value in line.points)])


def _even_ticks(highest: float, count: int = 4) -> list[float]:
    """From 0 in steps of 1, 2 or 5 times a power of ten, the last at or above the highest."""
    rough = highest / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * 0.999)
    return [step * number for number in range(math.ceil(highest / step - 1e-9) + 1)]


def _log_ticks(chart: Chart) -> list[float]:
    """Whole powers of ten around every value."""
    values = [value for line in chart.lines for _, value in line.points if value is not None and value > 0]
    values += [chart.limit] if chart.limit else []
    return _powers(min(values, default=1.0), max(values, default=1_000.0))


def _powers(lowest: float, highest: float) -> list[float]:
    """Whole powers of ten from one to the other, at least two."""
    low, high = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def _short(value: float) -> str:
    """1,500 as 1.5k, 2,000,000 as 2M: what fits beside an axis."""
    if value >= 1_000_000:  # noqa: PLR2004 - as below
        return f"{value / 1_000_000:g}M"
    if value >= 10_000 or (value >= 1_000 and value % 1_000 == 0):  # noqa: PLR2004 - from here on four digits do not fit
        return f"{value / 1_000:g}k"
    return f"{value:g}"
