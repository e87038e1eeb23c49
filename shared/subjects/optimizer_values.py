"""What states of an optimizer show: its epsilon and its decay, from two steps along known gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from transfer_parity.shared.contract.rungs import RATES, Array, Label, StateKind
from transfer_parity.shared.contract.subject import Subject
from transfer_parity.shared.runtime.subject_dump import Dump
from transfer_parity.shared.subjects.document import Cause
from transfer_parity.shared.subjects.name_map import NameMap

#: Two numbers of one side and the other that differ by less are taken for equal.
SAME = 1e-2


def recognise(subject: Subject, names: NameMap, dumps: tuple[Dump, Dump]) -> Iterator[Cause]:
    """Epsilon of Adam and AdamW: of the second step, rate * m / (1 - b1^2) / step - sqrt(v / (1 - b2^2)).

    (Kingma and Ba, Adam, 2015, algorithm 1.) It is the same number wherever the step is not lost in the parameter.
    """
    training = subject.training
    if training.optimizer == "sgd":
        return
    found = []
    for side, dump in enumerate(dumps):
        several: list[float] = []
        for mine, theirs in names.parameters.items():
            states = _states(dump, theirs if side else mine, subject)
            if states is not None:
                several += _epsilons(*states, training.beta1, training.beta2)
        found.append(float(np.median(several)) if several else None)
    one, other = found
    if one is None or other is None or one <= 0 or other <= 0 or abs(one - other) <= SAME * max(one, other):
        return
    yield Cause(
        name="epsilon",
        sentence=f"consistent with epsilon of {training.optimizer}: {_word(one)} in {subject.reference}, "
        f"{_word(other)} in {subject.candidate}",
        explains="part",
        reference_source=None,
        candidate_source=None,
        mend_reference=None,
        mend_candidate=None,
    )


def _states(dump: Dump, name: str, subject: Subject) -> tuple[Array, Array, Array] | None:
    """First and second moment after the second step, and what it took off the parameter."""
    kind = subject.training.optimizer

    def read(state: StateKind, step: int) -> Array:
        array = dump.read("optimizer", Label(state, name, optimizer=kind, step=step))
        return np.asarray(array.astype(np.float64).reshape(-1))

    try:
        before, after = read("parameter", 1), read("parameter", 2)
        return read("first_moment", 2), read("second_moment", 2), before - after
    except KeyError:
        return None


def _epsilons(first: Array, second: Array, step: Array, beta1: float, beta2: float) -> list[float]:
    root = np.sqrt(second / (1 - beta2**2))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = RATES[1] * first / (1 - beta1**2) / step - root
    # Where the root is large nothing of epsilon is left in the step.
    good = np.isfinite(found) & (root < 1e-6) & (np.abs(step) > 1e-9)
    return [float(each) for each in found[good]]


def _word(value: float) -> str:
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"
