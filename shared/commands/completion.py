"""``compare.py completion``: what a shell needs to complete commands, options and their values."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from transfer_parity.shared.commands.parser import Parser
from transfer_parity.shared.commands.table import COMMANDS, DEFAULT
from transfer_parity.shared.contract import recipe_files
from transfer_parity.shared.contract.dictionary import entries
from transfer_parity.shared.core.errors import IDENTICAL_OR_EQUIVALENT
from transfer_parity.shared.exercises import catalogue
from transfer_parity.shared.report.console import Console
from transfer_parity.shared.zoo.pairs import PAIRS

#: What is completed: the installed program, and the file of a checkout where it is run as a program.
PROGRAMS = ("transfer-parity", "compare.py")
#: Values of options and arguments that no parser lists, by destination.
VALUES: dict[str, tuple[str, ...]] = {
    "backbone": tuple(pair.name for pair in PAIRS),
    "exercise": tuple(catalogue.BY_NAME),
    # Those of the dictionary that no shell takes for more than a word.
    "word": tuple(dict.fromkeys(word for entry in entries() for word in entry.words if re.fullmatch(r"[\w.]+", word))),
}


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py completion",
        description="Print a shell's completion of commands, options, and their values. Load it where the shell "
        "starts: source <(transfer-parity completion bash), or zsh; transfer-parity completion fish | source.",
        allow_abbrev=False,
    )
    parser.add_argument("shell", choices=tuple(SHELLS), metavar="{" + ",".join(SHELLS) + "}", help="which one")
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Print the completion of a shell."""
    options = build_parser().read(arguments)
    # Without the console, which would wrap lines.
    print(SHELLS[options.shell](offered()), end="")
    return IDENTICAL_OR_EQUIVALENT


@dataclass(frozen=True)
class Offered:
    """What can follow a command's name.

    Attributes:
        words: arguments without an option; files can follow, too.
        options: by name, what each does.
        values: by option, those that are known. An option without any takes files, or numbers.
        flags: options that take no value.
    """

    words: tuple[str, ...]
    options: Mapping[str, str]
    values: Mapping[str, tuple[str, ...]]
    flags: frozenset[str]


def offered() -> dict[str, Offered]:
    """By command, what its parser offers."""
    found = {}
    for name in COMMANDS:
        command = importlib.import_module(f"transfer_parity.shared.commands.{name}")
        found[name] = _of(command.build_parser())
    return found


def _of(parser: argparse.ArgumentParser) -> Offered:
    words: list[str] = []
    options, values, flags = {}, {}, set()
    for action in parser._actions:
        known = _values(action)
        if not action.option_strings:
            words += known
        for option in action.option_strings:
            if option.startswith("--"):
                options[option] = action.help or ""
                if action.nargs == 0:
                    flags.add(option)
                elif known:
                    values[option] = known
    return Offered(tuple(words), options, values, frozenset(flags))


def _values(action: argparse.Action) -> tuple[str, ...]:
    """The words that an option or an argument accepts, as far as they are known."""
    if action.choices is not None:
        return tuple(map(str, action.choices))
    if action.dest == "recipe":
        # A word that names both is taken for the command.
        return tuple(sorted({path.stem for path in recipe_files.RECIPES.glob("*.toml")} - set(COMMANDS)))
    if action.dest in VALUES:
        return VALUES[action.dest]
    shown = action.metavar if isinstance(action.metavar, str) else ""
    # The parser of recipes lists words in braces, and leaves checking them to the recipe.
    return tuple(shown[1:-1].split(",")) if shown.startswith("{") else ()


def _cases(found: Mapping[str, Offered], put: Callable[[Iterable[str]], str]) -> str:
    """Branches of a shell's ``case``: values by command and option, then options and words by command."""
    lines = ['  case "$command:$previous" in']
    for name, each in found.items():
        lines += [f"    {name}:{option}) {put(known)}; return;;" for option, known in each.values.items()]
    lines += ["  esac", '  case "$current:$command" in']
    for name, each in found.items():
        lines.append(f"    -*:{name}) {put(each.options)}; return;;")
        if each.words:
            lines.append(f"    *:{name}) {put(each.words)};;")
    return "\n".join([*lines, "  esac"])


def _words(words: Iterable[str]) -> str:
    """Each quoted for a shell that reads them one by one."""
    return " ".join(map(shlex.quote, words))


def bash(found: Mapping[str, Offered]) -> str:
    """A function for bash 3.2 and later."""

    def put(words: Iterable[str]) -> str:
        # compgen splits the words itself.
        return f'COMPREPLY+=($(compgen -W {shlex.quote(_words(words))} -- "$current"))'

    return f"""# Completion of {PROGRAMS[0]} for bash.
_transfer_parity() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" command={DEFAULT} known
  known={shlex.quote(" ".join(COMMANDS))}
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY+=($(compgen -W "$known" -- "$current"))
  elif [[ " $known " == *" ${{COMP_WORDS[1]}} "* ]]; then
    command="${{COMP_WORDS[1]}}"
  fi
{_cases(found, put)}
}}
complete -o default -F _transfer_parity {" ".join(PROGRAMS)}
"""


def zsh(found: Mapping[str, Offered]) -> str:
    """A function for zsh with its completion system (compinit)."""
    return f"""#compdef {" ".join(PROGRAMS)}
# Completion of {PROGRAMS[0]} for zsh.
_transfer_parity() {{
  local current="$words[CURRENT]" previous="$words[CURRENT-1]" command={DEFAULT} known
  known={shlex.quote(" ".join(COMMANDS))}
  if (( CURRENT == 2 )); then
    compadd -- {_words(COMMANDS)}
  elif [[ " $known " == *" $words[2] "* ]]; then
    command="$words[2]"
  fi
{_cases(found, lambda words: f"compadd -- {_words(words)}")}
  _files
}}
compdef _transfer_parity {" ".join(PROGRAMS)}
"""


def fish(found: Mapping[str, Offered]) -> str:
    """Lines for fish, with what every option does."""
    lines = [f"# Completion of {PROGRAMS[0]} for fish."]
    everywhere = f"not __fish_seen_subcommand_from {' '.join(name for name in COMMANDS if name != DEFAULT)}"
    for program in PROGRAMS:
        for name, line in COMMANDS.items():
            lines.append(f"complete -c {program} -n __fish_use_subcommand -a {name} -d {_fish(line)}")
        for name, each in found.items():
            when = everywhere if name == DEFAULT else f"__fish_seen_subcommand_from {name}"
            start = f"complete -c {program} -n {_fish(when)}"
            if each.words:
                lines.append(f"{start} -a {_fish(' '.join(each.words))}")
            for option, described in each.options.items():
                line = f"{start} -l {option[2:]} -d {_fish(described)}"
                if option in each.values:
                    line += f" -x -a {_fish(' '.join(each.values[option]))}"
                elif option not in each.flags:
                    line += " -r"
                lines.append(line)
    return "\n".join(lines) + "\n"


def _fish(text: str) -> str:
    """In single quotes, as fish reads them."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


#: By name, what writes a shell's completion.
SHELLS: dict[str, Callable[[Mapping[str, Offered]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
