"""A table of results, written as CSV, JSON, Markdown and LaTeX and for the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import rich.table
from rich.markup import escape
from rich.text import Text

from diswot.report.terminal import plain_table
from diswot.report.text import replace_minus, single_line
from diswot.runs import write_atomic
from diswot.statistics.bootstrap import Estimate

Kind = Literal["text", "number", "estimate", "integer"]
_MAX_UNSCALED_COLUMNS = 5  # a LaTeX table with more is scaled to the width of the text
_UNCERTAINTY_KEYS = ("low", "high", "spread")
_LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: "\\" + character for character in "_%&#${}"},
    **{character: f"{{{character}}}" for character in "[]*"},  # at the start of a row, `\\` would take them for its own argument
}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: what the rows call it, and its name in CSV and JSON.
        heading: its name for people.
        kind: what its cells hold.
        digits: after the point, where numbers are rounded for people.
        best: whether the highest or the lowest value is set in bold; None for neither.
    """

    key: str
    heading: str
    kind: Kind = "text"
    digits: int = 3
    best: Literal["high", "low"] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or self.best not in ("high", "low", None):
            raise ValueError(f"column {self.key!r}: kind {self.kind!r}, best {self.best!r}")

    @property
    def is_text(self) -> bool:
        return self.kind == "text"

    @property
    def csv_keys(self) -> list[str]:
        """The names of its columns in a CSV file: an estimate takes four."""
        return [self.key, *(f"{self.key}_{key}" for key in _UNCERTAINTY_KEYS)] if self.kind == "estimate" else [self.key]


@dataclass(frozen=True)
class Table:
    """A title, columns, and rows that map the columns' keys to cells; a cell that is missing, None or NaN is written as `-`.

    An estimate is a number, or an object or mapping with `value`, `low`, `high` and perhaps `spread`.
    """

    title: str
    columns: list[Column]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        keys = [key for column in self.columns for key in column.csv_keys]
        if len(keys) != len(set(keys)):
            raise ValueError(f"a key stands for two columns: {', '.join(sorted({key for key in keys if keys.count(key) > 1}))}")


@dataclass(frozen=True)
class FormattedCell:
    """A cell as text: a name or a rounded value, its uncertainty (± spread, [interval]), and whether it is the best of its column."""

    text: str
    uncertainty: str = ""
    best: bool = False

    def __str__(self) -> str:
        return _join_words(self.text, self.uncertainty)


def _join_words(*words: str) -> str:
    """Joins words by spaces and leaves out empty ones."""
    return " ".join(filter(None, words))


def to_estimate(cell: Any) -> Estimate:
    """Any cell that holds a number, as an `Estimate`; None becomes NaN.

    >>> to_estimate({"value": 0.7, "low": 0.6, "high": None})
    Estimate(value=0.7, low=0.6, high=nan, spread=None)
    """
    if isinstance(cell, Mapping):
        numbers = [cell.get(key) for key in ("value", *_UNCERTAINTY_KEYS)]
    elif hasattr(cell, "value"):
        numbers = [getattr(cell, key, None) for key in ("value", *_UNCERTAINTY_KEYS)]
    else:
        numbers = [cell, None, None, None]
    value, low, high, spread = (math.nan if number is None else float(number) for number in numbers)
    return Estimate(value, low, high, None if math.isnan(spread) else spread)


def format_estimate(cell: Any, digits: int = 3, leading_zero: bool | None = None) -> FormattedCell:
    """Formats an estimate as `value ± spread [low, high]`.

    Args:
        cell: anything that `to_estimate` takes.
        digits: after the point.
        leading_zero: whether a zero is written before the point; None: unless value and bounds lie in [-1, 1].

    >>> str(format_estimate({"value": 0.7091, "low": 0.699, "high": 0.722, "spread": 0.004}))
    '.709 ± .004 [.699, .722]'
    >>> str(format_estimate(0.7091, 2)), str(format_estimate(12.5, 1)), str(format_estimate(None))
    ('.71', '12.5', '-')
    """
    estimate = to_estimate(cell)
    if leading_zero is None:
        leading_zero = not _all_within_one([estimate])
    if math.isnan(estimate.value):
        return FormattedCell("-")

    def number(value: float) -> str:
        return _format_number(value, digits, leading_zero)

    spread = "" if estimate.spread is None else f"± {number(estimate.spread)}"
    interval = "" if math.isnan(estimate.low + estimate.high) else f"[{number(estimate.low)}, {number(estimate.high)}]"
    return FormattedCell(number(estimate.value), _join_words(spread, interval))


def _format_number(value: float, digits: int, leading_zero: bool) -> str:
    """Rounds a number; what rounds to zero has no sign."""
    text = f"{value:,.{digits}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return text if leading_zero else re.sub(r"^(-?)0\.", r"\1.", text)


