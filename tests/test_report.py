"""What a reader gets of a study: tables, figures and the page, read back as their readers read them."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from diswot.report import figures
from diswot.report.html import Listing, Picture, Section, page
from diswot.report.tables import (
    Column,
    Estimate,
    Table,
    estimate_text,
    printed,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
    to_rich,
    write,
)

NAN = math.nan
EVIL = r"""<script>alert("1")</script>|_a_ & 50% #1 $x$ ~ ^ \ {y}"""
COLUMNS = [
    Column("name", "proxy"),
    Column("rho", "Spearman", "estimate", 3, "high"),
    Column("ms", "ms per network", "number", 1, "low"),
    Column("n", "networks", "integer"),
]
ROWS: list[dict[str, Any]] = [
    {"name": "nwot", "rho": {"value": 0.70912345678901, "low": 0.699, "high": 0.722, "spread": 0.004}, "ms": 1234.5, "n": 15625},
    {"name": EVIL, "rho": SimpleNamespace(value=-0.1, low=-0.2, high=0.05), "ms": np.float32(0.1), "n": np.int64(15000)},
    {"name": "=1+1", "rho": Estimate(NAN), "ms": None},
    {"name": None, "rho": None, "ms": NAN, "n": NAN},
]
TABLE = Table("All networks, 50 %", COLUMNS, ROWS)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


# Tables


def test_csv_holds_every_number_in_full_and_nothing_that_a_spreadsheet_runs() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(TABLE))))
    assert list(rows[0]) == ["name", "rho", "rho_low", "rho_high", "rho_spread", "ms", "n"]
    assert float(rows[0]["rho"]) == 0.70912345678901 and float(rows[0]["rho_spread"]) == 0.004 and rows[0]["n"] == "15625"
    assert np.float32(rows[1]["ms"]) == np.float32(0.1) and float(rows[1]["rho"]) == -0.1 and rows[1]["rho_spread"] == ""
    assert rows[1]["name"] == EVIL and rows[2]["name"] == "'=1+1"
    assert set(rows[3].values()) == {""}


@pytest.mark.parametrize("text", ["=A1", "+1", "-1", "@SUM(A1)", " =A1", "\t=A1", "\r\n@x"])
def test_csv_guards_text_that_begins_a_formula(text: str) -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv(Table("", [Column("t", "t")], [{"t": text}]))))
    assert row["t"] == "'" + text.strip()


def test_csv_leaves_negative_numbers_alone() -> None:
    assert to_csv(Table("", [Column("x", "x", "number")], [{"x": -1.5}])) == "x\n-1.5\n"


def test_json_is_strict_and_says_what_the_columns_are() -> None:
    found = json.loads(to_json(TABLE), parse_constant=refuse)
    assert found["title"] == TABLE.title and [column["key"] for column in found["columns"]] == ["name", "rho", "ms", "n"]
    assert found["rows"][0]["rho"] == {"value": 0.70912345678901, "low": 0.699, "high": 0.722, "spread": 0.004}
    assert found["rows"][1]["name"] == EVIL and found["rows"][1]["n"] == 15000 and isinstance(found["rows"][1]["n"], int)
    assert found["rows"][2]["rho"]["value"] is None and found["rows"][3] == {
        "name": None,
        "rho": dict.fromkeys(("value", "low", "high", "spread")),
        "ms": None,
        "n": None,
    }
    infinite = json.loads(to_json(Table("", [Column("x", "x", "number")], [{"x": math.inf}])), parse_constant=refuse)
    assert infinite["rows"] == [{"x": None}]


def test_markdown_has_as_many_cells_in_every_line() -> None:
    lines = to_markdown(TABLE).splitlines()
    assert lines[0] == "**All networks, 50 %**" and lines[1] == ""
    split = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]
    assert [len(cells) for cells in split] == [4] * 6
    assert [set(cell.strip()) for cell in split[1]] == [{":", "-"}] * 4 and split[1][0].strip().startswith(":")
    assert split[2][1].strip() == "**.709** ± .004 [.699, .722]" and split[2][2].strip() == "1,234.5"
    assert split[3][2].strip() == "**0.1**" and r"\<script\>" in split[3][0]
    assert [cell.strip() for cell in split[5]] == ["-"] * 4


