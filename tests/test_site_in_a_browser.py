"""The site as a browser shows it from a folder: contrast and names by axe, search, what is loaded, what is missing."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from docs.site.check import MOST
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

#: One of each kind: front page, guide with tables and a picture, twins, lesson, reference, Chinese.
PAGES = [
    *("index.html", "study.html", "side-by-side/training.html", "lessons/05-optimizers.html"),
    *("reference/contract.html", "zh/index.html"),
]
#: Phone and desktop.
WIDTHS = [390, 1280]
#: Levels A and AA of all versions.
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.fixture(scope="module")
def site() -> Path:
    """Built anew."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    built = subprocess.run([sys.executable, "-m", "docs.site"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return ROOT / "build" / "site"


@pytest.fixture(params=[*((width, "light") for width in WIDTHS), (WIDTHS[1], "dark")], ids=str)
def view(request: pytest.FixtureRequest, browser: Any) -> Iterator[Any]:
    """A page that notes what it asks for."""
    width, colours = request.param
    opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=colours)
    opened.set_default_timeout(60_000)
    opened.asked = []
    opened.on("request", lambda each: opened.asked.append(each.url))
    yield opened
    opened.close()


def visit(view: Any, path: Path) -> None:
    view.goto(path.as_uri(), wait_until="load")
    view.wait_for_timeout(500)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_keeps_anybody_out(name: str, view: Any, site: Path) -> None:
    visit(view, site / name)
    judge(view)


def judge(view: Any) -> None:
    """axe finds nothing, and nothing sticks out."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser")
    found = axe.Axe().run(view, options={"runOnly": {"type": "tag", "values": LEVELS}}).response
    assert found["passes"]
    told = [
        (each["id"], node["target"], node["failureSummary"]) for each in found["violations"] for node in each["nodes"]
    ]
    assert not told, told[:5]
    # Nothing sticks out: what is wide scrolls by itself.
    assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_no_page_asks_another_host_and_the_front_page_is_small(view: Any, site: Path) -> None:
    for name in reversed(PAGES):
        view.asked.clear()
        visit(view, site / name)
        assert view.asked and all(re.match("file:|data:|blob:", each) for each in view.asked), view.asked
    files = {each.partition("?")[0].removeprefix("file://") for each in view.asked if each.startswith("file:")}
    # The choice of a language looks for a list of its pages, which there may not be.
    assert sum(Path(each).stat().st_size for each in files if Path(each).is_file()) < MOST, files


class Host(SimpleHTTPRequestHandler):
    """Hands out files, and the page for what is missing, as hosts of static sites do."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The page for what is missing."""
        body = (Path(self.directory) / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def host(site: Path) -> Iterator[str]:
    """The site from a server, by its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Host, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("query", "least"), [("momentum", 3), ("学习率", 6), ("--shots", 3)])
@pytest.mark.parametrize("place", ["folder", "server"])
def test_search_finds_a_difference(place: str, query: str, least: int, view: Any, site: Path, host: str) -> None:
    """Also a Chinese word inside of a sentence, and the name of an option."""
    view.goto((site / "index.html").as_uri() if place == "folder" else f"{host}/index.html", wait_until="load")
    view.wait_for_timeout(500)
    # Neither index nor what searches it before somebody does.
    assert view.asked and not [each for each in view.asked if "search" in each]
    if view.viewport_size["width"] < 1000:
        view.locator("label[for=__search]").first.click()
    view.locator("input.md-search__input").fill(query)
    view.wait_for_selector(".md-search-result__item a", timeout=60_000)
    assert view.locator(".md-search-result__item").count() >= least
    view.keyboard.press("Escape")


def test_the_page_not_found_helps(view: Any, site: Path, host: str) -> None:
    """Wherever the link that is wrong led to."""
    view.goto(f"{host}/nowhere/at/all.html", wait_until="load")
    view.wait_for_timeout(500)
    judge(view)
    links = view.locator("article ul a").evaluate_all("all => all.map(each => each.pathname)")
    assert len(links) >= 5
    assert all((site / each.lstrip("/")).is_file() for each in links), links


def test_code_can_be_scrolled_by_keyboard(view: Any, site: Path) -> None:
    visit(view, site / "study.html")
    wide = view.locator("pre > code").evaluate_all(
        "all => all.filter(each => each.scrollWidth > each.clientWidth).map(each => each.tabIndex)"
    )
    assert wide or view.viewport_size["width"] > 1000
    assert all(each == 0 for each in wide)
