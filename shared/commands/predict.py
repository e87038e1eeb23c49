"""``compare.py predict``: what a kept model says about photographs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

from transfer_parity.shared.commands.parser import Parser, at_least
from transfer_parity.shared.contract.wings import IDENTIFIERS
from transfer_parity.shared.core import paths
from transfer_parity.shared.core.errors import BAD_INPUT, IDENTICAL_OR_EQUIVALENT, BadInput
from transfer_parity.shared.experiments import predicting
from transfer_parity.shared.report import predictions as report
from transfer_parity.shared.report.console import WIDTH, Console
from transfer_parity.shared.report.progress import progress


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="compare.py predict",
        usage="compare.py predict MODEL PHOTO [PHOTO ...] [options]",
        description="Say of photographs which classes a kept model takes them for, and with what probability.",
        epilog="Exit status: 0 done, 2 bad input or a photograph that cannot be read, 3 a worker failed.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "model", type=paths.expanded, metavar="MODEL", help="a folder that fit has written, or the file of a kept model"
    )
    parser.add_argument(
        "photos", nargs="+", type=paths.expanded, metavar="PHOTO", help="image files, or folders of them"
    )
    parser.add_argument("--top", type=int, default=3, metavar="K", help="so many classes of each image (default: 3)")
    parser.add_argument(
        "--format", choices=get_args(report.Format), default="table", help="how to write them (default: table)"
    )
    parser.add_argument("--output", type=paths.expanded, metavar="FILE", help="a new file for csv or json")
    parser.add_argument(
        "--framework", choices=IDENTIFIERS, help="whose model, if the folder has several (default: the first there is)"
    )
    return parser


def run(arguments: list[str], errors: Console) -> int:
    """Predict, and print or write the classes."""
    options = build_parser().read(arguments)
    at_least(options, top=1)
    if options.output is not None:
        _check(options.output, options.format)
    photos = predicting.find_photos(options.photos)
    wing, model = predicting.find_model(options.model, options.framework)
    with progress(errors) as tell:
        found = predicting.predict(wing, model, photos, tell)
    output = Console(width=WIDTH)
    if options.format == "table":
        output.print(report.as_table(found, options.top))
    else:
        written = {"csv": report.as_csv, "json": report.as_json}[options.format](found, options.top)
        if options.output is None:
            output.file.write(written)
        else:
            with options.output.open("x", encoding="utf-8", newline="") as file:
                file.write(written)
    for name, reason in found.unreadable:
        errors.print(f"error: {name} cannot be read ({reason}); it has no prediction.", style="red", soft_wrap=True)
    return BAD_INPUT if found.unreadable else IDENTICAL_OR_EQUIVALENT


def _check(path: Path, written: str) -> None:
    """Whether a file can be made, before anything is computed."""
    if written == "table":
        raise BadInput(f"--output {path} needs --format csv or json.")
    if os.path.lexists(path):
        raise BadInput(f"--output {path} exists; choose a new file.")
    if not path.parent.is_dir():
        raise BadInput(f"--output {path}: there is no folder {path.parent}; make it, or choose another file.")