def test_latex_escapes_what_latex_would_run() -> None:
    text = to_latex(Table("50% of a_b", COLUMNS, ROWS), "tab:x")
    assert r"\caption{50\% of a\_b}" in text and r"\label{tab:x}" in text and r"\begin{tabular}{lrrr}" in text
    assert r"\textbf{.709} {\scriptsize $\pm$ .004 [.699, .722]} & 1,234.5 & 15,625 \\" in text
    assert r"$-$.100 {\scriptsize [$-$.200, .050]} & \textbf{0.1}" in text
    line = next(line for line in text.splitlines() if "script" in line and "alert" in line)
    name = line.split(" & ")[0]
    for raw in (r"(?<!\\)%", r"(?<!\\)#", r"(?<!\\)_", "~", r"\^", "<", ">", r"\|"):
        assert not re.search(raw, name), raw
    for escaped in (r"\textasciitilde{}", r"\textasciicircum{}", r"\textbackslash{}", r"\{y\}", r"\$x\$", r"\& 50\%", r"\#1"):
        assert escaped in line, escaped
    assert len(re.findall(r"\\\\$", text, re.M)) == 5 and text.count(r"\begin{") == text.count(r"\end{") == 2


def test_latex_row_that_begins_with_a_bracket_is_no_argument_of_the_line_before() -> None:
    text = to_latex(Table("", [Column("n", "n")], [{"n": "a"}, {"n": "[1em]"}, {"n": "*"}]))
    assert "{[}1em{]}" in text and "{*}" in text


def test_terminal_table_shows_text_as_it_is_and_the_best_in_bold() -> None:
    table = Table("title [red]", [Column("n", "a [b]c[/b]"), COLUMNS[1]], [{**ROWS[0], "n": "[bold]x"}, {"n": "y", "rho": 0.1}])
    console = Console(width=100, record=True, file=io.StringIO(), force_terminal=True)
    console.print(to_rich(table))
    coloured = console.export_text(styles=True, clear=False)
    text = console.export_text()
    assert all(piece in text for piece in ("title [red]", "a [b]c[/b]", "[bold]x", ".709 ± .004 [.699, .722]"))
    assert "\x1b[1m.709\x1b[0m" in coloured and "\x1b[1m.100" not in coloured


@pytest.mark.parametrize(
    ("cell", "digits", "text"),
    [
        (0.7, 2, ".70"),
        (-0.7, 2, "-.70"),
        (1.0, 2, "1.00"),
        (0.9996, 3, "1.000"),
        (-0.0001, 2, ".00"),
        (0.0, 0, "0"),
        (12.345, 1, "12.3"),
        ({"value": 0.5, "low": 0.3, "high": 1.7}, 1, "0.5 [0.3, 1.7]"),
        ({"value": 0.5, "low": None, "high": 0.7}, 1, ".5"),
        ({"value": 0.5, "spread": 0.01}, 2, ".50 ± .01"),
        (None, 2, "-"),
        (NAN, 2, "-"),
    ],
)
def test_estimates_are_printed_compactly(cell: Any, digits: int, text: str) -> None:
    assert str(estimate_text(cell, digits)) == text


def test_a_column_is_printed_with_or_without_zeros_before_the_point_but_not_both() -> None:
    column = Column("x", "x", "estimate", 1)
    assert [str(row[0]) for row in printed(Table("", [column], [{"x": 0.5}, {"x": 2.0}]))] == ["0.5", "2.0"]
    assert [str(row[0]) for row in printed(Table("", [column], [{"x": 0.5}, {"x": 0.2}]))] == [".5", ".2"]


@pytest.mark.parametrize(
    ("best", "values", "bold"),
    [
        ("high", [0.1, 0.3, 0.2], [1]),
        ("low", [0.1, 0.3, 0.2], [0]),
        (None, [0.1, 0.3, 0.2], []),
        ("high", [0.301, 0.299, 0.1], [0, 1]),
        ("high", [0.3, 0.3], []),
        ("high", [0.3, None, NAN], []),
        ("high", [None, 0.3, -0.1], [1]),
        ("low", [math.inf, 3.0], [1]),
    ],
)
def test_the_best_are_those_that_print_as_the_best(best: Any, values: list[Any], bold: list[int]) -> None:
    rows = printed(Table("", [Column("x", "x", "number", 1, best)], [{"x": value} for value in values]))
    assert [index for index, (cell,) in enumerate(rows) if cell.best] == bold


