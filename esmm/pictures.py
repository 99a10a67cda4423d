"""The pictures of an evaluation: SVGs in the page's own colours, light or dark, with text that stays text.

    rates("CTR", curves.spans(metrics.ctr))      # "<svg role="img" …", to be put into the page as it is

Where there is nothing to draw, a picture is empty text.
"""

import io
import math
import re
from collections.abc import Sequence

import markupsafe
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from esmm.curves import Span, Tenth

_INK, _LINE, _ACCENT, _BAR, _PAPER = "#010101", "#020202", "#030303", "#040404", "#050505"
_COLOURS = {
    _INK: "var(--ink)",
    _LINE: "var(--quiet)",
    _ACCENT: "var(--accent)",
    _BAR: "var(--bar)",
    _PAPER: "var(--paper)",
}
"""What stands for the page's colours until the picture is part of it."""

_SIZE = (3.4, 3.3)
_styled = mpl.rc_context(
    # The hashes of names within a picture are salted, so that the same evaluation makes the same page.
    {"svg.fonttype": "none", "svg.hashsalt": "esmm", "font.family": "sans-serif", "font.size": 9.0}
)

FEW = 30
"""A span with fewer positive rows, by weight, is drawn hollow: its rate is known to a fifth or worse."""


@_styled
def roc(
    title: str, points: Sequence[tuple[float, float]], truth: Sequence[tuple[float, float]] = ()
) -> markupsafe.Markup:
    """The ROC curve, and that of the true probabilities, where these are known."""
    if not points:
        return markupsafe.Markup()
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1, linestyle="--")
    if truth:
        axes.plot(*zip(*truth, strict=True), color=_LINE, linewidth=1.2)
        axes.text(0.97, 0.05, "grey: true probabilities", color=_LINE, ha="right", fontsize=8)
    axes.plot(*zip(*points, strict=True), color=_ACCENT, linewidth=1.8)
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.set_xticklabels(["0", "50 %", "100 %"])
    axes.set_yticklabels(["0", "50 %", "100 %"])
    _name(axes, "negative rows taken", "positive rows taken")
    return _svg(figure, f"{title}: ROC curve")


@_styled
def rates(title: str, spans: Sequence[Span]) -> markupsafe.Markup:
    """Predicted and actual rates of spans of predictions, logarithmically, and the rows of each as bars.

    A span without a positive row has a bar alone, or nothing where hardly any row is in it; without any other span
    there is no picture.
    """
    total = sum(span.weight for span in spans)
    spans = [span for span in spans if span.mean_label > 0 or span.weight >= total / 1000]
    drawn = [span for span in spans if span.mean_label > 0]
    if not drawn:
        return markupsafe.Markup()
    figure = Figure(figsize=_SIZE, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    values = [value for span in drawn for value in (span.mean_prediction, span.mean_label)]
    low = min(*values, *(span.mean_prediction for span in spans)) / 1.5
    high = min(max(values) * 1.5, 1.5)
    above.set(xscale="log", yscale="log", xlim=(low, high), ylim=(min(values) / 1.5, high))
    above.plot([low, high], [low, high], color=_LINE, linewidth=1, linestyle="--")
    known = [span for span in drawn if span.weight * span.mean_label >= FEW]
    for shown, fill, line in (
        (known, _ACCENT, "-"),
        ([span for span in drawn if span not in known], _PAPER, ""),
    ):
        points = [span.mean_prediction for span in shown], [span.mean_label for span in shown]
        above.plot(*points, color=_ACCENT, linestyle=line, linewidth=1.3, marker="o", markersize=5,
                   markerfacecolor=fill, markeredgewidth=1.3)  # fmt: skip
    for axis, limits in ((above.xaxis, (low, high)), (above.yaxis, above.get_ylim())):
        ticks = _ticks(*limits)
        axis.set_ticks(ticks, [_percent(tick) for tick in ticks])
    above.minorticks_off()
    for span in spans:
        left = max(span.low, low)
        below.bar(left, span.weight, span.high - left, align="edge", color=_BAR, edgecolor="none")
    below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _count(value)))
    _name(above, "", "actual")
    _name(below, "predicted", "rows")
    above.tick_params(labelbottom=False)
    figure.align_ylabels()
    return _svg(figure, f"{title}: predicted and actual rates, and rows")


@_styled
def lift(title: str, tenths: Sequence[Tenth]) -> markupsafe.Markup:
    """The rate of each tenth of the rows over that of all, from the highest predictions to the lowest, as bars."""
    lifts = [tenth.lift for tenth in tenths if tenth.lift is not None]
    if not lifts:
        return markupsafe.Markup()
    figure, axes = _figure()
    places = range(1, len(lifts) + 1)
    axes.bar(places, lifts, width=0.75, color=_ACCENT, edgecolor="none")
    for place, value in zip(places, lifts, strict=True):
        axes.text(
            place,
            value,
            f"{value:.1f}" if value >= 0.1 else f"{value:.1g}",
            ha="center",
            va="bottom",
            fontsize=7.5,
            color=_INK,
        )
    axes.axhline(1, color=_LINE, linewidth=1, linestyle="--")
    axes.set(xticks=list(places), ylim=(0, max(*lifts, 1) * 1.1))
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _name(axes, "tenth of the rows, highest predictions first", "rate over the mean")
    return _svg(figure, f"{title}: lift by tenths of the rows")


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    return figure, figure.subplots()


def _name(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE)


def _svg(figure: Figure, label: str) -> markupsafe.Markup:
    picture = io.StringIO()
    figure.savefig(picture, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = picture.getvalue()
    svg = svg[svg.index("<svg") :]
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # figure_1 and so on, which each of the pictures has
    return markupsafe.Markup(
        svg.replace("<svg ", f'<svg role="img" aria-label="{markupsafe.escape(label)}" ', 1)
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis: 1, 2 and 5 of each power of ten, or 1 alone where these would be many."""
    steps = (1, 2, 5) if high < 50 * low else (1,)
    ticks = (step * 10.0**power for power in range(-12, 1) for step in steps)
    return [tick for tick in ticks if low <= tick <= high]


def _percent(rate: float) -> str:
    return f"{100 * rate:.12g} %"


def _count(value: float) -> str:
    """1,200,000 as 1.2M."""
    if value < 1000:
        return f"{value:g}"
    power = min(int(math.log10(value)) // 3, 3)
    return f"{value / 1000**power:.3g}{'kMG'[power - 1]}"
