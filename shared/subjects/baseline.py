"""Differences that are known and accepted: a file that may only shrink unless somebody asks for an update."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from transfer_parity.shared.contract.rungs import Rung
from transfer_parity.shared.core.document import Document
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.subjects.document import SubjectParity
from transfer_parity.shared.subjects.judging import Accepted

#: What an update gives as the reason of a new difference, until somebody writes a better one.
UNEXPLAINED = "recorded by an update; say why"
#: An accepted difference may grow by this much before it counts again: rounding differs between machines.
ROOM = 2.0


class AcceptedDifference(Document):
    """One difference."""

    name: str = Field(description="the reference's name of the layer or parameter; empty where there is none")
    rung: Rung
    what: str = Field(description="in words, as the report has it")
    bound: float | None = Field(
        ge=0, allow_inf_nan=False, description="relative; null: only one side has the array, or shapes differ"
    )
    reason: str


class Baseline(Document):
    """The file."""

    schema_version: int = 1
    accepted: list[AcceptedDifference] = Field(default_factory=list)


def read(path: Path) -> Baseline:
    """Read a baseline; an empty one where there is no file.

    Raises:
        BadInput: it cannot be read, or names a difference twice.
    """
    try:
        found = Baseline.model_validate_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return Baseline()
    except OSError as error:
        raise BadInput(f"baseline {path} cannot be read ({error.strerror or error}); make it readable.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(each) for each in first["loc"])
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise BadInput(f"baseline {path} is not valid ({reason}); mend it, or write it with --parity-update.") from None
    except ValueError:
        raise BadInput(f"baseline {path} is not UTF-8; mend it, or write it with --parity-update.") from None
    keys = [_key(each) for each in found.accepted]
    twice = next((each for each in found.accepted if keys.count(_key(each)) > 1), None)
    if twice is not None:
        raise BadInput(f"baseline {path} has {twice.what} of {twice.name or twice.rung} twice; take one out.")
    return found


def write(path: Path, baseline: Baseline) -> None:
    """Write a baseline, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    baseline.save(path)


def _key(each: AcceptedDifference) -> tuple[str, str, str]:
    return each.rung, each.what, each.name


def accepted(baseline: Baseline) -> Accepted:
    """What a judge asks why a difference is accepted: it is if it stands here, and has not grown."""
    known = {_key(each): each for each in baseline.accepted}

    def why(rung: Rung, what: str, name: str | None, relative: float) -> str | None:
        each = known.get((rung, what, name or ""))
        if each is None or (each.bound is not None and not relative <= each.bound):
            return None
        return each.reason

    return why


def updated(baseline: Baseline, document: SubjectParity, grows: bool = False) -> Baseline:
    """A baseline after a climb: what does not differ any more is taken out.

    Args:
        baseline: before it.
        document: what came of the climb.
        grows: whether an update was asked for: new differences are added, and bounds become what they are now. Else
            bounds only become smaller.
    """
    known = {_key(each): each for each in baseline.accepted}
    climbed = {rung.name for rung in document.rungs}
    found: dict[tuple[str, str, str], AcceptedDifference] = {}
    for rung in document.rungs:
        for array in rung.arrays:
            key = rung.name, array.what, array.reference or array.candidate or ""
            before = known.get(key)
            if array.passed or key in found or (before is None and not grows):
                continue
            relative = array.max_rel_difference
            bound = None if relative is None else relative * ROOM
            if before is not None and not grows:
                bound = _smaller(before.bound, bound)
            found[key] = AcceptedDifference(
                name=key[2],
                rung=rung.name,
                what=array.what,
                bound=bound,
                reason=before.reason if before is not None else UNEXPLAINED,
            )
    # Of rungs that were not climbed nothing is known.
    kept = [each for each in baseline.accepted if each.rung not in climbed]
    return Baseline(accepted=[*found.values(), *kept])


def _smaller(before: float | None, now: float | None) -> float | None:
    if before is None or now is None:
        # A difference that has become a number is bounded by it; one that was a number stays bounded.
        return now if before is None else before
    return min(before, now)
