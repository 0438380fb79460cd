"""Charts read back from their artists and their files."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from diswot.report import charts
from tests.report.samples import EVIL, NAN, chart_makers, networks


def texts(figure: Figure) -> list[str]:
    """The texts inside the axes."""
    return [text.get_text() for text in figure.axes[0].texts]


def note(figure: Figure) -> str:
    """The note below the axes, on one line."""
    return figure.get_supxlabel().replace("\n", " ")


def overlapping(figure: Figure, pieces: Sequence[Text]) -> list[tuple[str, str]]:
    """Pairs of texts that cover one another by more than a pixel; a text's own arrow is no part of it."""
    figure.draw_without_rendering()
    boxes = [(piece.get_text(), Text.get_window_extent(piece).padded(-0.5)) for piece in pieces]
    return [(a, b) for (a, first), (b, second) in itertools.combinations(boxes, 2) if first.overlaps(second)]


def test_scatter_shows_every_network_by_rank_and_size() -> None:
    score, accuracy, size = networks(300)
    figure = charts.rank_scatter(score, accuracy, size, title="nwot", corner_text="Spearman .89")
    (points,) = figure.axes[0].collections
    offsets = np.asarray(points.get_offsets())
    assert np.array_equal(offsets[:, 0].argsort(), score.argsort()) and np.array_equal(offsets[:, 1], accuracy)
    assert (offsets[:, 0].min(), offsets[:, 0].max()) == (0, 100) and np.allclose(points.get_array(), size)  # type: ignore[arg-type]
    assert texts(figure) == ["Spearman .89"] and figure.get_suptitle() == "nwot" and figure.axes[1].get_ylabel() == "FLOPs"
    assert "%" in figure.axes[0].get_ylabel() and "percent" in figure.axes[0].get_xlabel() and not note(figure)


def test_many_networks_are_a_density_that_counts_each_once() -> None:
    score, accuracy, size = networks(15_625)
    figure = charts.rank_scatter(score, accuracy, size, title="nwot")
    cells = figure.axes[0].collections[0]
    assert np.asarray(cells.get_array()).sum() == 15_625 and figure.axes[1].get_ylabel() == "networks per cell"
    assert len(charts.rank_scatter(score[:2000], accuracy[:2000], title="t").axes[0].collections[0].get_offsets()) == 2000


def test_scatter_says_what_it_leaves_out() -> None:
    score, accuracy = np.arange(300.0), np.linspace(80, 90, 300)
    score[:4], accuracy[10], accuracy[20:25] = NAN, math.inf, 10.0
    figure = charts.rank_scatter(score, accuracy, title="nwot")
    assert note(figure).startswith("5 of 300 without a finite value are not shown; 5 between ")
    assert len(figure.axes[0].collections[0].get_offsets()) == 290 and figure.axes[0].get_ylim()[0] > 77
    arrows = next(line for line in figure.axes[0].lines if line.get_marker() == "v")
    assert 1 <= len(arrows.get_xdata()) <= 5  # type: ignore[arg-type]


def test_scatter_writes_where_the_points_are_not() -> None:
    x = np.arange(100.0)
    rising, falling = (charts.rank_scatter(x, y, title="t", corner_text="rho").axes[0].texts[0].get_position() for y in (x, -x))
    assert (rising[0] > 0.5) == (rising[1] < 0.5) and (falling[0] > 0.5) == (falling[1] > 0.5)


def test_networks_without_a_size_are_shown_in_grey_and_none_is_lost() -> None:
    figure = charts.rank_scatter(range(30), range(30), [0, NAN, 5.0] * 10, title="t")
    points = figure.axes[0].collections[0]
    figure.draw_without_rendering()
    assert len(points.get_offsets()) == 30 and len({tuple(colour) for colour in np.asarray(points.get_facecolor())}) == 2


def test_bands_draw_a_line_for_each_proxy_and_name_it() -> None:
    values = {"to 50M": [0.5, 0.1, NAN], "to 100M": [0.6, NAN, NAN], "to 200M": [0.4, 0.3, NAN]}
    figure = charts.band_plot(["nwot", "params", "zen"], values, title="t")
    lines = [line for line in figure.axes[0].lines if not str(line.get_label()).startswith("_")]
    assert np.asarray(lines[0].get_ydata()).tolist() == [0.5, 0.6, 0.4] and len(lines) == 2
    assert np.isnan(np.asarray(lines[1].get_ydata())[1]) and texts(figure) == ["nwot", "params"]
    assert note(figure) == "no value: zen"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list(values)


def test_bands_show_whiskers_of_a_few_proxies_inside_the_axes() -> None:
    band = [{"value": 0.1, "low": -0.3, "high": 0.4}]
    figure = charts.band_plot(["nwot"], {"a": band, "b": band}, title="t")
    (whiskers,) = figure.axes[0].collections
    assert [segment[:, 1].tolist() for segment in whiskers.get_segments()] == [[-0.3, 0.4]] * 2  # type: ignore[attr-defined]
    assert figure.axes[0].get_ylim()[0] < -0.3 and figure.axes[0].get_ylim()[1] > 0.4
    four = [{"value": place / 10, "low": -0.3, "high": 0.4} for place in range(4)]
    assert not charts.band_plot(list("abcd"), {"x": four}, title="t").axes[0].collections


