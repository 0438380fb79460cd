"""One table, written for each of its readers: CSV and JSON for programs, Markdown, LaTeX and the terminal for people."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import rich.table
from rich.markup import escape
from rich.text import Text

from diswot.ranking import Estimate
from diswot.report.console import plain_table
from diswot.runs import write_atomic

Kind = Literal["text", "number", "estimate", "integer"]
_MOST_COLUMNS = 5  # of a LaTeX table that is as wide as it likes
_BOUNDS = ("low", "high", "spread")
_LATEX = {
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
    """A column: `digits` after the point are printed; `best` says whether the highest or the lowest value is in bold, if any."""

    key: str
    heading: str
    kind: Kind = "text"
    digits: int = 3
    best: Literal["high", "low"] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or self.best not in ("high", "low", None):
            raise ValueError(f"column {self.key!r}: kind {self.kind!r}, best {self.best!r}")


@dataclass(frozen=True)
class Table:
    """Columns and rows. A row maps the columns' keys to cells; a cell that is missing, None or NaN is printed as `-`.

    An estimate is a number, or an object or mapping with `value`, `low`, `high` and perhaps `spread`.
    """

    title: str
    columns: list[Column]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        keys = [key for column in self.columns for key in _csv_keys(column)]
        if len(keys) != len(set(keys)):
            raise ValueError(f"a key stands for two columns: {', '.join(sorted({key for key in keys if keys.count(key) > 1}))}")


@dataclass(frozen=True)
class Cell:
    """What is printed: the text (a value), `rest` (its spread and interval), and whether it is the best of its column."""

    text: str
    rest: str = ""
    best: bool = False

    def __str__(self) -> str:
        return " ".join(filter(None, (self.text, self.rest)))


def estimate_of(cell: Any) -> Estimate:
    """Any cell that holds a number, as an `Estimate`; None as NaN.

    >>> estimate_of({"value": 0.7, "low": 0.6, "high": None})
    Estimate(value=0.7, low=0.6, high=nan, spread=None)
    """
    if isinstance(cell, Mapping):
        found = [cell.get(key) for key in ("value", *_BOUNDS)]
    elif hasattr(cell, "value"):
        found = [getattr(cell, key, None) for key in ("value", *_BOUNDS)]
    else:
        found = [cell, None, None, None]
    value, low, high, spread = (math.nan if number is None else float(number) for number in found)
    return Estimate(value, low, high, None if math.isnan(spread) else spread)


def estimate_text(cell: Any, digits: int = 3, bare: bool | None = None) -> Cell:
    """How an estimate is printed.

    Args:
        cell: anything that `estimate_of` takes.
        digits: after the point.
        bare: without the zero before the point; None: where value and bounds lie in [-1, 1].

    >>> str(estimate_text({"value": 0.7091, "low": 0.699, "high": 0.722, "spread": 0.004}))
    '.709 ± .004 [.699, .722]'
    >>> str(estimate_text(0.7091, 2)), str(estimate_text(12.5, 1)), str(estimate_text(None))
    ('.71', '12.5', '-')
    """
    found = estimate_of(cell)
    bare = _all_small([found]) if bare is None else bare
    if math.isnan(found.value):
        return Cell("-")
    value, low, high, spread = (_decimal(x, digits, bare) for x in (found.value, found.low, found.high, found.spread))
    rest = [f"± {spread}"] * (found.spread is not None) + [f"[{low}, {high}]"] * (not math.isnan(found.low + found.high))
    return Cell(value, " ".join(rest))


def _decimal(value: float | None, digits: int, bare: bool) -> str:
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:,.{digits}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return re.sub(r"^(-?)0\.", r"\1.", text) if bare else text


def _all_small(estimates: Sequence[Estimate]) -> bool:
    numbers = [x for e in estimates for x in (e.value, e.low, e.high)]
    return all(abs(x) <= 1 for x in numbers if not math.isnan(x))


def clean(value: object) -> str:
    """A text on one line that every file can hold: without line breaks, control characters and halves of UTF-16 pairs.

    >>> clean("a\\n b\\x00"), clean("\\udc80")
    ('a b', '?')
    """
    line = " ".join(str(value).split())
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]", "", line.encode("utf-8", "replace").decode())


def _missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def printed(table: Table) -> list[list[Cell]]:
    """The rows as they are printed, a `Cell` for each column; of values that print alike, all or none are the best.

    >>> rows = [{"name": "nwot", "rho": 0.78}, {"name": "params", "rho": 0.72}]
    >>> printed(Table("", [Column("name", "proxy"), Column("rho", "Spearman", "estimate", 2, best="high")], rows))[0]
    [Cell(text='nwot', rest='', best=False), Cell(text='.78', rest='', best=True)]
    """
    columns = [_printed_column(column, [row.get(column.key) for row in table.rows]) for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _printed_column(column: Column, cells: Sequence[Any]) -> list[Cell]:
    if column.kind == "text":
        return [Cell("-" if _missing(cell) else clean(cell)) for cell in cells]
    estimates = [estimate_of(cell) for cell in cells]
    digits = 0 if column.kind == "integer" else column.digits
    bare = column.kind == "estimate" and _all_small(estimates)
    shown = [estimate_text(e if column.kind == "estimate" else e.value, digits, bare) for e in estimates]
    best = _best_text(column, [e.value for e in estimates], [cell.text for cell in shown])
    return [Cell(cell.text, cell.rest, cell.text == best) for cell in shown]


def _best_text(column: Column, values: Sequence[float], texts: Sequence[str]) -> str | None:
    """How the best value is printed; None where there is none, or nothing that it is better than."""
    found = {text: value for value, text in zip(values, texts, strict=True) if not math.isnan(value)}
    if column.best is None or len(found) < 2:
        return None
    return (max if column.best == "high" else min)(found, key=lambda text: found[text])


def _csv_keys(column: Column) -> list[str]:
    return [column.key, *(f"{column.key}_{bound}" for bound in _BOUNDS)] if column.kind == "estimate" else [column.key]


def to_csv(table: Table) -> str:
    """Comma-separated values under the columns' keys, in full precision, nothing where there is no value.

    An estimate takes four columns: `key`, `key_low`, `key_high`, `key_spread`. A text that a spreadsheet would run as a formula (it
    begins with = + - @) gets an apostrophe before it.

    >>> columns = [Column("name", "proxy"), Column("rho", "Spearman", "estimate")]
    >>> print(to_csv(Table("", columns, [{"name": "=1+1", "rho": {"value": 0.5, "low": 0.25, "high": 0.75}}])), end="")
    name,rho,rho_low,rho_high,rho_spread
    '=1+1,0.5,0.25,0.75,
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_harmless(key) for column in table.columns for key in _csv_keys(column)])
    for row in table.rows:
        writer.writerow([text for column in table.columns for text in _csv_cells(column, row.get(column.key))])
    return out.getvalue()


