"""Pages as a real browser lays them out, where one is installed: on a screen and a phone, by day and in the dark."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from diswot.pages import write_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="neither Chromium nor Chrome is installed")]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--disable-background-networking", "--dump-dom"]
COLOURS = {"light": "1", "dark": "0"}  # as the browser numbers its preferredColorScheme

LOOK = Path(__file__).with_name("look.html").read_text()


def look(page: Path, width: int, colours: str, folder: Path) -> dict[str, Any]:
    """What a browser finds in a page of this width."""
    frame = folder / "frame.html"
    frame.write_text(LOOK.replace("PAGE", page.resolve().as_uri()).replace("WIDTH", str(width)))
    scheme = f"--blink-settings=preferredColorScheme={COLOURS[colours]}"
    command = [str(BROWSER), *FLAGS, scheme, f"--user-data-dir={folder / 'browser'}", "--window-size=1400,1000", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    result: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return result


@pytest.fixture
def pages(searched: Path, compared: Path, tabulated: Path, studied: Path) -> dict[str, Path]:
    """A run of each kind."""
    return {"search": searched, "comparison": compared, "training": compared / "seed-0", "table": tabulated, "study": studied}


@pytest.mark.parametrize("kind", ["search", "comparison", "training", "table", "study"])
@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (390, "dark")])
def test_a_page_fits_its_screen_and_can_be_read(pages: dict[str, Path], kind: str, width: int, colours: str, tmp_path: Path) -> None:
    """No wider than the screen, no broken picture; what scrolls can be reached by keyboard; texts have the contrast that
    WCAG 2.2 asks for at level AA."""
    page = pages[kind] / "report.html"
    found = look(page if page.exists() else write_page(pages[kind]), width, colours, tmp_path)
    assert found["width"] <= width and found["broken"] == 0 and found["unreachable"] == []
    assert found["pictures"] > 1 and found["texts"] > 20 and found["dark"] == (colours == "dark")
    assert found["palest"][0] >= 4.5, found["palest"]


def test_what_does_not_fit_or_cannot_be_read_would_be_noticed(tmp_path: Path) -> None:
    """The look itself, on a page with each fault."""
    page = tmp_path / "page.html"
    scrolling = '<div style="overflow-x: auto; width: 100px"><p style="width: 400px">wide</p></div>'
    page.write_text(f'<body><p style="width: 900px; color: #888">pale</p><img src="none.png">{scrolling}</body>')
    found = look(page, 390, "light", tmp_path)
    assert found["width"] > 390 and found["broken"] == 1 and len(found["unreachable"]) == 1
    assert found["palest"][0] == pytest.approx(3.54, abs=0.01)  # of #888 on white