def _all_within_one(estimates: Sequence[Estimate]) -> bool:
    """Whether all values and bounds lie in [-1, 1]."""
    numbers = [x for e in estimates for x in (e.value, e.low, e.high)]
    return all(abs(x) <= 1 for x in numbers if not math.isnan(x))


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def format_rows(table: Table) -> list[list[FormattedCell]]:
    """Formats every cell of a table for people; of values that look alike when rounded, all or none are the best.

    >>> rows = [{"name": "nwot", "rho": 0.78}, {"name": "params", "rho": 0.72}]
    >>> format_rows(Table("", [Column("name", "proxy"), Column("rho", "Spearman", "estimate", 2, best="high")], rows))[0]
    [FormattedCell(text='nwot', uncertainty='', best=False), FormattedCell(text='.78', uncertainty='', best=True)]
    """
    columns = [_format_column(column, [row.get(column.key) for row in table.rows]) for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _format_column(column: Column, cells: Sequence[Any]) -> list[FormattedCell]:
    """Formats the cells of one column, all with or all without a zero before the point."""
    if column.is_text:
        return [FormattedCell("-" if _is_missing(cell) else single_line(cell)) for cell in cells]
    estimates = [to_estimate(cell) for cell in cells]
    digits = 0 if column.kind == "integer" else column.digits
    leading_zero = column.kind != "estimate" or not _all_within_one(estimates)
    formatted = [format_estimate(e if column.kind == "estimate" else e.value, digits, leading_zero) for e in estimates]
    best = _best_text(column, [e.value for e in estimates], [cell.text for cell in formatted])
    return [replace(cell, best=cell.text == best) for cell in formatted]


def _best_text(column: Column, values: Sequence[float], texts: Sequence[str]) -> str | None:
    """The text of the best value; None where there is none, or nothing that it is better than."""
    value_of = {text: value for value, text in zip(values, texts, strict=True) if not math.isnan(value)}
    if column.best is None or len(value_of) < 2:
        return None
    return (max if column.best == "high" else min)(value_of, key=lambda text: value_of[text])


def to_csv(table: Table) -> str:
    """Writes a table as comma-separated values under the columns' keys, in full precision, nothing where there is no value.

    An estimate takes four columns: `key`, `key_low`, `key_high`, `key_spread`. A text that a spreadsheet would run as a formula (it
    begins with = + - @) gets an apostrophe before it.

    >>> columns = [Column("name", "proxy"), Column("rho", "Spearman", "estimate")]
    >>> print(to_csv(Table("", columns, [{"name": "=1+1", "rho": {"value": 0.5, "low": 0.25, "high": 0.75}}])), end="")
    name,rho,rho_low,rho_high,rho_spread
    '=1+1,0.5,0.25,0.75,
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_escape_formula(key) for column in table.columns for key in column.csv_keys])
    for row in table.rows:
        writer.writerow([text for column in table.columns for text in _csv_cells(column, row.get(column.key))])
    return out.getvalue()


def _csv_cells(column: Column, cell: Any) -> list[str]:
    """A cell as text for each of the column's `csv_keys`."""
    if column.is_text:
        return ["" if _is_missing(cell) else _escape_formula(single_line(cell))]
    estimate = to_estimate(cell)
    numbers = [estimate.value, estimate.low, estimate.high, estimate.spread] if column.kind == "estimate" else [estimate.value]
    return ["" if x is None or math.isnan(x) else repr(_to_integer(x) if column.kind == "integer" else x) for x in numbers]


def _to_integer(number: float) -> float:
    """A whole number as an int, so that no `.0` is written; any other number as it is."""
    return int(number) if number.is_integer() else number


def _escape_formula(text: str) -> str:
    """Puts an apostrophe before a text that a spreadsheet would run as a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@")) else text


def to_json(table: Table) -> str:
    """Writes a table as strict JSON: title, columns, and rows under the columns' keys; what is missing or not finite is null.

    >>> json.loads(to_json(Table("t", [Column("ms", "cost", "number")], [{"ms": float("nan")}])))["rows"]
    [{'ms': None}]
    """
    columns = [asdict(column) for column in table.columns]
    rows = [{column.key: _json_value(column, row.get(column.key)) for column in table.columns} for row in table.rows]
    document = {"title": single_line(table.title), "columns": columns, "rows": rows}
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _json_value(column: Column, cell: Any) -> Any:
    """A cell as a value that JSON can hold."""
    if column.is_text:
        return None if _is_missing(cell) else single_line(cell)
    numbers = {key: x if x is not None and math.isfinite(x) else None for key, x in asdict(to_estimate(cell)).items()}
    if column.kind == "estimate":
        return numbers
    value = numbers["value"]
    return value if column.kind == "number" or value is None else _to_integer(value)


def to_markdown(table: Table) -> str:
    """Writes a table in GitHub's Markdown under its title, the best of each column in bold.

    >>> print(to_markdown(Table("A", [Column("n", "a|b"), Column("x", "x", "number", 1)], [{"n": "p", "x": 2}])), end="")
    **A**
    <BLANKLINE>
    | a\\|b |   x |
    | :--- | --: |
    | p    | 2.0 |
    """
    escapes = [_escape_markdown if column.is_text else str for column in table.columns]
    body = [[_markdown_cell(cell, escape) for cell, escape in zip(row, escapes, strict=True)] for row in format_rows(table)]
    rows = [[_escape_markdown(column.heading) for column in table.columns], *body]
    widths = [max(3, *(len(row[index]) for row in rows)) for index in range(len(table.columns))]
    left = [column.is_text for column in table.columns]
    rule = [":".ljust(width, "-") if to_left else ":".rjust(width, "-") for width, to_left in zip(widths, left, strict=True)]
    lines = [[cell.ljust(w) if to_left else cell.rjust(w) for cell, w, to_left in zip(row, widths, left, strict=True)] for row in rows]
    lines.insert(1, rule)
    title = [f"**{_escape_markdown(table.title)}**", ""] if single_line(table.title) else []
    return "\n".join([*title, *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


def _markdown_cell(cell: FormattedCell, escape: Callable[[str], str]) -> str:
    text = escape(cell.text)
    return _join_words(f"**{text}**" if cell.best else text, cell.uncertainty)


def _escape_markdown(text: str) -> str:
    """Puts backslashes before Markdown's signs; underscores inside a word are no emphasis and stay readable."""
    return re.sub(r"([\\|*`<>\[\]&~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", single_line(text))


def to_latex(table: Table, label: str = "") -> str:
    """Writes a LaTeX `table` with booktabs rules, the best of each column in bold; one of many columns is scaled to the text's width.

    Args:
        label: what \\ref finds it by; none where empty.

    >>> print(to_latex(Table("A & B", [Column("n", "proxy"), Column("x", "ms", "number", 1)], [{"n": "grad_norm", "x": -2}])), end="")
    % needs \\usepackage{booktabs}
    \\begin{table}
      \\centering
      \\caption{A \\& B}
      \\begin{tabular}{lr}
        \\toprule
        proxy & ms \\\\
        \\midrule
        grad\\_norm & $-$2.0 \\\\
        \\bottomrule
      \\end{tabular}
    \\end{table}
    """
    escapes = [escape_latex if column.is_text else _latex_number for column in table.columns]
    rows = [[_latex_cell(cell, escape) for cell, escape in zip(row, escapes, strict=True)] for row in format_rows(table)]
    heading = [escape_latex(column.heading) for column in table.columns]
    alignment = "".join("l" if column.is_text else "r" for column in table.columns)
    lines = [r"\toprule", _latex_row(heading), r"\midrule", *map(_latex_row, rows), r"\bottomrule"]
    wide = len(table.columns) > _MAX_UNSCALED_COLUMNS
    packages = "booktabs,graphicx" if wide else "booktabs"
    head = [f"% needs \\usepackage{{{packages}}}", r"\begin{table}", r"  \centering", rf"  \caption{{{escape_latex(table.title)}}}"]
    head += [rf"  \label{{{label}}}"] if label else []
    tabular = [rf"  \begin{{tabular}}{{{alignment}}}", *("    " + line for line in lines), r"  \end{tabular}"]
    tabular = [r"  \resizebox{\textwidth}{!}{%", *tabular, "  }"] if wide else tabular
    return "\n".join([*head, *tabular, r"\end{table}"]) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: FormattedCell, escape: Callable[[str], str]) -> str:
    text = escape(cell.text)
    uncertainty = rf"{{\scriptsize {_latex_number(cell.uncertainty)}}}" if cell.uncertainty else ""
    return _join_words(rf"\textbf{{{text}}}" if cell.best else text, uncertainty)


