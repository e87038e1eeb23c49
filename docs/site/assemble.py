"""Writes what MkDocs builds the site from: pages, files that they show, and the configuration with the navigation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docs.site import documents, known, lessons, reference, side_by_side
from docs.site.errors import SiteError

#: In the repository: pages and code, the configuration that was made, and the site.
OUT = "build/site-source"
#: Guides in the order of the navigation. What docs/ holds besides comes behind them by itself.
GUIDES = {
    "Compare": ["commands.md", "recipe.md", "comparison.md", "agreement.md", "ci.md"],
    "Why they differ": ["differences.md", "parity.md", "own-pair.md", "attribution.md", "validity.md"],
    "Few labels": ["study.md", "strategies.md", "rank.md", "episodes.md"],
    "Learn and teach": ["dictionary.md", "exercises.md", "teaching.md"],
    "Use what came of it": ["convert.md", "fit.md", "speed.md", "benchmarks.md", "examples.md"],
}
#: Behind the guides.
_PROJECT = ["contributing.md", "changelog.md", "benchmark-scripts.md"]


def assemble(root: Path) -> Path:
    """Make everything anew.

    Returns:
        The configuration for ``mkdocs build --config-file``.

    Raises:
        SiteError: the wings do not mirror each other, a link leads nowhere, or what was made before cannot be replaced.
    """
    work = root / OUT
    try:
        if work.exists():
            shutil.rmtree(work)
        work.mkdir(parents=True)
    except OSError as error:
        raise SiteError(
            f"{error.filename}: {error.strerror}; {OUT} is to be made anew, see who may write there."
        ) from error
    out = work / "pages"
    theme = root / "docs" / "site" / "theme"
    shutil.copytree(theme / "assets", out / "assets")
    places = documents.pages(root)
    differences = (root / "docs" / "differences.md").read_text(encoding="utf-8")
    pages, held = side_by_side.pages(root, known.sections(differences))
    made = {f"{side_by_side.FOLDER}/{name}": text for name, text in pages.items()}
    made |= {f"{reference.FOLDER}/{name}": text for name, text in reference.pages(root).items()}
    taught = lessons.pages(root, out)
    for page, (source, _) in taught.items():
        # A link to a lesson's source means its page.
        places[source] = places[source.removesuffix(".md") + ".py"] = page
    for page, (source, text) in taught.items():
        made[page] = documents.page(root, source, places, out, text)
    for source, page in places.items():
        if page not in made:
            linked = known.with_places(differences, held) if source == "docs/differences.md" else None
            made[page] = documents.page(root, source, places, out, linked)
    for page, text in made.items():
        (out / page).parent.mkdir(parents=True, exist_ok=True)
        (out / page).write_text(text, encoding="utf-8")
    reference.copy(root, work)
    config = work / "mkdocs.yml"
    # JSON is YAML.
    config.write_text(json.dumps(_config(root, made), indent=1, ensure_ascii=False), encoding="utf-8")
    return config


def _config(root: Path, made: Iterable[str]) -> dict[str, Any]:
    pages = set(made)
    config: dict[str, Any] = {
        "INHERIT": str(root / "docs" / "site" / "mkdocs.yml"),
        "docs_dir": "pages",
        "site_dir": str(root / "build" / "site"),
        "theme": {"custom_dir": str(root / "docs" / "site" / "theme")},
        "hooks": [str(root / "docs" / "site" / "hooks.py")],
        "nav": navigation(pages),
    }
    if "zh/index.md" in pages:
        config["extra"] = {
            "alternate": [
                {"name": "English", "link": "index.html", "lang": "en"},
                {"name": "中文", "link": "zh/index.html", "lang": "zh"},
            ]
        }
    return config


def navigation(pages: set[str]) -> list[Any]:
    """Every page in its place, as MkDocs wants it."""

    def under(folder: str) -> list[Any]:
        inside = sorted(page.removeprefix(f"{folder}/") for page in pages if page.startswith(f"{folder}/"))
        own = sorted((name for name in inside if "/" not in name), key=lambda name: (name != "index.md", name))
        deeper = dict.fromkeys(name.partition("/")[0] for name in inside if "/" in name)
        return [
            *(f"{folder}/{name}" for name in own),
            *({titles.get(f"{folder}/{name}", name.capitalize()): under(f"{folder}/{name}")} for name in deeper),
        ]

    placed = {page for group in GUIDES.values() for page in group} | {"index.md", *_PROJECT}
    more = sorted(page for page in pages if "/" not in page and page not in placed)
    guides: list[Any] = [{title: [page for page in group if page in pages]} for title, group in GUIDES.items()]
    if more:
        guides.append({"More": more})
    folders = sorted({page.partition("/")[0] for page in pages if "/" in page})
    titles = {"lessons": "Lessons", side_by_side.FOLDER: "Side by side", reference.FOLDER: "Reference"}
    titles |= {"zh": "中文", "zh/lessons": "课程"}
    order = sorted(folders, key=lambda folder: [*titles].index(folder) if folder in titles else -1)
    sections = [{titles.get(folder, folder.capitalize()): under(folder)} for folder in order]
    project = [page for page in _PROJECT if page in pages]
    return [{"Home": "index.md"}, {"Guides": guides}, *sections, {"Project": project}]
