"""Tables read back as their readers read them: CSV, JSON, Markdown, LaTeX and the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from diswot.report.tables import Column, Table, format_estimate, format_rows, to_csv, to_json, to_latex, to_markdown, to_rich, write_table
from tests.report.samples import COLUMNS, EVIL, NAN, ROWS, TABLE


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


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
    assert str(format_estimate(cell, digits)) == text


def test_a_column_is_printed_with_or_without_zeros_before_the_point_but_not_both() -> None:
    column = Column("x", "x", "estimate", 1)
    assert [str(row[0]) for row in format_rows(Table("", [column], [{"x": 0.5}, {"x": 2.0}]))] == ["0.5", "2.0"]
    assert [str(row[0]) for row in format_rows(Table("", [column], [{"x": 0.5}, {"x": 0.2}]))] == [".5", ".2"]


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
    rows = format_rows(Table("", [Column("x", "x", "number", 1, best)], [{"x": value} for value in values]))
    assert [index for index, (cell,) in enumerate(rows) if cell.best] == bold


def test_a_table_whose_file_would_hold_a_column_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="rho_low"):
        Table("", [Column("rho", "a", "estimate"), Column("rho_low", "b", "number")])
    with pytest.raises(ValueError, match="kind 'float'"):
        Column("x", "x", "float")  # type: ignore[arg-type]


def test_four_files_the_same_every_time_and_nothing_else(tmp_path: Path) -> None:
    paths = write_table(TABLE, tmp_path, "all.v1")
    first = [path.read_bytes() for path in paths]
    assert sorted(tmp_path.iterdir()) == sorted(paths) and [path.name for path in paths] == [
        f"all.v1{end}" for end in (".csv", ".json", ".md", ".tex")
    ]
    assert [path.read_bytes() for path in write_table(TABLE, tmp_path, "all.v1")] == first
    assert first[0].decode() == to_csv(TABLE) and json.loads(first[1]) == json.loads(to_json(TABLE))


def test_a_table_without_rows_is_written_too(tmp_path: Path) -> None:
    empty = Table("nothing", COLUMNS)
    assert [path.stat().st_size > 0 for path in write_table(empty, tmp_path, "e")] == [True] * 4
    assert to_csv(empty).splitlines() == ["name,rho,rho_low,rho_high,rho_spread,ms,n"] and json.loads(to_json(empty))["rows"] == []
    assert to_rich(empty).row_count == 0


def test_a_name_that_is_no_unicode_does_not_lose_the_table(tmp_path: Path) -> None:
    (path, *_) = write_table(Table("t", [Column("n", "n")], [{"n": "a\udc80\x00b\nc"}]), tmp_path, "x")
    assert path.read_text() == "n\na?b c\n"


def test_a_latex_table_of_many_columns_is_scaled_to_the_page() -> None:
    wide = to_latex(Table("t", [Column(f"c{i}", f"c{i}") for i in range(9)], [{}]))
    assert r"\resizebox{\textwidth}" in wide and "graphicx" in wide.splitlines()[0] and wide.count("{") == wide.count("}")