def _latex_number(text: str) -> str:
    return replace_minus(text, "$-$").replace("±", r"$\pm$")


def escape_latex(text: object) -> str:
    """Escapes what LaTeX would not print as it is.

    >>> escape_latex("50% of a_b")
    '50\\\\% of a\\\\_b'
    """
    return "".join(_LATEX_ESCAPES.get(character, character) for character in single_line(text))


def to_rich(table: Table) -> rich.table.Table:
    """Converts a table for rich's terminal output, in the look of the other commands, the best of each column in bold.

    >>> found = to_rich(Table("costs", [Column("ms", "ms", "number", 1)], [{"ms": 2.0}]))
    >>> str(found.title), found.columns[0].justify, [str(cell) for cell in found.columns[0].cells]
    ('costs', 'right', ['2.0'])
    """
    result = plain_table("", [escape(single_line(column.heading)) for column in table.columns], left=0)
    result.title = Text(single_line(table.title))
    for column, rich_column in zip(table.columns, result.columns, strict=True):
        rich_column.justify = "left" if column.is_text else "right"
    for row in format_rows(table):
        result.add_row(*(_rich_cell(cell) for cell in row))
    return result


def _rich_cell(cell: FormattedCell) -> Text:
    uncertainty = f" {cell.uncertainty}" if cell.uncertainty else ""
    return Text.assemble((cell.text, "bold" if cell.best else ""), (uncertainty, "dim"))


def write_table(table: Table, folder: Path, stem: str) -> list[Path]:
    """Writes `<stem>.csv`, `.json`, `.md` and `.tex` into a folder that exists, each whole or not at all, and returns their paths."""
    texts = {".csv": to_csv(table), ".json": to_json(table), ".md": to_markdown(table), ".tex": to_latex(table, f"tab:{stem}")}
    paths = [folder / (stem + suffix) for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_atomic(path, text)
    return paths
