"""The commands: a new one is an entry here and a module of its name beside this one, with ``build_parser`` and ``run``.

Only the module of the command that is asked for is imported: plots and pages would cost every command a second.
"""

from __future__ import annotations

#: What is carried out when no command is named.
DEFAULT = "compare"

#: By name, what each does, in the order of ``compare.py --help``.
COMMANDS = {
    DEFAULT: "one recipe, both frameworks, one verdict (the default)",
    "study": "learning curves: what transfer buys when labels are few",
    "attribute": "why two implementations of one recipe differ",
    "rank": "which backbone suits a data set, without training",
    "episodes": "few labels: small tasks of classes that were not seen before",
    "parity": "whether a model is the same function in both frameworks",
    "convert": "a checkpoint of one library as one of the other, and checked",
    "exercise": "a fault in a copy of a wing, to be found and mended",
    "zoo": "the architectures that both libraries have",
    "fit": "a model trained on every image, kept with its card",
    "predict": "classes of photographs, by a kept model",
    "explain": "what a word of one framework is in the other, and what differs",
    "runs": "a table of all results under a folder",
    "cache": "what is kept between runs, and pruning it",
    "completion": "completion for bash, zsh or fish",
}
