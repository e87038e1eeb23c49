"""Which frameworks are installed here, told without importing any."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Sequence

from transfer_parity.shared.contract import wings
from transfer_parity.shared.contract.recipe import Framework
from transfer_parity.shared.core.errors import BadInput


def make_sure_of(frameworks: Sequence[Framework], optional: bool = False) -> None:
    """Refuse what needs a framework that is not installed, before anything is computed.

    Args:
        frameworks: identifiers of the wings that are needed.
        optional: whether ``--frameworks`` could leave some of them out.

    Raises:
        BadInput: something that one of them needs is not installed.
    """
    absent = {framework: names for framework in frameworks if (names := missing(framework))}
    if not absent:
        return
    names = " and ".join(names for names in absent.values())
    present = [framework for framework in frameworks if framework not in absent]
    without = f", or leave {'it' if len(absent) == 1 else 'them'} out with --frameworks {' '.join(present)}"
    raise BadInput(
        f"{names} {'is' if len(absent) == 1 else 'are'} not installed; pip install "
        f"'transfer-parity[{','.join(absent)}]'{without if optional and present else ''}."
    )


def missing(framework: Framework) -> str:
    """What is missing of a wing's framework, for sentences: the framework, or a package beside it; else nothing."""
    wing = wings.wing(framework)
    absent = [package for package in wing.packages if importlib.util.find_spec(package) is None]
    return wing.short if wing.packages[0] in absent else "".join(absent[:1])


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found: dict[str, str] = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
