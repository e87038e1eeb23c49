"""The dictionary as people read it: on the terminal, and as a document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import rich.console
from rich import box
from rich.table import Table
from rich.text import Text

from transfer_parity.shared.contract import dictionary, wings
from transfer_parity.shared.contract.dictionary import Entry, Language, Page
from transfer_parity.shared.report.console import WIDTH

#: Stands at the top of the documents.
MADE = "Made of shared/contract/dictionary/ by make dictionary: change it there."


def show(found: Sequence[Entry], language: Language, output: rich.console.Console) -> None:
    """Print entries: names, what differs, switches, and where to look."""
    page = dictionary.page(language)
    for entry in found:
        output.print(Text(" / ".join(entry.usual), style="bold"))
        output.print(_with_code(entry.text[language]))
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for identifier in wings.IDENTIFIERS:
            table.add_row(page.called[identifier], Text(", ".join(entry.names[identifier])))
        if entry.switches:
            table.add_row(page.switch, Text(f"{', '.join(entry.switches)} (docs/differences.md)"))
        if entry.wings:
            table.add_row(page.place, Text(", ".join(map(_place, entry.wings))))
        output.print(table)
        output.print()


def show_all(language: Language, output: rich.console.Console) -> None:
    """Print the usual names of all entries, by topic."""
    page = dictionary.page(language)
    for topic in dictionary.topics():
        output.print(Text(topic.title[language], style="bold"))
        table = Table(box=box.SIMPLE_HEAD, width=WIDTH, padding=(0, 1, 0, 0), pad_edge=False)
        for identifier in wings.IDENTIFIERS:
            table.add_column(page.called[identifier], ratio=1, overflow="fold")
        for entry in topic.entries:
            table.add_row(*map(Text, entry.usual))
        output.print(table)
    output.print(Text(page.more))


def markdown(language: Language, differences: str) -> str:
    """The document.

    Args:
        language: of its text.
        differences: the text of ``docs/differences.md``, to whose sections it links.
    """
    page = dictionary.page(language)
    link = "differences.md" if language == "en" else "../differences.md"
    anchors = {name: f"{link}#{anchor}" for name, anchor in _anchors(differences).items()}
    parts = [
        f"<!-- {MADE} -->\n# {page.title}",
        page.introduction.format(count=len(dictionary.entries())),
        page.switches.format(differences="differences.md", link=link),
        page.versions,
    ]
    for topic in dictionary.topics():
        parts.append(f"## {topic.title[language]}")
        for entry in topic.entries:
            parts += [f"### {' / '.join(map(_code, entry.usual))}", entry.text[language], _list(entry, page, anchors)]
    return "\n\n".join(parts) + "\n"


def _list(entry: Entry, page: Page, anchors: Mapping[str, str]) -> str:
    lines = [f"- {page.called[each]}: {', '.join(map(_code, entry.names[each]))}" for each in wings.IDENTIFIERS]
    if entry.switches:
        linked = ", ".join(f"[`{name}`]({anchors[name]})" for name in entry.switches)
        lines.append(f"- {page.switch}: {linked}")
    if entry.wings:
        lines.append(f"- {page.place}: {', '.join(_code(_place(place)) for place in entry.wings)}")
    return "\n".join(lines)


def _place(place: str) -> str:
    """A place in a wing as a reader looks for it: the file, then what in it."""
    module, _, name = place.partition(".")
    return f"{module}.py: {name}"


def _anchors(differences: str) -> dict[str, str]:
    """By switch, the anchor of its section, as Markdown's readers make it of a heading."""
    headings = re.findall(r"^## (.*`(\w+)`)$", differences, re.MULTILINE)
    return {name: re.sub(r"[^\w\s-]", "", heading.lower()).strip().replace(" ", "-") for heading, name in headings}


def _with_code(text: str) -> Text:
    """A text whose code is set off by colour instead of backticks."""
    pieces = text.split("`")
    return Text.assemble(*((piece, "cyan" if number % 2 else "") for number, piece in enumerate(pieces)))


def _code(text: str) -> str:
    return f"`{text}`"
