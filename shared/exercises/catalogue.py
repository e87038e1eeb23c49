"""All exercises, from the easiest to the hardest."""

from __future__ import annotations

from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.exercises import grade_one, grade_three, grade_two
from transfer_parity.shared.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = (*grade_one.EXERCISES, *grade_two.EXERCISES, *grade_three.EXERCISES)
BY_NAME = {exercise.name: exercise for exercise in EXERCISES}


def find(name: str) -> Exercise:
    """The exercise of a name.

    Raises:
        BadInput: there is none.
    """
    if name not in BY_NAME:
        raise BadInput(f"there is no exercise {name!r}; {did_you_mean(name, BY_NAME)}")
    return BY_NAME[name]