def test_a_table_whose_file_would_hold_a_column_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="rho_low"):
        Table("", [Column("rho", "a", "estimate"), Column("rho_low", "b", "number")])
    with pytest.raises(ValueError, match="kind 'float'"):
        Column("x", "x", "float")  # type: ignore[arg-type]


def test_four_files_the_same_every_time_and_nothing_else(tmp_path: Path) -> None:
    paths = write(TABLE, tmp_path, "all.v1")
    first = [path.read_bytes() for path in paths]
    assert sorted(tmp_path.iterdir()) == sorted(paths) and [path.name for path in paths] == [
        f"all.v1{end}" for end in (".csv", ".json", ".md", ".tex")
    ]
    assert [path.read_bytes() for path in write(TABLE, tmp_path, "all.v1")] == first
    assert first[0].decode() == to_csv(TABLE) and json.loads(first[1]) == json.loads(to_json(TABLE))


def test_a_table_without_rows_is_written_too(tmp_path: Path) -> None:
    empty = Table("nothing", COLUMNS)
    assert [path.stat().st_size > 0 for path in write(empty, tmp_path, "e")] == [True] * 4
    assert to_csv(empty).splitlines() == ["name,rho,rho_low,rho_high,rho_spread,ms,n"] and json.loads(to_json(empty))["rows"] == []
    assert to_rich(empty).row_count == 0


def test_a_name_that_is_no_unicode_does_not_lose_the_table(tmp_path: Path) -> None:
    (path, *_) = write(Table("t", [Column("n", "n")], [{"n": "a\udc80\x00b\nc"}]), tmp_path, "x")
    assert path.read_text() == "n\na?b c\n"


# Figures


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def note(figure: Figure) -> str:
    return figure.get_supxlabel().replace("\n", " ")


