"""Ticks, figures and SVG of charts.py."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from ur10e_act.evaluation.charts import MAX_POINTS, Chart, downsample, format_number, linear_ticks, log_ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0270391, "0.0270"),
        (1.0, "1.00"),
        (-0.5, "-0.500"),
        (33.333, "33.3"),
        (1234.5, "1234"),
        (0.0, "0"),
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
        (1.234e-07, "1.23e-07"),
        (25000000.0, "2.50e+07"),
    ],
)
def test_format_number_keeps_three_digits(value, text):
    assert format_number(value) == text


def test_linear_ticks_are_round_and_inside():
    assert linear_ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert linear_ticks(-0.33, 0.34, 4) == [-0.2, 0, 0.2]
    assert linear_ticks(1000, 1010, 4) == [1000, 1002.5, 1005, 1007.5, 1010]


@pytest.mark.parametrize(("low", "high"), [(0.03, 1.2), (1e-6, 1e5), (0.11, 0.13), (5, 7)])
def test_log_ticks_are_few_and_inside(low, high):
    ticks = log_ticks(low, high)
    assert len(ticks) <= 8
    assert all(low * 0.99 <= tick <= high * 1.01 for tick in ticks)


def test_log_ticks_of_a_decade():
    assert log_ticks(0.1, 1) == pytest.approx([0.1, 0.2, 0.3, 0.5, 1])


def points(chart: Chart, css: str) -> list[list[tuple[float, float]]]:
    """The strokes of the line with a class, in pixels."""
    path = re.search(rf'<path class="line {css}" d="([^"]*)"/>', chart.svg()).group(1)
    return [
        [tuple(map(float, point.split())) for point in stroke.split("L")]
        for stroke in path.split("M")
        if stroke
    ]


def make(**options) -> Chart:
    return Chart(
        500, 300, (0, 10), options.pop("y", (0, 2)), label="test", margins=(20, 20, 30, 50), **options
    )


def test_line_is_drawn_where_the_axes_say():
    chart = make()
    chart.line([0, 5, 10], [0, 1, 2], "policy")
    assert points(chart, "policy") == [[(50, 270), (265, 145), (480, 20)]]


def test_logarithmic_axis():
    chart = make(y=(0.01, 1), log_y=True)
    chart.line([0, 5, 10], [0.01, 0.1, 1], "policy")
    assert points(chart, "policy") == [[(50, 270), (265, 145), (480, 20)]]
    # A value that has no logarithm lies on the axis.
    assert chart.y(0) == 270


def test_line_breaks_where_there_is_no_value():
    chart = make()
    chart.line([0, 1, 2, 3, 4], [1, 1, None, float("nan"), 1], "policy")
    assert [len(stroke) for stroke in points(chart, "policy")] == [2, 1]


def test_long_lines_are_downsampled_and_keep_their_extremes():
    ys = [0.0] * 100_000
    ys[54_321], ys[77_777] = 9.0, -9.0
    xs, kept = downsample(range(100_000), ys)
    assert len(xs) <= MAX_POINTS
    assert (max(kept), xs[kept.index(9.0)]) == (9.0, 54_321)
    assert (min(kept), xs[kept.index(-9.0)]) == (-9.0, 77_777)
    assert xs == sorted(xs)


def test_constant_data_has_an_axis():
    chart = Chart(500, 300, (3, 3), (0.5, 0.5), label="flat")
    chart.line([3], [0.5], "policy")
    assert chart.top < chart.y(0.5) < chart.bottom


def test_svg_is_well_formed_whatever_the_text():
    chart = make(title="<b>&\"'", note="</svg>", x_label="a<b", y_label='"<')
    chart.mark(3, "limit", "<&>")
    chart.bars([0, 1, 2], [1, 0], "area")
    chart.outline([0, 1, 2], [0, 0], 200, 20, "area")
    root = ElementTree.fromstring(chart.svg())
    texts = [element.text for element in root.iter("text")]
    assert {"<b>&\"'", "</svg>", "a<b", '"<', "<&>"} <= set(texts)


def test_counts_have_whole_ticks():
    chart = make(y=(0, 3.3), y_ticks=5, y_whole=True)
    texts = [element.text for element in ElementTree.fromstring(chart.svg()).iter("text")]
    assert not any("." in text for text in texts)
