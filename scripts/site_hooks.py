"""Hooks of mkdocs (`hooks:` of mkdocs.yml): pages of the repository's files that the documentation links to, and notebooks.

On a code host a link such as `../../examples/space.py` leads to the file. The site holds docs/ alone, so each file that a page links to
becomes a page of its own under `repository/`; a folder becomes a list of its files. A notebook of docs/ is shown as a page beside it.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(?!\w+:|/)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash", "": "bash"}
FOLDER = "repository"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, and for each file outside docs/ that a page links to."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.append(File.generated(config, file.src_uri.replace(".ipynb", ".md"), content=notebook_page(json.loads(file.content_string))))
    waiting = [path for file in files.documentation_pages() for path in outside(f"docs/{file.src_uri}", file.content_string)]
    while waiting:
        path = waiting.pop()
        if files.get_file_from_path(page_of(path)) is None:
            text = repository_page(path)
            files.append(File.generated(config, page_of(path), content=text, inclusion=InclusionLevel.NOT_IN_NAV))
            waiting += members(path) if (ROOT / path).is_dir() else outside(path, text) if path.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links that leave docs/ to the pages of these files, and those to notebooks to the pages that show them."""
    here = page.file.src_uri
    shown = here.removeprefix(f"{FOLDER}/") if here.startswith(f"{FOLDER}/") else f"docs/{here}"
    if not (ROOT / shown).exists():  # code, or a list of files
        return markdown

    def led(match: re.Match[str]) -> str:
        path = target(shown, match["path"])
        if path.startswith("docs/") and path.endswith(".ipynb"):
            return match["path"].replace(".ipynb", ".md")
        if path.startswith("docs/"):
            to = path.removeprefix("docs/")
            return match[0] if shown.startswith("docs/") else posixpath.relpath(to, posixpath.dirname(here)) + (match["anchor"] or "")
        return posixpath.relpath(page_of(path), posixpath.dirname(here)) + (match["anchor"] or "")

    return LINK.sub(led, markdown)


def target(page: str, link: str) -> str:
    """The path in the repository that a link of a page leads to.

    >>> target("docs/guide/spaces.md", "../../examples/space.py"), target("CONTRIBUTING.md", "docs/index.md")
    ('examples/space.py', 'docs/index.md')
    """
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def outside(page: str, text: str) -> Iterator[str]:
    """The paths outside docs/ that a page links to.

    Raises:
        FileNotFoundError: there is no such file.
    """
    for match in LINK.finditer(text):
        path = target(page, match["path"])
        if path.startswith("docs/"):
            continue
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{page} links to {match['path']}: there is no {path}")
        yield path


def page_of(path: str) -> str:
    """The page of a file of the repository: Markdown as it is, others as code."""
    return f"{FOLDER}/{path}" if path.endswith(".md") else f"{FOLDER}/{path}.md"


def members(path: str) -> list[str]:
    """The files of a folder."""
    folder = ROOT / path
    return sorted(f"{path}/{file.name}" for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []


def repository_page(path: str) -> str:
    """A page that shows a file, or lists a folder's files with the comment or docstring that they begin with."""
    file = ROOT / path
    if file.is_dir():
        rows = [
            f"| [{Path(name).name}]({posixpath.basename(path)}/{Path(name).name}.md) | `{first_line(ROOT / name)}` |"
            for name in members(path)
        ]
        return "\n".join([f"# {path}", "", "| file | begins |", "|---|---|", *rows, ""])
    if file.suffix == ".md":
        return file.read_text()
    return f"# {path}\n\n````{LANGUAGES.get(file.suffix, '')}\n{file.read_text()}````\n"


def first_line(file: Path) -> str:
    """The first line that says something, without its comment sign."""
    lines = [line.strip('#"! ') for line in file.read_text().splitlines() if not line.startswith("#!")]
    return next(filter(None, lines), "").replace("|", "\\|")


def notebook_page(notebook: dict[str, list[dict[str, object]]]) -> str:
    """A notebook as Markdown: its texts, its code, and the text that the code printed."""
    return "\n\n".join(part for cell in notebook["cells"] for part in _cell(cell)) + "\n"


def _cell(cell: dict[str, object]) -> Iterator[str]:
    text = "".join(cell["source"])  # type: ignore[arg-type]
    if cell["cell_type"] == "markdown":
        yield text
        return
    yield f"```python\n{text}\n```"
    for output in cell["outputs"]:  # type: ignore[attr-defined]
        shown = output.get("text") or output.get("data", {}).get("text/plain", [])
        if shown:
            yield "```text\n" + "".join(shown).rstrip("\n") + "\n```"
