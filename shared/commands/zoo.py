"""``compare.py zoo``: what there is to know about each pair before one chooses it."""

from __future__ import annotations

from rich import box
from rich.table import Table

from transfer_parity.shared.commands.parser import Parser
from transfer_parity.shared.contract.wings import KERAS, TORCHVISION, WINGS
from transfer_parity.shared.core.errors import IDENTICAL_OR_EQUIVALENT
from transfer_parity.shared.report.console import WIDTH, Console, marked
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.shared.zoo.pair import Aspect, Pair, Semantics
from transfer_parity.shared.zoo.pairs import PAIRS

#: In the order of their columns.
LIBRARIES = tuple(wing.library for wing in WINGS)
#: What a wing changes on its stock model so that it runs a checkpoint of the other library.
CHANGES: dict[Aspect, str] = {
    "resnet_stride": "stride",
    "conv_bias": "convolution biases",
    "same_padding": "padding",
    "average_pooling": "average pooling",
    "bn_scale": "normalisation scale",
    "bn_epsilon": "epsilon",
    "bn_momentum": "momentum",
}


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py zoo",
        description="List the architectures that both libraries have, and in what they differ.",
        allow_abbrev=False,
    )
    parser.add_argument("backbone", nargs="*", metavar="NAME", help="only these, in full")
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Print the table of pairs, or everything about the pairs that are named."""
    names = build_parser().read(arguments).backbone
    output = Console(width=WIDTH)
    if names:
        for name in names:
            _show(find_pair(name), output)
        return IDENTICAL_OR_EQUIVALENT
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("Backbone", no_wrap=True)
    for title in ("Parameters", "px", "Stages"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("Preprocessing", width=14)
    table.add_column("What else differs", width=20)
    for pair in PAIRS:
        preprocessing = " / ".join(dict.fromkeys(pair.preprocessing[library] for library in LIBRARIES))
        changes = ", ".join(CHANGES[aspect] for aspect in pair.aspects if aspect in CHANGES) or "nothing"
        numbers = (f"{pair.parameters / 1e6:.2f} M", str(pair.image_size), str(len(pair.stages)))
        table.add_row(pair.name, *numbers, preprocessing, changes)
    output.print(table)
    output.print(
        "Parameters: weights and running statistics of the backbone, without a classifier, as torchvision has it. "
        "Preprocessing: of Keras's weights / of torchvision's. "
        "Name one or more for its stages, preprocessing and numbers: compare.py zoo MobileNetV2",
        highlight=False,
    )
    return IDENTICAL_OR_EQUIVALENT


def _show(pair: Pair, output: Console) -> None:
    """One pair: what is the same, then a column for each library."""
    output.print(marked("[bold]{}[/] (torchvision: {})", pair.name, pair.torchvision_name), highlight=False)
    output.print(
        f"{pair.parameters:,} parameters, {pair.channels} features, {pair.image_size} px (at least "
        f"{pair.smallest_image})",
        highlight=False,
    )
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    table.add_column("")
    for library in LIBRARIES:
        table.add_column(f"{library} semantics")
    for row in _rows(pair):
        table.add_row(*row)
    output.print(table)
    output.print("Stages for fine-tuning, from input to output:", highlight=False)
    for number, modules in enumerate(pair.stages, start=1):
        shown = modules[0] if len(modules) == 1 else f"{modules[0]} to {modules[-1]}"
        output.print(f"  {number}: {shown}", highlight=False)
    output.print()


#: What each aspect of a model's structure means to each library.
MEANINGS: dict[Aspect, dict[Semantics, str]] = {
    "resnet_stride": {
        KERAS.library: "in the first 1x1 convolution of a stage",
        TORCHVISION.library: 'in its 3x3 convolution ("v1.5")',
    },
    "conv_bias": {KERAS.library: "in every convolution", TORCHVISION.library: "none"},
    "same_padding": {KERAS.library: "an odd pixel bottom right", TORCHVISION.library: "the same on all sides"},
    "average_pooling": {KERAS.library: "leaves the padding out", TORCHVISION.library: "counts the padding"},
    "bn_scale": {KERAS.library: "none", TORCHVISION.library: "learnt"},
}
TITLES: dict[Aspect, str] = {
    "resnet_stride": "stride 2",
    "conv_bias": "convolution bias",
    "same_padding": "padding at stride 2",
    "average_pooling": "average pooling",
    "bn_scale": "normalisation scale",
}


def _rows(pair: Pair) -> list[tuple[str, ...]]:
    """A title, then what each library means."""
    rows = [("preprocessing", *(pair.preprocessing[library] for library in LIBRARIES))]
    if pair.batch_norm:
        norms = [pair.batch_norm[library] for library in LIBRARIES]
        rows.append(("normalisation epsilon", *(f"{norm.epsilon:g}" for norm in norms)))
        rows.append(("weight of new statistics", *(f"{norm.momentum:g}" for norm in norms)))
    return rows + [(TITLES[aspect], *(MEANINGS[aspect][each] for each in LIBRARIES)) for aspect in pair.structure]
