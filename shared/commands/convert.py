"""``compare.py convert``: a checkpoint of one library as one of the other, or as a neutral one, and checked."""

from __future__ import annotations

import math
import typing
from pathlib import Path

from transfer_parity.shared.checkpoints import kept_model
from transfer_parity.shared.commands.parser import Parser, at_least
from transfer_parity.shared.contract import wings
from transfer_parity.shared.contract.jobs import ClassifierChoice
from transfer_parity.shared.core import machine, paths
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import (
    DIFFERENT_OR_INCONCLUSIVE,
    IDENTICAL_OR_EQUIVALENT,
    BadInput,
    did_you_mean,
)
from transfer_parity.shared.experiments import conversion, conversion_request
from transfer_parity.shared.experiments.conversion import Conversion
from transfer_parity.shared.experiments.conversion_request import Request
from transfer_parity.shared.report import console
from transfer_parity.shared.report.console import Console
from transfer_parity.shared.report.progress import progress
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.shared.zoo.pair import PREPROCESSING, Aspect, Pair, Preprocessing, Semantics

#: Names of things that are left over, before the rest is only counted.
SHOWN = 8


def run(arguments: list[str], errors: Console) -> int:
    """Convert a checkpoint and print what became of it."""
    options = build_parser().read(arguments)
    semantics = _word("--semantics", options.semantics, typing.get_args(Semantics))
    classifier = _word("--classifier", options.classifier, typing.get_args(ClassifierChoice))
    backbone = find_pair(options.backbone).name if options.backbone else None
    at_least(options, threads=1)
    threads = options.threads if options.threads is not None else machine.available_cores()
    request = Request(
        source=options.source,
        destination=paths.expanded(options.destination),
        backbone=backbone,
        semantics=semantics,
        classifier=classifier,
        image_size=options.image_size,
        threads=threads,
    )
    with progress(errors) as tell:
        result = conversion.convert(request, Cache(options.cache_dir), tell)
    _show(request, result, Console(width=console.WIDTH))
    return IDENTICAL_OR_EQUIVALENT if result.passed else DIFFERENT_OR_INCONCLUSIVE


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py convert",
        usage="compare.py convert SOURCE DESTINATION [options]",
        description="Convert a checkpoint or a kept model, read it back, and run both frameworks on it.",
        epilog="Exit status: 0 converted and checked, 1 the check failed, 2 bad input, 3 a worker failed.",
        allow_abbrev=False,
    )
    kinds = ", ".join(wings.readable())
    parser.add_argument("source", metavar="SOURCE", help=f"a file ({kinds}), torchvision or keras")
    kinds = ", ".join(conversion_request.WRITABLE)
    parser.add_argument("destination", metavar="DESTINATION", help=f"a file; its suffix chooses the format: {kinds}")
    parser.add_argument("--backbone", metavar="NAME", help="the architecture (default: what the file or its name says)")
    parser.add_argument(
        "--semantics",
        metavar="{" + ",".join(wings.libraries()) + "}",
        help="under which the weights were trained, of a file that does not say (default: its framework's own)",
    )
    parser.add_argument(
        "--classifier",
        metavar="{auto,required,none}",
        default="auto",
        help="take the file's classifier or trained head if it is there, insist on it, or leave it out (default: auto)",
    )
    parser.add_argument(
        "--image-size", metavar="N", help="side in pixels for Keras and the check (default: the backbone's own)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of each framework (default: the cores it may use)")
    parser.add_cache_dir()
    return parser


def _word(option: str, given: str | None, valid: tuple[str, ...]) -> typing.Any:
    """A word from a list, or None if the option is not given."""
    if given is not None and given not in valid:
        raise BadInput(f"{option} {given!r} is not known; {did_you_mean(given, valid)}")
    return given