def networks(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    score, size = rng.normal(size=count), np.exp(rng.uniform(16, 19, count))
    return score, 90 + score + 0.5 * rng.normal(size=count), size


def overlapping(figure: Figure, pieces: list[Any]) -> list[tuple[str, str]]:
    """Pairs of texts that cover one another by more than a pixel; a text's own arrow is no part of it."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    boxes = [(piece.get_text(), Text.get_window_extent(piece).padded(-0.5)) for piece in pieces]
    return [(a, b) for (a, first), (b, second) in itertools.combinations(boxes, 2) if first.overlaps(second)]


def a_figure_of_each(count: int = 12) -> dict[str, Figure]:
    rng = np.random.default_rng(3)
    names = [f"proxy_{index}" for index in range(count)]
    values = np.linspace(0.8, -0.1, count)
    estimates = [{"value": x, "low": x - 0.05, "high": x + 0.05, "spread": 0.01} for x in values]
    scores = rng.normal(size=(count, 40)) + rng.normal(size=40)
    budgets = np.geomspace(1e7, 2e8, 6)
    score, accuracy, size = networks(300)
    return {
        "points": figures.scatter(score, accuracy, size, title="points", corner="Spearman .9"),
        "density": figures.scatter(*networks(2500)[:2], title="density", corner="Spearman .9"),
        "bands": figures.bands(names, {f"{b} to {b + 1} M": [x - 0.1 * b for x in values] for b in range(3)}, title="bands"),
        "regret": figures.regret_curve(
            budgets, {n: np.linspace(3, 1, 6) + i / 9 for i, n in enumerate(names)}, {"random": [5.0] * 6}, title="regret"
        ),
        "matrix": figures.matrix(names, np.corrcoef(scores), title="matrix"),
        "cost": figures.cost(names, np.exp(rng.normal(3, 1, count)), values, [(e["low"], e["high"]) for e in estimates], title="cost"),
        "intervals": figures.intervals(names, estimates, title="intervals", baselines=names[:2]),
    }


def test_scatter_shows_every_network_by_rank_and_size() -> None:
    score, accuracy, size = networks(300)
    figure = figures.scatter(score, accuracy, size, title="nwot", corner="Spearman .89")
    (points,) = figure.axes[0].collections
    offsets = np.asarray(points.get_offsets())
    assert np.array_equal(offsets[:, 0].argsort(), score.argsort()) and np.array_equal(offsets[:, 1], accuracy)
    assert (offsets[:, 0].min(), offsets[:, 0].max()) == (0, 100) and np.allclose(points.get_array(), size)  # type: ignore[arg-type]
    assert texts(figure) == ["Spearman .89"] and figure.get_suptitle() == "nwot" and figure.axes[1].get_ylabel() == "FLOPs"
    assert "%" in figure.axes[0].get_ylabel() and "percent" in figure.axes[0].get_xlabel() and not note(figure)


def test_many_networks_are_a_density_that_counts_each_once() -> None:
    score, accuracy, size = networks(15_625)
    figure = figures.scatter(score, accuracy, size, title="nwot")
    cells = figure.axes[0].collections[0]
    assert np.asarray(cells.get_array()).sum() == 15_625 and figure.axes[1].get_ylabel() == "networks per cell"
    assert len(figures.scatter(score[:2000], accuracy[:2000], title="t").axes[0].collections[0].get_offsets()) == 2000


def test_scatter_says_what_it_leaves_out() -> None:
    score, accuracy = np.arange(300.0), np.linspace(80, 90, 300)
    score[:4], accuracy[10], accuracy[20:25] = NAN, math.inf, 10.0
    figure = figures.scatter(score, accuracy, title="nwot")
    assert note(figure).startswith("5 of 300 without a finite value are not shown; 5 below 7")
    assert len(figure.axes[0].collections[0].get_offsets()) == 290 and figure.axes[0].get_ylim()[0] > 77
    arrows = next(line for line in figure.axes[0].lines if line.get_marker() == "v")
    assert 1 <= len(arrows.get_xdata()) <= 5  # type: ignore[arg-type]


def test_scatter_writes_where_the_points_are_not() -> None:
    x = np.arange(100.0)
    rising, falling = (figures.scatter(x, y, title="t", corner="rho").axes[0].texts[0].get_position() for y in (x, -x))
    assert (rising[0] > 0.5) == (rising[1] < 0.5) and (falling[0] > 0.5) == (falling[1] > 0.5)


def test_networks_without_a_size_are_shown_in_grey_and_none_is_lost() -> None:
    figure = figures.scatter(range(30), range(30), [0, NAN, 5.0] * 10, title="t")
    points = figure.axes[0].collections[0]
    figure.draw_without_rendering()
    assert len(points.get_offsets()) == 30 and len({tuple(colour) for colour in np.asarray(points.get_facecolor())}) == 2


def test_bands_draw_a_line_for_each_proxy_and_name_it() -> None:
    values = {"to 50M": [0.5, 0.1, NAN], "to 100M": [0.6, NAN, NAN], "to 200M": [0.4, 0.3, NAN]}
    figure = figures.bands(["nwot", "params", "zen"], values, title="t")
    lines = [line for line in figure.axes[0].lines if not str(line.get_label()).startswith("_")]
    assert np.asarray(lines[0].get_ydata()).tolist() == [0.5, 0.6, 0.4] and len(lines) == 2
    assert np.isnan(np.asarray(lines[1].get_ydata())[1]) and texts(figure) == ["nwot", "params"]
    assert note(figure) == "no value: zen"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list(values)


def test_bands_show_whiskers_of_a_few_proxies_inside_the_axes() -> None:
    band = [{"value": 0.1, "low": -0.3, "high": 0.4}]
    figure = figures.bands(["nwot"], {"a": band, "b": band}, title="t")
    (whiskers,) = figure.axes[0].collections
    assert [segment[:, 1].tolist() for segment in whiskers.get_segments()] == [[-0.3, 0.4]] * 2  # type: ignore[attr-defined]
    assert figure.axes[0].get_ylim()[0] < -0.3 and figure.axes[0].get_ylim()[1] > 0.4
    four = [{"value": place / 10, "low": -0.3, "high": 0.4} for place in range(4)]
    assert not figures.bands(list("abcd"), {"x": four}, title="t").axes[0].collections


def test_lines_that_are_the_same_share_their_name() -> None:
    by_band = figures.bands(["nwot", "params", "flops"], {"a": [0.5, 0.1, 0.1], "b": [0.6, 0.2, 0.2]}, title="t")
    assert texts(by_band) == ["nwot", "params, flops"]
    regret = figures.regret_curve([1e7, 1e8], {"nwot": [1, 1]}, {"params": [2, 3], "random": [5, 5], "flops": [2, 3]}, title="t")
    assert texts(regret) == ["params, flops", "random", "nwot"]


def test_a_latex_table_of_many_columns_is_scaled_to_the_page() -> None:
    wide = to_latex(Table("t", [Column(f"c{i}", f"c{i}") for i in range(9)], [{}]))
    assert r"\resizebox{\textwidth}" in wide and "graphicx" in wide.splitlines()[0] and wide.count("{") == wide.count("}")


@pytest.mark.parametrize("count", [2, 12, 25])
@pytest.mark.parametrize("points", [1, 5])
def test_names_at_line_ends_never_cover_one_another(count: int, points: int) -> None:
    names = [f"a_long_name_of_a_proxy_{index}" for index in range(count)]
    close = {name: [1 + 0.001 * index] * points for index, name in enumerate(names)}
    figure = figures.regret_curve(np.geomspace(1e7, 1e8, points), close, {"random": [1.0] * points}, title="t")
    assert sorted(texts(figure)) == sorted([*names, "random"]) and not overlapping(figure, figure.axes[0].texts)
    right = max(text.get_window_extent().x1 for text in figure.axes[0].texts)
    assert right <= figure.bbox.x1


def test_regret_is_drawn_over_sorted_budgets_with_dashed_baselines() -> None:
    figure = figures.regret_curve([1e8, 1e7], {"nwot": [0.5, 1.0]}, {"largest": [2.0, 3.0], "random": [4.0, 5.0]}, title="t")
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
    figure = figures.regret_curve([1e7, 2e7, 4e7], curves, {}, title="t")
    coloured = [line.get_label() for line in figure.axes[0].lines if len(set(matplotlib.colors.to_rgb(line.get_color()))) > 1]
    assert coloured == names[:6] and len({line.get_marker() for line in figure.axes[0].lines[:6]}) == 6


def test_matrix_brings_like_proxies_together_and_writes_their_numbers() -> None:
    names = ["a1", "b1", "a2", "b2", "a3"]
    table = np.array([[1.0 if x == y else 0.9 if x[0] == y[0] else -0.2 for y in names] for x in names])
    figure = figures.matrix(names, table, title="t")
    shown = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert sorted(shown) == sorted(names) and "".join(name[0] for name in shown) in ("aaabb", "bbaaa")
    assert shown == [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert sorted(texts(figure)) == [".90"] * 8 + ["−.20"] * 12
    for text in figure.axes[0].texts:
        column, row = (int(place) for place in text.get_position())
        assert text.get_text() == (".90" if shown[row][0] == shown[column][0] else "−.20")


@pytest.mark.parametrize(("count", "numbers"), [(0, 0), (1, 0), (2, 2), (25, 600)])
def test_matrix_of_any_size_has_readable_numbers_inside_their_cells(count: int, numbers: int) -> None:
    figure = figures.matrix([f"p{i}" for i in range(count)], np.full((count, count), -0.88), title="t")
    pieces = figure.axes[0].texts
    assert len(pieces) == numbers and not overlapping(figure, pieces[:60])
    assert all(float(text.get_fontsize()) >= 5.5 for text in pieces)


def test_matrix_with_missing_values_shows_a_dash() -> None:
    figure = figures.matrix(["a", "b", "c"], [[1, NAN, 0.5], [NAN, 1, NAN], [0.5, NAN, 1]], title="t")
    assert sorted(texts(figure)) == sorted(["–"] * 4 + [".50"] * 2)


def test_cost_marks_what_nothing_beats_and_says_what_is_missing() -> None:
    figure = figures.cost(["a", "b", "c", "d", "e"], [1, 10, 100, 0, 5], [0.5, 0.4, 0.7, 0.9, NAN], title="t")
    points = figure.axes[0].collections[1]
    assert np.asarray(points.get_offsets()).tolist() == [[1, 0.5], [10, 0.4], [100, 0.7]]
    first, second, third = (tuple(colour) for colour in np.asarray(points.get_facecolor()))
    assert first == third != second and note(figure) == "no value: d, e" and sorted(texts(figure)) == ["a", "b", "c"]
    assert figure.axes[0].get_xscale() == "log" and "milliseconds" in figure.axes[0].get_xlabel()


@pytest.mark.parametrize("count", [2, 12, 25])
def test_cost_names_cover_neither_one_another_nor_a_point(count: int) -> None:
    rng = np.random.default_rng(count)
    x, y = np.exp(rng.normal(3, 1, count)), rng.uniform(0, 0.8, count)
    figure = figures.cost([f"proxy_{index}" for index in range(count)], x, y, np.column_stack([y - 0.01, y + 0.01]), title="t")
    axes = figure.axes[0]
    assert len(axes.texts) == count and not overlapping(figure, axes.texts)
    room = axes.get_window_extent()
    for text in axes.texts:
        box = matplotlib.text.Text.get_window_extent(text)
        assert (
            room.x0 <= box.x0 + 1
            and box.x1 <= room.x1 + 1
            and not any(box.contains(*point) for point in axes.transData.transform(np.column_stack([x, y])))
        ), text.get_text()


def test_intervals_are_sorted_with_their_numbers_and_the_best_baseline() -> None:
    cells = [{"value": 0.2, "low": 0.1, "high": 0.3}, {"value": 0.8, "low": 0.75, "high": 0.85, "spread": 0.02}, None, 0.5]
    figure = figures.intervals(["params", "nwot", "zen", "flops"], cells, title="t", baselines=["params", "flops"])
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["nwot", "flops", "params", "zen"]
    assert texts(figure) == [".80 ± .02 [.75, .85]", ".50", ".20 [.10, .30]", "–"]
    segments = [segment.tolist() for whisker in axes.collections for segment in whisker.get_segments()]  # type: ignore[attr-defined]
    assert [[0.75, 0.0], [0.85, 0.0]] in segments and [[0.1, 2.0], [0.3, 2.0]] in segments
    assert [[pytest.approx(0.78), 0.0], [pytest.approx(0.82), 0.0]] in segments
    dashed = [line for line in axes.lines if line.is_dashed()]
    assert len(dashed) == 1 and list(dashed[0].get_xdata()) == [0.5, 0.5] and axes.get_ylim()[0] > axes.get_ylim()[1]  # type: ignore[arg-type]
    assert "dashed" in note(figure) and "seeds" in note(figure)


@pytest.mark.parametrize("count", [0, 12])
def test_every_figure_is_written_the_same_each_time_as_svg_and_png(tmp_path: Path, count: int) -> None:
    first = a_figure_of_each(count)
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "other", "axes.grid": True, "savefig.dpi": 20, "font.family": "serif"}):
        again = a_figure_of_each(count)
        for name, figure in first.items():
            vector, bitmap = figures.save(figure, tmp_path / f"{name}.v1")
            kept = vector.read_bytes(), bitmap.read_bytes()
            for path, whole in zip(figures.save(again[name], tmp_path / "again"), kept, strict=True):
                assert path.read_bytes() == whole, name
            assert figures.svg(figure).encode() == kept[0], name
            assert (vector.name, bitmap.name) == (f"{name}.v1.svg", f"{name}.v1.png")
            assert ET.fromstring(kept[0]).tag == "{http://www.w3.org/2000/svg}svg" and b"date" not in kept[0].lower()
            with Image.open(bitmap) as image:
                assert image.size == tuple(round(300 * inches, 6) // 1 for inches in figure.get_size_inches())
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["a$b$c", "$x^{$", EVIL, "网络", "x" * 200, "_hidden", "%s {}\n", "a\x00\udc80"])
def test_any_name_can_be_drawn_and_none_is_read_as_a_formula(name: str) -> None:
    other = "plain"
    drawn = [
        figures.bands([name, other], {name: [0.1, 0.2]}, title=name),
        figures.regret_curve([1e7, 1e8], {name: [1, 2]}, {other: [2, 3]}, title=name),
        figures.cost([name, other], [1, 2], [0.1, 0.2], title=name),
        figures.matrix([name, other], [[1, 0], [0, 1]], title=name),
        figures.intervals([name, other], [0.1, 0.2], title=name),
    ]
    for figure in drawn:
        root = ET.fromstring(figures.svg(figure))
        assert not [element for element in root.iter() if element.tag.endswith("script")]
    labels = [text.get_text() for text in drawn[0].axes[0].texts]
    assert len(labels) == 2 and all(len(label) <= 45 for label in labels)
    if "$" in name and len(name) < 30:
        assert labels[0].replace(r"\$", "$") == name


def test_figures_leave_matplotlib_as_it_was() -> None:
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy(); from diswot.report import figures, html\n"
        "figure = figures.intervals(['a'], [0.5], title='t'); html.page('t', [html.Section('', [figure])])\n"
        "print('matplotlib.pyplot' in sys.modules, before == matplotlib.rcParams.copy())"
    )
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert found.stdout.split() == ["False", "True"], found.stderr


# The page


class Reader(HTMLParser):
    """What a browser would see: tags with their attributes, the text inside them, and whether every tag is closed."""

    void = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open += [tag] * (tag not in self.void)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)


def a_page() -> str:
    drawn = a_figure_of_each()
    parts = [TABLE, drawn["points"], drawn["density"], Picture(drawn["cost"], "What it costs " + EVIL)]
    listing = Listing("a: 1\n  b: <2>\x00\n", "config.yaml")
    sections = [Section("", [EVIL]), Section("Overall", parts), Section("Cost & more", [drawn["points"]]), Section("Made with", [listing])]
    return page("Study " + EVIL, sections)


@pytest.fixture(scope="module")
def whole() -> str:
    return a_page()


@pytest.fixture(scope="module")
def read(whole: str) -> Reader:
    return Reader(whole)


def test_page_shows_everything_and_runs_nothing(read: Reader) -> None:
    tags = [tag for tag, _ in read.tags]
    assert read.open == [] and "script" not in tags and tags.count("svg") == 4 and tags.count("table") == 1
    assert read.text["h1"] == ["Study " + EVIL] == read.text["title"] and EVIL in read.text["p"]
    assert read.text["h2"] == ["Overall", "Cost & more", "Made with"] and read.text["pre"] == ["a: 1\n  b: <2>"]
    assert [text for text in read.text["figcaption"] if text.strip()] == [TABLE.title, "What it costs " + EVIL, "config.yaml"]
    assert not [key for _, attributes in read.tags for key in attributes if key.startswith("on")]


def test_page_needs_nothing_beside_it(read: Reader) -> None:
    for tag, attributes in read.tags:
        for key, value in attributes.items():
            if key in ("src", "href", "xlink:href"):
                assert value and value.startswith("#"), (tag, key, value)
    style = "".join(read.text["style"])
    assert "prefers-color-scheme: dark" in style and "url(" not in style and "@import" not in style
    metas = [attributes for tag, attributes in read.tags if tag == "meta"]
    assert any(meta.get("name") == "viewport" for meta in metas) and any("default-src 'none'" in str(meta.get("content")) for meta in metas)


def test_ids_of_a_page_are_unique_and_every_reference_finds_its_own(read: Reader) -> None:
    ids = [str(attributes["id"]) for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 100
    referred = {str(value)[1:] for _, attributes in read.tags for key, value in attributes.items() if key.endswith("href")}
    referred |= {name for _, attributes in read.tags for value in attributes.values() for name in re.findall(r"url\(#(.*?)\)", str(value))}
    assert {name.split("-")[0] for name in referred} >= {"s2", "f3", "f4", "f5"} and referred <= set(ids)
    assert len({attributes["id"] for tag, attributes in read.tags if tag == "clippath"}) >= 4


def test_page_table_says_which_numbers_are_best_and_stays_in_its_box(read: Reader) -> None:
    assert read.text["b"] == [".709", "0.1"] and read.text["small"][0] == "± .004 [.699, .722]" and "[−.200, .050]" in read.text["small"]
    assert EVIL in read.text["th"] and {"proxy", "Spearman", "ms per network", "networks"} <= set(read.text["th"])
    tags = [(tag, attributes.get("class")) for tag, attributes in read.tags]
    assert tags[tags.index(("table", None)) - 1] == ("div", "scroll")
    assert all(tags[index - 1] == ("div", "scroll") for index, (tag, _) in enumerate(tags) if tag == "svg")


def test_page_lists_its_contents_where_there_are_many() -> None:
    def links(count: int) -> list[str | None]:
        tags = Reader(page("t", [Section(f"h{index}", ["x"]) for index in range(count)])).tags
        return [attributes["href"] for tag, attributes in tags if tag == "a"]

    assert links(2) == [] and links(3) == ["#s1", "#s2", "#s3"]


def test_page_is_the_same_for_the_same_values(whole: str) -> None:
    assert a_page() == whole


def test_pictures_in_a_page_are_named_for_those_who_cannot_see_them(read: Reader) -> None:
    pictures = [attributes for tag, attributes in read.tags if tag == "svg"]
    assert [picture["aria-label"] for picture in pictures] == ["points", "density", "cost", "points"]
    assert all(picture["role"] == "img" and picture.get("viewbox") and "width" not in picture for picture in pictures)
