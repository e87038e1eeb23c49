"""The same transfer learning, and the same models, in two frameworks: what can be used from Python.

``from transfer_parity import Subject, climb``. Nothing is imported before it is asked for, and no framework ever: this
file is run in every process, those of the frameworks and every pytest session among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transfer_parity.shared.contract.subject import Subject as Subject
    from transfer_parity.shared.core.errors import BadInput as BadInput
    from transfer_parity.shared.core.errors import WorkerFailed as WorkerFailed
    from transfer_parity.shared.subjects.api import climb as climb
    from transfer_parity.shared.subjects.document import SubjectParity as SubjectParity

__all__ = ["BadInput", "Subject", "SubjectParity", "WorkerFailed", "climb"]


def __getattr__(name: str) -> object:
    """What is offered, from the module that it stands in."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    places = {
        "BadInput": "core.errors",
        "Subject": "contract.subject",
        "SubjectParity": "subjects.document",
        "WorkerFailed": "core.errors",
        "climb": "subjects.api",
    }
    return getattr(importlib.import_module(f"{__name__}.shared.{places[name]}"), name)


def __dir__() -> list[str]:
    """What is offered, and what every module has."""
    return sorted({*globals(), *__all__})
