"""Which code makes a stored result: a digest of its sources, so that nothing stored outlives what made it."""

from __future__ import annotations

import functools
import glob
import hashlib
import importlib.util
from pathlib import Path

#: The folder of transfer_parity: the checkout, or its folder in site-packages.
ROOT = Path(__file__).resolve().parents[2]
#: What decodes, resizes and crops images. Packages import only those below them, so these are all that it needs.
PIXELS = ("shared.core", "shared.data")
#: What runs in a wing's process, but for the wing.
RUNS = (*PIXELS, "shared.zoo", "shared.contract", "shared.checkpoints", "shared.evaluation", "shared.runtime")


def of_pixels() -> str:
    """Of the code on which decoded pixels depend."""
    return digest(*PIXELS)


def of_wing(package: str) -> str:
    """Of the code on which a wing's outputs depend: frozen features, and the results of a whole run.

    Args:
        package: of the wing, as in its ``WingInfo``; one of somebody else's may lie anywhere. Of one that is nowhere
            there is nothing to digest, and starting it will fail.
    """
    own = package.removeprefix("transfer_parity.")
    if own != package:
        return digest(*RUNS, own)
    found = importlib.util.find_spec(package)
    places = list(found.submodule_search_locations or ()) if found else []
    wings = [digest(Path(place).name, root=Path(place).parent) for place in places]
    return hashlib.sha256("\n".join([package, digest(*RUNS), *wings]).encode()).hexdigest()[:16]


@functools.cache
def digest(*packages: str, root: Path = ROOT) -> str:
    """SHA-256 over the names and the bytes of all sources of some packages, its first 16 hexadecimal digits.

    Comments count as well: computing again is cheaper than finding out which changes change nothing. Every process
    reads the sources once.

    Args:
        packages: names below ``transfer_parity``, with dots.
        root: the folder that holds them.

    Raises:
        ModuleNotFoundError: a package has no sources there.
    """
    state = hashlib.sha256()
    for package in packages:
        folder = root.joinpath(*package.split("."))
        # Twice as fast as Path.rglob, and every command waits for it.
        names = sorted(glob.glob("**/*.py", root_dir=folder, recursive=True))  # noqa: PTH207
        if not names:
            raise ModuleNotFoundError(f"No sources of {package}", name=package)
        for name in names:
            source = (folder / name).read_bytes()
            state.update(f"{package}/{name}\0{len(source)}\0".encode())
            state.update(source)
    return state.hexdigest()[:16]
