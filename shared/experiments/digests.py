"""What the numbers of a run depend on, as one short digest: what is kept under it is taken up by that run alone."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfer_parity.shared.contract import keys
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.wings import WINGS, wing
from transfer_parity.shared.core import code, files
from transfer_parity.shared.data import vectors
from transfer_parity.shared.runtime import prepare

#: Distributions whose versions finished runs depend on.
DISTRIBUTIONS = (*(name for each in WINGS for name in each.packages), "numpy", "scikit-learn")


def of_runs(
    framework: Framework,
    recipe: Recipe,
    switches: frozenset[str],
    checkpoint: Path | None,
    pixels: Path,
    division: str,
    threads: int,
    versions: Mapping[str, str],
    more: Mapping[str, Any] | None = None,
) -> str:
    """Of everything that the numbers of some runs depend on, but for their shots and seeds.

    Args:
        framework: which does them.
        recipe: of all of them.
        switches: of the wing.
        checkpoint: neutral checkpoint, or None where all weights are drawn.
        pixels: decoded images in the cache.
        division: which class each of them is of (``Dataset.division``).
        threads: of the process.
        versions: by distribution.
        more: JSON values that matter besides.

    Returns:
        16 hexadecimal digits.
    """
    chosen = {f"recipe.{name}": value for name, value in keys.RUNS.rest(recipe).items()}
    key: dict[str, Any] = {
        **chosen,
        "code": code.of_wing(wing(framework).package),
        "packages": dict(versions),
        "threads": threads,
        "environment": keys.arithmetic(wing(framework)),
        "pixels": prepare.data_digest(pixels, switches),
        "division": division,
        "weights": _sha256(checkpoint) if checkpoint else None,
        "switches": sorted(switches),
    }
    # Places; what is in the files counts, where the strategy reads them.
    for name, read in (("text_features", recipe.method.text), ("image_features", True)):
        source = getattr(recipe, name) if read else None
        key[f"recipe.{name}"] = None if source is None else vectors.digest(source)
    return files.digest({**key, **(more or {})}, 16)


def _sha256(path: Path) -> str:
    """Of a file that most strategies share."""
    status = path.stat()
    return _sha256_of(path, status.st_size, status.st_mtime_ns, status.st_ino)


@functools.cache
def _sha256_of(path: Path, *state: int) -> str:
    """Of a file as long as its size, time and place on the disk are these."""
    return files.sha256(path)