def test_lines_that_are_the_same_share_their_name() -> None:
    by_band = charts.band_plot(["nwot", "params", "flops"], {"a": [0.5, 0.1, 0.1], "b": [0.6, 0.2, 0.2]}, title="t")
    assert texts(by_band) == ["nwot", "params, flops"]
    regret = charts.regret_plot([1e7, 1e8], {"nwot": [1, 1]}, {"params": [2, 3], "random": [5, 5], "flops": [2, 3]}, title="t")
    assert texts(regret) == ["params, flops", "random", "nwot"]


@pytest.mark.parametrize("count", [2, 12, 25])
@pytest.mark.parametrize("points", [1, 5])
def test_names_at_line_ends_never_cover_one_another(count: int, points: int) -> None:
    names = [f"a_long_name_of_a_proxy_{index}" for index in range(count)]
    close = {name: [1 + 0.001 * index] * points for index, name in enumerate(names)}
    figure = charts.regret_plot(np.geomspace(1e7, 1e8, points), close, {"random": [1.0] * points}, title="t")
    assert sorted(texts(figure)) == sorted([*names, "random"]) and not overlapping(figure, figure.axes[0].texts)
    right = max(text.get_window_extent().x1 for text in figure.axes[0].texts)
    assert right <= figure.bbox.x1


def test_regret_is_drawn_over_sorted_budgets_with_dashed_baselines() -> None:
    figure = charts.regret_plot([1e8, 1e7], {"nwot": [0.5, 1.0]}, {"largest": [2.0, 3.0], "random": [4.0, 5.0]}, title="t")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines) == ["largest", "random", "nwot"]
    assert np.asarray(lines["nwot"].get_xdata()).tolist() == [1e7, 1e8] and np.asarray(lines["nwot"].get_ydata()).tolist() == [1.0, 0.5]
    assert [lines[name].is_dashed() for name in lines] == [True, True, False]
    assert figure.axes[0].get_ylim()[0] == 0 and figure.axes[0].get_xscale() == "log"
    for name in ("largest", "random"):
        red, green, blue = matplotlib.colors.to_rgb(lines[name].get_color())
        assert red == green == blue
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert "10M" in labels and "100M" in labels


def test_six_lines_at_most_are_in_colour_and_they_are_the_best() -> None:
    names = [f"p{index}" for index in range(9)]
    curves = {name: [float(index)] * 3 for index, name in enumerate(names)}
    figure = charts.regret_plot([1e7, 2e7, 4e7], curves, {}, title="t")
    coloured = [line.get_label() for line in figure.axes[0].lines if len(set(matplotlib.colors.to_rgb(line.get_color()))) > 1]
    assert coloured == names[:6] and len({line.get_marker() for line in figure.axes[0].lines[:6]}) == 6


