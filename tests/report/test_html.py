"""The page of a report, read as a browser reads it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from diswot.report.html import Facts, Listing, Points, Section, Verdict, page, write_page
from diswot.report.pictures import Picture
from diswot.report.tables import Column, Table
from tests.report.samples import EVIL, TABLE, draw_charts

SCALE, NUMBER = re.compile(r"scale\([^)]*\)"), re.compile(r"-?\d+(?:\.\d+)?")


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


def sample_page() -> str:
    points, density, cost = draw_charts("points", "density", "cost")
    parts = [TABLE, points, density, Picture(cost, "What it costs " + EVIL)]
    listing = Listing("a: 1\n  b: <2>\x00\n", "config.yaml")
    sections = [Section("", [EVIL]), Section("Overall", parts), Section("Cost & more", [points]), Section("Made with", [listing])]
    return page("Study " + EVIL, sections)


@pytest.fixture(scope="module")
def html() -> str:
    return sample_page()


@pytest.fixture(scope="module")
def reader(html: str) -> Reader:
    return Reader(html)


def test_page_shows_everything_and_runs_nothing(reader: Reader) -> None:
    tags = [tag for tag, _ in reader.tags]
    assert reader.open == [] and "script" not in tags and tags.count("svg") == 4 and tags.count("table") == 1
    assert reader.text["h1"] == ["Study " + EVIL] == reader.text["title"] and EVIL in reader.text["p"]
    assert reader.text["h2"] == ["Overall", "Cost & more", "Made with"] and reader.text["pre"] == ["a: 1\n  b: <2>"]
    assert [text.strip() for text in reader.text["figcaption"] if text.strip()] == [TABLE.title, "What it costs " + EVIL, "config.yaml"]
    assert not [key for _, attributes in reader.tags for key in attributes if key.startswith("on")]


def test_page_needs_nothing_beside_it(reader: Reader) -> None:
    for tag, attributes in reader.tags:
        for key, value in attributes.items():
            if key in ("src", "href", "xlink:href"):
                assert value and value.startswith("#"), (tag, key, value)
    style = "".join(reader.text["style"])
    assert "prefers-color-scheme: dark" in style and "url(" not in style and "@import" not in style
    metas = [attributes for tag, attributes in reader.tags if tag == "meta"]
    assert any(meta.get("name") == "viewport" for meta in metas) and any("default-src 'none'" in str(meta.get("content")) for meta in metas)


def test_ids_of_a_page_are_unique_and_every_reference_finds_its_own(reader: Reader) -> None:
    ids = [str(attributes["id"]) for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 100
    referred = {str(value)[1:] for _, attributes in reader.tags for key, value in attributes.items() if key.endswith("href")}
    referred |= {
        name for _, attributes in reader.tags for value in attributes.values() for name in re.findall(r"url\(#(.*?)\)", str(value))
    }
    assert {name.split("-")[0] for name in referred} >= {"s2", "f3", "f4", "f5"} and referred <= set(ids)
    assert len({attributes["id"] for tag, attributes in reader.tags if tag == "clippath"}) >= 4


def test_page_table_says_which_numbers_are_best_and_stays_in_its_box(reader: Reader) -> None:
    assert (
        reader.text["b"] == [".709", "0.1"] and reader.text["small"][0] == "± .004 [.699, .722]" and "[−.200, .050]" in reader.text["small"]
    )
    assert EVIL in reader.text["th"] and {"proxy", "Spearman", "ms per network", "networks"} <= set(reader.text["th"])
    tags = [(tag, attributes.get("class")) for tag, attributes in reader.tags]
    assert tags[tags.index(("table", None)) - 1] == ("div", "scroll")


def test_page_lists_its_contents_where_there_are_many() -> None:
    def links(count: int) -> list[str | None]:
        tags = Reader(page("t", [Section(f"h{index}", ["x"]) for index in range(count)])).tags
        return [attributes["href"] for tag, attributes in tags if tag == "a"]

    assert links(2) == ["#main"] and links(3) == ["#main", "#s1", "#s2", "#s3"]


def test_page_is_the_same_for_the_same_values() -> None:
    one, other = (page("t", [Section("a", [TABLE, *draw_charts("points")])]) for _ in range(2))
    assert one == other


def test_pictures_in_a_page_are_named_for_those_who_cannot_see_them(reader: Reader) -> None:
    pictures = [attributes for tag, attributes in reader.tags if tag == "svg"]
    assert [picture["aria-label"] for picture in pictures] == ["points", "density", "cost", "points"]
    assert all(picture["role"] == "img" and picture.get("viewbox") and "width" not in picture for picture in pictures)


def test_figures_in_a_page_are_those_of_their_files_to_a_hundredth_of_a_point() -> None:
    """Coordinates are shortened; what they are multiplied by, the size of every letter, is not."""
    (figure,) = draw_charts("points")
    file = list(ET.fromstring(Picture(figure).svg).iter())
    text = str(page("", [Section("", [figure])]))
    shown = list(ET.fromstring(text[text.index("<svg") : text.index("</svg>") + len("</svg>")]).iter())
    values = {place: [one.get(place, "") for one in file if not one.tag.endswith("style")] for place in ("transform", "d", "x", "y")}
    for place, ours in values.items():
        for mine, theirs in zip(ours, (one.get(place, "") for one in shown), strict=True):
            assert SCALE.findall(mine) == SCALE.findall(theirs)
            one, other = (np.array(NUMBER.findall(text), float) for text in (mine, theirs))
            assert one.shape == other.shape and np.allclose(one, other, rtol=0, atol=0.01)
    assert sum("scale(" in value for value in values["transform"]) > 20, "letters are outlines, made smaller"


def test_user_text_is_escaped_wherever_it_stands() -> None:
    table = Table(EVIL, [Column("a", EVIL), Column("b", EVIL)], [{"a": EVIL, "b": EVIL}])
    reader = Reader(page(EVIL, [Section(EVIL, [EVIL, table, Listing(EVIL, EVIL)])] * 3))
    assert reader.open == [] and not {"script", "svg"} & {tag for tag, _ in reader.tags}
    for tag, count in {"title": 1, "h1": 1, "h2": 3, "p": 3, "figcaption": 6, "th": 9, "td": 3, "pre": 3}.items():
        assert [text for text in reader.text[tag] if text.strip()] == [EVIL] * count, tag
    assert reader.text["a"] == ["To the content", *[EVIL] * 3]
    labels = [attributes.get("aria-label") for tag, attributes in reader.tags if tag == "div"]
    assert labels == [EVIL] * 3 and [attributes["title"] for _, attributes in reader.tags if "title" in attributes] == [EVIL] * 6


def test_empty_captions_and_titles_leave_no_element() -> None:
    reader = Reader(page("t", [Section("", [Table("", [Column("a", "a")]), Listing("x")])]))
    assert not {"figcaption", "h2", "nav"} & {tag for tag, _ in reader.tags}


def test_facts_verdicts_and_points_are_shown_and_never_run() -> None:
    reader = Reader(page("t", [Section("", [Verdict(EVIL), Facts([(EVIL, "-1.5 %")]), Points([EVIL, "two"])])]))
    assert reader.open == [] and "script" not in {tag for tag, _ in reader.tags}
    assert reader.text["p"] == [EVIL] and reader.text["dt"] == [EVIL] and reader.text["dd"] == ["−1.5 %"]
    assert [text for text in reader.text["li"] if text.strip()] == [EVIL, "two"]


def test_long_listings_are_opened_by_their_reader() -> None:
    short, long = (Reader(page("t", [Section("", [Listing("a\n" * lines, "options")])])) for lines in (12, 13))
    assert "summary" not in short.text and long.text["summary"] == ["options"]


def test_a_written_page_links_to_files_that_are_there(tmp_path: Path) -> None:
    table = Table("numbers", [Column("x", "x", "integer")], [{"x": 3}])
    points, cost = draw_charts("points", "cost")
    picture = Picture(points, "c", table, {"points": [f"network {number}" for number in range(300)]}, name="a b")
    path = write_page(tmp_path, "t", [Section("", [picture, Picture(cost)])])
    reader = Reader(path.read_text())
    links = [str(attributes["href"]) for tag, attributes in reader.tags if tag == "a"][1:]
    assert links == ["report/a%20b.svg", "report/a%20b.png", "report/a%20b.csv"]
    assert {file.name for file in (tmp_path / "report").iterdir()} == {"a b.svg", "a b.png", "a b.csv"}
    assert (tmp_path / "report" / "a b.csv").read_text() == "x\n3\n"
    titles = [text for text in reader.text["title"] if text.startswith("network ")]
    assert titles == [f"network {number}" for number in range(300)]
