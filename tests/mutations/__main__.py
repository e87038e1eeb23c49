"""``python -m tests.mutations [--every] [ID ...]``: plants the mistakes, and writes the table (make mutate).

A ladder does not look any more once another tool has named the mistake exactly; with --every all do.

Results are lines of docs/mutations.jsonl. What stands there for the present code is not done again.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.mutations import runner, table
from tests.mutations.catalogue import BY_ID, MUTATIONS
from tests.mutations.mutation import Mutation

RESULTS = ROOT / "docs" / "mutations.jsonl"
DOCUMENT = ROOT / "docs" / "validity.md"
#: Copies that are looked at at the same time.
AT_ONCE = 2


def main(given: Sequence[str]) -> int:
    """Carry out the mistakes of these ids, or all. Returns 0 if each that changes a matched run was noticed."""
    every = "--every" in given
    names = [name for word in given if word != "--every" for name in word.split(",") if name]
    if unknown := sorted(set(names) - BY_ID.keys()):
        print(f"there is no mistake {', '.join(unknown)}; there are {', '.join(BY_ID)}", file=sys.stderr)
        return 2
    chosen = [BY_ID[name] for name in names] or list(MUTATIONS)
    results = table.read(RESULTS)
    todo = [each for each in chosen if results.get(each.id, {}).get("key") != runner.key(each)]
    print(f"{len(todo)} of {len(chosen)} mistakes to plant; the others stand in {RESULTS.relative_to(ROOT)}")
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        _check_scenarios(todo, Path(folder), pool)
        for mutation, result in _looked_at(todo, Path(folder), pool, every):
            # At once: what was found is kept, whatever happens next, as is what another process found meanwhile.
            results = table.read(RESULTS) | {mutation.id: result}
            table.write(RESULTS, results)
            print(f"{mutation.id}: {'; '.join(runner.noticed(result)) or 'nothing notices it'}", flush=True)
    results |= table.read(RESULTS)
    DOCUMENT.write_text(table.in_document(DOCUMENT.read_text(encoding="utf-8"), results), encoding="utf-8")
    missed = [each.id for each in chosen if each.changes and not runner.noticed(results[each.id])]
    print(f"nothing notices {', '.join(missed)}" if missed else "all that change a matched run are noticed")
    return 1 if missed else 0


def _check_scenarios(todo: Sequence[Mutation], folder: Path, pool: ThreadPoolExecutor) -> None:
    """Every scenario that is needed passes without a mistake; otherwise nothing could be told."""
    names = sorted({each.scenario for each in todo if each.scenario})
    waiting = [pool.submit(runner.check_without_mistake, name, folder / name) for name in names]
    for done in waiting:
        done.result()
    if names:
        print(f"nothing is found without a mistake in {', '.join(names)}", flush=True)


def _looked_at(
    todo: Sequence[Mutation], folder: Path, pool: ThreadPoolExecutor, every: bool
) -> Iterator[tuple[Mutation, dict[str, Any]]]:
    waiting = {pool.submit(runner.look, each, folder / each.id, every): each for each in todo}
    for done in as_completed(waiting):
        yield waiting[done], done.result()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (runner.Unfit, json.JSONDecodeError) as error:
        sys.exit(f"error: {error}")