def _csv_cells(column: Column, cell: Any) -> list[str]:
    if column.kind == "text":
        return ["" if _missing(cell) else _harmless(clean(cell))]
    found = estimate_of(cell)
    numbers = [found.value, found.low, found.high, found.spread] if column.kind == "estimate" else [found.value]
    return ["" if x is None or math.isnan(x) else repr(_whole(x) if column.kind == "integer" else x) for x in numbers]


def _whole(number: float) -> float:
    return int(number) if number.is_integer() else number


def _harmless(text: str) -> str:
    return "'" + text if text.startswith(("=", "+", "-", "@")) else text


def to_json(table: Table) -> str:
    """Strict JSON: the title, the columns, and the rows under the columns' keys; what is missing or not finite is null.

    >>> json.loads(to_json(Table("t", [Column("ms", "cost", "number")], [{"ms": float("nan")}])))["rows"]
    [{'ms': None}]
    """
    columns = [asdict(column) for column in table.columns]
    rows = [{column.key: _json_cell(column, row.get(column.key)) for column in table.columns} for row in table.rows]
    document = {"title": clean(table.title), "columns": columns, "rows": rows}
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _json_cell(column: Column, cell: Any) -> Any:
    if column.kind == "text":
        return None if _missing(cell) else clean(cell)
    found = {key: x if x is not None and math.isfinite(x) else None for key, x in asdict(estimate_of(cell)).items()}
    if column.kind == "estimate":
        return found
    return found["value"] if column.kind == "number" or found["value"] is None else _whole(found["value"])


