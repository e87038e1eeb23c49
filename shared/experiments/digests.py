"""What the numbers of a run depend on, as one short digest: what is kept under it is taken up by that run alone."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfer_parity.shared.contract.recipe import OPTIONS, Framework, Recipe
from transfer_parity.shared.contract.wings import WINGS, wing
from transfer_parity.shared.core import code, files
from transfer_parity.shared.runtime import prepare

#: Distributions whose versions finished runs depend on.
DISTRIBUTIONS = (*(name for each in WINGS for name in each.packages), "numpy", "scikit-learn")


def of_runs(
    framework: Framework,
    recipe: Recipe,
    switches: frozenset[str],
    checkpoint: Path | None,
    pixels: Path,
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
        threads: of the process.
        versions: by distribution.
        more: JSON values that matter besides.

    Returns:
        16 hexadecimal digits.
    """
    key: dict[str, Any] = {
        "code": code.of_wing(wing(framework).package),
        "packages": versions,
        "recipe": recipe.model_dump(mode="json", exclude=set(OPTIONS.not_in_results)),
        "threads": threads,
        "pixels": prepare.data_digest(pixels, switches),
        "weights": _sha256(checkpoint) if checkpoint else None,
    }
    if switches:
        key["switches"] = sorted(switches)
    return hashlib.sha256(json.dumps({**key, **(more or {})}, sort_keys=True).encode()).hexdigest()[:16]


#: Most strategies share their weights.
_sha256 = functools.cache(files.sha256)
