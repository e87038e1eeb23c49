"""What a built site must keep to: no request to other hosts, no link that leads nowhere, a small front page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from docs.site.errors import SiteError

#: Bytes that the front page may load before anybody searches, as they lie on the disk.
MOST = 300_000
#: Pages of others that are shown as they are.
SAMPLES = {"sample-report"}
#: Tags that load something by themselves, and the attribute that says what.
_LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
_STYLE_URL = re.compile(r"""url\(\s*["']?((?:https?:)?//[^)"']+)|@import""")


class _Page(HTMLParser):
    """What a page loads, where its links lead, and the anchors that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.repeated: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one tag."""
        has = {name: value or "" for name, value in attrs}
        names = ("id", "name") if tag == "a" else ("id",)
        self.repeated += [has[name] for name in names if has.get(name) in self.anchors]
        self.anchors |= {has[name] for name in names if name in has}
        if tag == "a" and "href" in has:
            self.links.append(has["href"])
        if tag == "link" and {"stylesheet", "icon", "preload", "preconnect"} & set(has.get("rel", "").split()):
            self.loads.append(has.get("href", ""))
        if tag in _LOADING and has.get(_LOADING[tag]):
            self.loads.append(has[_LOADING[tag]])


def _read(path: Path, pages: dict[Path, _Page]) -> _Page:
    """A page, of which each is read once."""
    if path not in pages:
        pages[path] = _Page()
        pages[path].feed(path.read_text(encoding="utf-8"))
    return pages[path]


def check(site: Path) -> int:
    """Check a built site.

    Returns:
        Bytes that the front page loads.

    Raises:
        SiteError: it asks another host for something, a link leads nowhere, or the front page is too large.
    """
    pages: dict[Path, _Page] = {}
    for path in sorted(site.rglob("*.html")):
        # The links of what is shown for a missing page begin at the site's address; a sample is no page of the site.
        if path.name != "404.html" and path.stem not in SAMPLES:
            _check_page(site, path, pages)
    for path in sorted(site.rglob("*.css")):
        if found := _STYLE_URL.search(path.read_text(encoding="utf-8")):
            raise SiteError(f"{path.relative_to(site)} asks for {found[0]}: keep a copy in docs/site/theme/assets.")
    size = front_page(site)
    if size > MOST:
        raise SiteError(f"index.html loads {size:,} bytes, more than {MOST:,}: take something out of the front page.")
    return size


def front_page(site: Path) -> int:
    """Bytes of index.html and of all that it loads; what searches is loaded by the first search (iframe-worker.js)."""
    loads = _read(site / "index.html", {}).loads
    loaded = {(site / _path(each)).resolve() for each in loads if not each.startswith("data:")}
    return sum(path.stat().st_size for path in {site / "index.html", *loaded})


def _check_page(site: Path, path: Path, pages: dict[Path, _Page]) -> None:
    page, name = _read(path, pages), path.relative_to(site)
    if page.repeated:
        raise SiteError(f"{name} has two headings or parts with the address #{page.repeated[0]}: name one anew.")
    for each in page.loads:
        if each.startswith("data:"):
            continue
        if "//" in each:
            raise SiteError(f"{name} asks another host for {each}: keep a copy in docs/site/theme/assets.")
        if not (path.parent / _path(each)).is_file():
            raise SiteError(f"{name}: {each}, which it shows, is not there.")
    for each in page.links:
        if re.match(r"[a-z]+:|//", each):
            continue
        target = (path.parent / _path(each)).resolve() if _path(each) else path
        if not target.is_file():
            raise SiteError(f"{name}: the link to {each} leads nowhere.")
        anchor = unquote(each.partition("#")[2])
        if anchor and target.suffix == ".html" and anchor not in _read(target, pages).anchors:
            raise SiteError(f"{name}: the link to {each} leads to no heading of that page.")


def _path(link: str) -> str:
    return unquote(link.partition("#")[0].partition("?")[0])