def to_markdown(table: Table) -> str:
    """A GitHub table under its title, the best of each column in bold.

    >>> print(to_markdown(Table("A", [Column("n", "a|b"), Column("x", "x", "number", 1)], [{"n": "p", "x": 2}])), end="")
    **A**
    <BLANKLINE>
    | a\\|b |   x |
    | :--- | --: |
    | p    | 2.0 |
    """
    plain = [_markdown_text if column.kind == "text" else str for column in table.columns]
    body = [[_markdown_cell(cell, text) for cell, text in zip(row, plain, strict=True)] for row in printed(table)]
    rows = [[_markdown_text(column.heading) for column in table.columns], *body]
    widths = [max(3, *(len(row[index]) for row in rows)) for index in range(len(table.columns))]
    left = [column.kind == "text" for column in table.columns]
    rule = [":".ljust(width, "-") if to_left else ":".rjust(width, "-") for width, to_left in zip(widths, left, strict=True)]
    lines = [[cell.ljust(w) if to_left else cell.rjust(w) for cell, w, to_left in zip(row, widths, left, strict=True)] for row in rows]
    lines.insert(1, rule)
    title = [f"**{_markdown_text(table.title)}**", ""] if clean(table.title) else []
    return "\n".join([*title, *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


def _markdown_cell(cell: Cell, escaped: Callable[[str], str]) -> str:
    text = escaped(cell.text)
    return " ".join(filter(None, (f"**{text}**" if cell.best else text, cell.rest)))


def _markdown_text(text: str) -> str:
    """Underscores inside a word are no emphasis and stay readable."""
    return re.sub(r"([\\|*`<>\[\]&~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", clean(text))


def to_latex(table: Table, label: str = "") -> str:
    """A `table` float with booktabs rules, the best of each column in bold; one of many columns is scaled to the width of the text.

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
    plain = [latex_text if column.kind == "text" else _latex_number for column in table.columns]
    rows = [[_latex_cell(cell, text) for cell, text in zip(row, plain, strict=True)] for row in printed(table)]
    heading = [latex_text(column.heading) for column in table.columns]
    layout = "".join("l" if column.kind == "text" else "r" for column in table.columns)
    lines = [r"\toprule", _latex_row(heading), r"\midrule", *map(_latex_row, rows), r"\bottomrule"]
    wide = len(table.columns) > _MOST_COLUMNS
    packages = "booktabs,graphicx" if wide else "booktabs"
    head = [f"% needs \\usepackage{{{packages}}}", r"\begin{table}", r"  \centering", rf"  \caption{{{latex_text(table.title)}}}"]
    named = [rf"  \label{{{label}}}"] if label else []
    tabular = [rf"  \begin{{tabular}}{{{layout}}}", *("    " + line for line in lines), r"  \end{tabular}"]
    tabular = [r"  \resizebox{\textwidth}{!}{%", *tabular, "  }"] if wide else tabular
    return "\n".join([*head, *named, *tabular, r"\end{table}"]) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: Cell, escaped: Callable[[str], str]) -> str:
    text = escaped(cell.text)
    rest = rf"{{\scriptsize {_latex_number(cell.rest)}}}" if cell.rest else ""
    return " ".join(filter(None, (rf"\textbf{{{text}}}" if cell.best else text, rest)))


def _latex_number(text: str) -> str:
    return re.sub(r"-(?=[\d.])", "$-$", text).replace("±", r"$\pm$")


def latex_text(text: object) -> str:
    """A text as LaTeX prints it.

    >>> latex_text("50% of a_b")
    '50\\\\% of a\\\\_b'
    """
    return "".join(_LATEX.get(character, character) for character in clean(text))


def to_rich(table: Table) -> rich.table.Table:
    """For the terminal, in the look of the other commands, the best of each column in bold.

    >>> found = to_rich(Table("costs", [Column("ms", "ms", "number", 1)], [{"ms": 2.0}]))
    >>> str(found.title), found.columns[0].justify, [str(cell) for cell in found.columns[0].cells]
    ('costs', 'right', ['2.0'])
    """
    shown = plain_table("", [escape(clean(column.heading)) for column in table.columns], left=0)
    shown.title = Text(clean(table.title))
    for column, drawn in zip(table.columns, shown.columns, strict=True):
        drawn.justify = "left" if column.kind == "text" else "right"
    for row in printed(table):
        shown.add_row(*(_rich_cell(cell) for cell in row))
    return shown


def _rich_cell(cell: Cell) -> Text:
    rest = f" {cell.rest}" if cell.rest else ""
    return Text.assemble((cell.text, "bold" if cell.best else ""), (rest, "dim"))


def write(table: Table, folder: Path, stem: str) -> list[Path]:
    """Writes `<stem>.csv`, `.json`, `.md` and `.tex` into a folder that exists, each whole or not at all, and says where."""
    texts = {".csv": to_csv(table), ".json": to_json(table), ".md": to_markdown(table), ".tex": to_latex(table, f"tab:{stem}")}
    paths = [folder / (stem + suffix) for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_atomic(path, text)
    return paths
