"""``compare.py explain``: what a word of one framework is in the other, and what differs."""

from __future__ import annotations

from transfer_parity.shared.commands.parser import Parser
from transfer_parity.shared.contract import dictionary
from transfer_parity.shared.core.errors import IDENTICAL_OR_EQUIVALENT, BadInput, nearest
from transfer_parity.shared.core.text import brief
from transfer_parity.shared.report import dictionary as shown
from transfer_parity.shared.report.console import WIDTH, Console


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py explain",
        usage="compare.py explain [WORD] [options]",
        description="What a word of one framework is in the other, what differs, which switch treats it, and where it "
        "stands in the wings. Without a word: all of them.",
        epilog="Exit status: 0 done, 2 bad input.",
        allow_abbrev=False,
    )
    parser.add_argument("word", nargs="?", metavar="WORD", help="by either framework's name: momentum, nn.Linear, fit")
    parser.add_argument("--language", choices=dictionary.LANGUAGES, default="en", help="of the text (default: en)")
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Print the entries of a word, or the names of all."""
    options = build_parser().read(arguments)
    output = Console(width=WIDTH, highlight=False)
    if options.word is None:
        shown.show_all(options.language, output)
        return IDENTICAL_OR_EQUIVALENT
    found = dictionary.find(options.word)
    if not found:
        near = nearest(options.word, (word for entry in dictionary.entries() for word in entry.words))
        advice = "compare.py explain lists all words" if near is None else f"did you mean {near!r}?"
        raise BadInput(f"the dictionary has no {brief(options.word)}; {advice}{'.' if near is None else ''}")
    shown.show(found, options.language, output)
    return IDENTICAL_OR_EQUIVALENT
