"""Run the benchmarks: ``python benchmarks/run.py [--only NAME...] [--data FOLDER]``.

What each benchmark found last is kept as JSON beside the document, which is made from all of it: one of them can be
renewed by itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# Run as a script, so that Python looks for modules beside it; the project is one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import document, features, footprint, recipes, verdicts
from benchmarks.records import Record, Records, Row, now, this_machine
from benchmarks.turns import Setting
from transfer_parity.shared.commands.parser import Parser
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, WorkerFailed, did_you_mean

BENCHMARKS: dict[str, Callable[[Setting], list[Row]]] = {
    "features-mobilenetv2": features.mobilenetv2,
    "features-mobilenetv2-many": features.mobilenetv2_many,
    "features-resnet50": features.resnet50,
    "recipe": recipes.cold,
    "recipe-warm": recipes.warm,
    "finetune-last-stage": recipes.finetune_last_stage,
    "harness": features.harness,
    "memory": footprint.memory,
    "start": footprint.start,
    "verdicts": verdicts.verdicts,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for, and make the document. Returns the exit status: 0 unless something could not be run."""
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status


def _run(arguments: list[str]) -> int:
    parser = Parser(prog="run.py", description="Run the benchmarks and write the document.", allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="pairs of each (default: 5)")
    parser.add_argument(
        "--only", nargs="*", default=list(BENCHMARKS), metavar="NAME", help=f"some of: {', '.join(BENCHMARKS)}"
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="folder of photographs (default: drawn pictures)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("docs") / "benchmarks.md",
        metavar="FILE",
        help="default: docs/benchmarks.md",
    )
    parser.add_cache_dir()
    options = parser.read(arguments)
    unknown = [name for name in options.only if name not in BENCHMARKS]
    if unknown:
        raise BadInput(f"there is no benchmark {unknown[0]!r}; {did_you_mean(unknown[0], BENCHMARKS)}")
    if options.repeats < 1:
        raise BadInput(f"--repeats {options.repeats} is not valid; give 1 or more.")
    cache = Cache(options.cache_dir)
    data = options.data.expanduser().resolve() if options.data else None
    setting = Setting(
        options.repeats, data, cache.root, cache.folder("benchmarks"), lambda line: print(line, flush=True)
    )
    kept = options.output.with_suffix(".json")
    records, failed = Records.read(kept), False
    for name in options.only:
        try:
            records.benchmarks[name] = _one(name, setting)
            records.write(kept)
        except WorkerFailed as error:
            failed = True
            print(f"error: {name}: {error}\n{error.last_words}", file=sys.stderr, flush=True)
    if records.benchmarks:
        document.write(records, list(BENCHMARKS), options.output)
        print(f"Document: {options.output}")
    return int(failed)


def _one(name: str, setting: Setting) -> Record:
    load, began = machine.load_average(), time.perf_counter()
    rows = BENCHMARKS[name](setting)
    for row in rows:
        verdict = "reached" if row.reached else "NOT reached"
        setting.say(f"{row.what}, {row.framework}: {row.median:.3f}, {row.bound} {row.target:g}, {verdict}")
    return Record(
        date=now(),
        seconds=time.perf_counter() - began,
        load_average_before=load,
        machine=this_machine(),
        rows=rows,
    )


if __name__ == "__main__":
    sys.exit(main())
