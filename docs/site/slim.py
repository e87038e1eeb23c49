"""What a built site does without: rules for what no page has, and an index that nobody searches yet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from docs.site.errors import SiteError

_CLASS = re.compile(r"\.(-?[A-Za-z_][\w-]*)")
#: Colours by name, and languages that are written from right to left.
_CHOICE = re.compile(r"\[(data-md-color-(?:primary|accent)|dir)=\"?([\w-]+)\"?\]")
#: Loaded by every page, and of use where there are docstrings.
_DOCSTRINGS = re.compile(r'<link rel="stylesheet" href="[^"]*_mkdocstrings\.css">\s*')
_ROOT_ICON = re.compile(r"""(--md-[\w-]+-icon[\w-]*):url\((?:"[^"]*"|'[^']*'|[^)]*)\);?""")
#: Material loads the index at once where a server has the pages, and when the search is opened where a folder has.
_AT_ONCE = re.compile(r'\(location\.protocol!=="file:"\),')


def slim(site: Path) -> None:
    """Slim a built site, in place.

    Raises:
        SiteError: the theme's script loads the index in another way than it did.
    """
    words: set[str] = set()
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for classes in re.findall(r'class="([^"]*)"', text):
            words.update(classes.split())
        words.update("=".join(each) for each in re.findall(r'(data-md-color-\w+|dir)="([\w-]+)"', text))
        if 'class="doc ' not in text:
            path.write_text(_DOCSTRINGS.sub("", text), encoding="utf-8")
    for path in site.rglob("*.js"):
        if path.name != "search_index.js":
            words.update(re.findall(r"[A-Za-z_][\w-]*", path.read_text(encoding="utf-8")))
    for path in sorted((site / "assets" / "stylesheets").glob("*.css")):
        path.write_text(purged(path.read_text(encoding="utf-8"), words), encoding="utf-8")
    for path in (site / "assets").rglob("*.map"):
        path.unlink()
    (bundle,) = (site / "assets" / "javascripts").glob("bundle.*.js")
    text, times = _AT_ONCE.subn("(!1),", bundle.read_text(encoding="utf-8"))
    if times != 1:
        raise SiteError("docs/site/slim.py: Material's script loads the search index in another way now; see _AT_ONCE.")
    bundle.write_text(text, encoding="utf-8")


def purged(css: str, words: set[str]) -> str:
    """A style sheet without rules for a class, colour or direction that is not among the words, nor icons of those.

    Args:
        css: the style sheet.
        words: classes, and pairs such as "dir=ltr".
    """
    kept = "".join(_kept(re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL), words))
    used = set(re.findall(r"var\((--md-[\w-]+)", kept))
    return _ROOT_ICON.sub(lambda icon: icon[0] if icon[1] in used else "", kept)


def _kept(css: str, words: set[str]) -> Iterator[str]:
    for head, body in _rules(css):
        if head.startswith(("@media", "@supports", "@layer")):
            inner = "".join(_kept(body, words))
            yield f"{head}{{{inner}}}" if inner else ""
        elif head.startswith("@"):
            yield f"{head}{{{body}}}" if body else f"{head};"
        else:
            selectors = [each for each in _split(head) if _asked(_without_not(each)) <= words]
            yield f"{','.join(selectors)}{{{body}}}" if selectors else ""


def _asked(selector: str) -> set[str]:
    return {*_CLASS.findall(selector), *("=".join(each) for each in _CHOICE.findall(selector))}


def _without_not(selector: str) -> str:
    """What a selector asks for, without alternatives and what it excludes."""
    return re.sub(r":(not|is|where|has)\((?:[^()]|\([^()]*\))*\)", "", selector)


def _split(head: str) -> list[str]:
    """Selectors, apart at commas that stand in no brackets."""
    return re.split(r",(?![^(\[]*[)\]])", head)


def _rules(css: str) -> Iterator[tuple[str, str]]:
    """Heads and bodies of a style sheet's rules; statements have no body."""
    begin = opened = depth = 0
    quote = ""
    for place, sign in enumerate(css):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign == "{":
            opened = opened if depth else place
            depth += 1
        elif sign == "}":
            depth -= 1
            if not depth:
                yield css[begin:opened].strip(), css[opened + 1 : place]
                begin = place + 1
        elif sign == ";" and not depth:
            yield css[begin:place].strip(), ""
            begin = place + 1