def test_matrix_brings_like_proxies_together_and_writes_their_numbers() -> None:
    names = ["a1", "b1", "a2", "b2", "a3"]
    table = np.array([[1.0 if x == y else 0.9 if x[0] == y[0] else -0.2 for y in names] for x in names])
    figure = charts.correlation_heatmap(names, table, title="t")
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert sorted(labels) == sorted(names) and "".join(name[0] for name in labels) in ("aaabb", "bbaaa")
    assert labels == [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert sorted(texts(figure)) == [".90"] * 8 + ["−.20"] * 12
    for text in figure.axes[0].texts:
        column, row = (int(place) for place in text.get_position())
        assert text.get_text() == (".90" if labels[row][0] == labels[column][0] else "−.20")


@pytest.mark.parametrize(("count", "numbers"), [(0, 0), (1, 0), (2, 2), (25, 600)])
def test_matrix_of_any_size_has_readable_numbers_inside_their_cells(count: int, numbers: int) -> None:
    figure = charts.correlation_heatmap([f"p{i}" for i in range(count)], np.full((count, count), -0.88), title="t")
    pieces = figure.axes[0].texts
    assert len(pieces) == numbers and not overlapping(figure, pieces[:60])
    assert all(float(text.get_fontsize()) >= 5.5 for text in pieces)


def test_matrix_with_missing_values_shows_a_dash() -> None:
    figure = charts.correlation_heatmap(["a", "b", "c"], [[1, NAN, 0.5], [NAN, 1, NAN], [0.5, NAN, 1]], title="t")
    assert sorted(texts(figure)) == sorted(["–"] * 4 + [".50"] * 2)


def test_cost_marks_what_nothing_beats_and_says_what_is_missing() -> None:
    figure = charts.cost_plot(["a", "b", "c", "d", "e"], [1, 10, 100, 0, 5], [0.5, 0.4, 0.7, 0.9, NAN], title="t")
    points = figure.axes[0].collections[1]
    assert np.asarray(points.get_offsets()).tolist() == [[1, 0.5], [10, 0.4], [100, 0.7]]
    first, second, third = (tuple(colour) for colour in np.asarray(points.get_facecolor()))
    assert first == third != second and note(figure) == "no value: d, e" and sorted(texts(figure)) == ["a", "b", "c"]
    assert figure.axes[0].get_xscale() == "log" and "milliseconds" in figure.axes[0].get_xlabel()


@pytest.mark.parametrize("count", [2, 12, 25])
def test_cost_names_cover_neither_one_another_nor_a_point(count: int) -> None:
    rng = np.random.default_rng(count)
    x, y = np.exp(rng.normal(3, 1, count)), rng.uniform(0, 0.8, count)
    figure = charts.cost_plot([f"proxy_{index}" for index in range(count)], x, y, np.column_stack([y - 0.01, y + 0.01]), title="t")
    axes = figure.axes[0]
    assert len(axes.texts) == count and not overlapping(figure, axes.texts)
    room = axes.get_window_extent()
    for text in axes.texts:
        box = Text.get_window_extent(text)
        assert (
            room.x0 <= box.x0 + 1
            and box.x1 <= room.x1 + 1
            and not any(box.contains(*point) for point in axes.transData.transform(np.column_stack([x, y])))
        ), text.get_text()


def test_intervals_are_sorted_with_their_numbers_and_the_best_baseline() -> None:
    cells = [{"value": 0.2, "low": 0.1, "high": 0.3}, {"value": 0.8, "low": 0.75, "high": 0.85, "spread": 0.02}, None, 0.5]
    figure = charts.forest_plot(["params", "nwot", "zen", "flops"], cells, title="t", baselines=["params", "flops"])
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["nwot", "flops", "params", "zen"]
    assert texts(figure) == [".80 ± .02 [.75, .85]", ".50", ".20 [.10, .30]", "–"]
    segments = [segment.tolist() for whisker in axes.collections for segment in whisker.get_segments()]  # type: ignore[attr-defined]
    assert [[0.75, 0.0], [0.85, 0.0]] in segments and [[0.1, 2.0], [0.3, 2.0]] in segments
    assert [[pytest.approx(0.78), 0.0], [pytest.approx(0.82), 0.0]] in segments
    dashed = [line for line in axes.lines if line.is_dashed()]
    assert len(dashed) == 1 and list(dashed[0].get_xdata()) == [0.5, 0.5] and axes.get_ylim()[0] > axes.get_ylim()[1]  # type: ignore[arg-type]
    assert "dashed" in note(figure) and "seeds" in note(figure)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 12])
def test_every_chart_is_written_the_same_each_time_as_svg_and_png(tmp_path: Path, count: int) -> None:
    first = {name: draw() for name, draw in chart_makers(count).items()}
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "other", "axes.grid": True, "savefig.dpi": 20, "font.family": "serif"}):
        again = {name: draw() for name, draw in chart_makers(count).items()}
        for name, figure in first.items():
            drawn = charts.to_svg(figure)
            assert charts.to_svg(again[name]) == drawn, name
            assert ET.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg" and "date" not in drawn.lower()
            if count and name != "points":  # a bitmap takes a second, and is drawn of the same artists
                continue
            vector, bitmap = charts.save_figure(figure, tmp_path / f"{name}.v1")
            assert vector.read_text() == drawn and (vector.name, bitmap.name) == (f"{name}.v1.svg", f"{name}.v1.png")
            if name == "points":
                kept = [vector.read_bytes(), bitmap.read_bytes()]
                assert [path.read_bytes() for path in charts.save_figure(again[name], tmp_path / "again")] == kept
            with Image.open(bitmap) as image:
                assert image.size == tuple(round(300 * inches, 6) // 1 for inches in figure.get_size_inches())
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("name", "other"), [("a$b$c", "$x^{$"), (EVIL, "网络"), ("_hidden", "x" * 200), ("%s {}\n", "a\x00\udc80")])
@pytest.mark.slow
def test_any_name_can_be_drawn_and_none_is_read_as_a_formula(name: str, other: str) -> None:
    drawn = [
        charts.band_plot([name, other], {name: [0.1, 0.2]}, title=name),
        charts.regret_plot([1e7, 1e8], {name: [1, 2]}, {other: [2, 3]}, title=name),
        charts.cost_plot([name, other], [1, 2], [0.1, 0.2], title=name),
        charts.correlation_heatmap([name, other], [[1, 0], [0, 1]], title=name),
        charts.forest_plot([name, other], [0.1, 0.2], title=name),
    ]
    for figure in drawn:
        root = ET.fromstring(charts.to_svg(figure))
        assert not [element for element in root.iter() if element.tag.endswith("script")]
    labels = [text.get_text() for text in drawn[0].axes[0].texts]
    assert len(labels) == 2 and all(len(label) <= 45 for label in labels)
    if "$" in name and len(name) < 30:
        assert labels == [name, other]


def test_charts_leave_matplotlib_as_it_was() -> None:
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy(); from diswot.report import charts, html\n"
        "figure = charts.forest_plot(['a'], [0.5], title='t'); html.page('t', [html.Section('', [figure])])\n"
        "print('matplotlib.pyplot' in sys.modules, before == matplotlib.rcParams.copy())"
    )
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert found.stdout.split() == ["False", "True"], found.stderr