def _show(request: Request, result: Conversion, output: Console) -> None:
    """A few lines: what it is, what was left over, what came back, what to change on a plain class."""
    pair = find_pair(result.metadata.backbone)

    def say(text: str) -> None:
        output.print(text, markup=False, highlight=False)

    classes = result.imported.classes
    classifier = f"its classifier of {classes} classes" if classes else "without a classifier"
    kept, left_over = result.kept, result.imported.left_over
    if kept is not None:
        classifier = f"whole model, with its trained head of {len(kept.classes)} classes"
    # What a kept model began from is not what it is any more.
    source = (result.metadata.source if kept is None else "") or Path(request.source).name
    say(f"{pair.name}, {classifier}, {result.metadata.semantics} semantics, from {source}")
    say(f"{result.arrays} arrays, {result.parameters:,} values")
    if left_over:
        say(f"Left over, {len(left_over)} arrays that are not part of it:")
        # The optimizer's state last: there is much of it, and nobody misses it.
        names = sorted(left_over, key=lambda name: (name.startswith("optimizer"), name))
        for name in names[:SHOWN]:
            say(f"  {name} {left_over[name]}")
        if len(names) > SHOWN:
            rest = sum(math.prod(left_over[name]) for name in names[SHOWN:])
            say(f"  and {len(names) - SHOWN} more from {names[SHOWN]} on, {rest:,} values")
    if result.folded or result.imported.folded:
        say(f"Convolution biases folded into running means: {result.folded or len(result.imported.folded)} (not zero)")
    if result.differing:
        say(f"Not the same when read back: {', '.join(result.differing[:SHOWN])}")
        say(f"{request.destination} was not written")
    else:
        say(f"Read back: all {result.arrays} arrays the same{', after folding' if result.folded else ', bit by bit'}")
    verdict = "same function" if result.output_difference <= result.tolerance else "NOT the same function"
    if kept_model.HEAD_WEIGHT in left_over:
        verdict += " of the backbone, whose trained head was left out"
    outputs = "logits of the whole model" if kept is not None else "outputs"
    say(
        f"{wings.wing(result.ran[0]).title} on the source, {wings.wing(result.ran[1]).title} on the result: {verdict}, "
        f"{outputs} differ by {result.output_difference:.1e} (at most {result.tolerance:.0e})"
    )
    if kept is not None:
        say(f"Takes images of {kept.spec.image_size} pixels as {_formula(kept.spec.preprocessing)}")
    hints = adaptations(request.destination, result, pair)
    if hints:
        say("On the plain class, change (see docs/convert.md):")
        for hint in hints:
            say(f"  {hint}")


#: Formats that hold layers besides weights, so that no plain class has to fit them.
WHOLE_MODELS = (".keras", ".h5")
#: What a library's plain class needs to be the other one's function.
ADAPTATIONS: dict[Semantics, dict[Aspect, str]] = {
    wings.TORCHVISION.library: {
        "resnet_stride": "stride 2 in conv1, not conv2, of layer2.0, layer3.0, layer4.0",
        "same_padding": 'padding "same" of TensorFlow in front of convolutions with stride 2',
        "average_pooling": "average pooling that does not count the padding",
    },
    wings.KERAS.library: {
        "resnet_stride": "stride 2 in the 3x3 convolution of a stage's first block, not the 1x1",
        "same_padding": "padding that is the same on all sides at stride 2",
        "average_pooling": "average pooling that counts the padding",
        "bn_scale": "a scale in every normalisation",
    },
}


def adaptations(destination: Path, result: Conversion, pair: Pair) -> list[str]:
    """What differs between the converted function and the plain class of the destination's library."""
    suffix = conversion_request.writing_suffix(destination)
    writer = wings.writer(suffix)
    if writer is None or result.kept is not None or suffix in WHOLE_MODELS:
        return []
    own, semantics, hints = writer.library, result.metadata.semantics, []
    if writer == wings.TORCHVISION and pair.family == "InceptionV3":
        hints.append("inception_v3(aux_logits=False, init_weights=False): there is no auxiliary head")
    size = result.imported.image_size
    if writer == wings.TORCHVISION and pair.flattened and result.imported.classes and size // 32 != 7:
        hints.append(f"no pooling to 7x7, and a classifier for images of {size} pixels")
    if semantics != own:
        changes = ADAPTATIONS[own]
        hints += [changes[aspect] for aspect in pair.structure if aspect in changes]
        if writer == wings.KERAS and hints:
            hints.append("or write a .keras file, which has all of this")
    if pair.batch_norm:
        epsilon = result.metadata.batch_norm_epsilon or pair.batch_norm[semantics].epsilon
        if epsilon != pair.batch_norm[own].epsilon:
            hints.append(f"epsilon {epsilon:g} in every normalisation, not {pair.batch_norm[own].epsilon:g}")
    wanted, usual = pair.preprocessing[semantics], pair.preprocessing[own]
    if wanted != usual:
        hints.append(f"inputs: {_formula(PREPROCESSING[wanted])}")
    if not result.imported.classes:
        hints.append("it has no classifier: build the class without one (include_top=False), or load with strict=False")
    return hints


def _formula(preprocessing: Preprocessing) -> str:
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    return f"({preprocessing.channels} pixel / {preprocessing.divide_by:g} - [{mean}]) / [{std}]"
