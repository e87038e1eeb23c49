"""Two things measured in turns, and the ratio of each pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks import pictures
from benchmarks.records import Row
from transfer_parity.shared.core import machine

FRAMEWORKS = ("torch", "tensorflow")
#: A pair that others disturbed is measured again, up to so many times in all; the least disturbed one counts.
ATTEMPTS = 3


@dataclass(frozen=True)
class Setting:
    """What all benchmarks share.

    Attributes:
        repeats: number of pairs.
        data: a folder of photographs, or None for drawn ones.
        cache: the project's cache folder.
        folder: where samples and converted weights are kept between runs.
        say: hears what happens, in words.
    """

    repeats: int
    data: Path | None
    cache: Path
    folder: Path
    say: Callable[[str], None]

    @property
    def sample(self) -> Path:
        """The photographs of the recipe: 244 to train on, 153 to test on."""
        return pictures.sample(self.data, self.folder)

    @property
    def photographs(self) -> Path:
        """All photographs."""
        return self.data or self.sample


@dataclass(frozen=True)
class Pairs:
    """What was measured in turns, one entry for each pair.

    Attributes:
        ours: values.
        theirs: values.
        others_share: part of all cores' time that other processes took (0 to 1).
        details: what else ours and theirs told.
    """

    ours: list[float]
    theirs: list[float]
    others_share: list[float]
    details: list[tuple[Any, Any]]

    def swapped(self) -> Pairs:
        """The same with the places of ours and theirs exchanged."""
        return Pairs(self.theirs, self.ours, self.others_share, [(b, a) for a, b in self.details])


#: A measurement: its value, and whatever else is of interest.
Measure = Callable[[], tuple[float, Any]]


def in_turns(setting: Setting, what: str, ours: Measure, theirs: Measure) -> Pairs:
    """Ours, theirs, ours, theirs, and so on, so that a machine that changes its pace does so for both."""
    pairs = Pairs([], [], [], [])
    for number in range(1, setting.repeats + 1):
        attempts = [_measure(setting, f"{what} {number}/{setting.repeats}", ours, theirs)]
        while attempts[-1][0] > machine.DISTURBED and len(attempts) < ATTEMPTS:
            attempts.append(_measure(setting, f"{what} {number}/{setting.repeats} again", ours, theirs))
        share, (our_value, our_details), (their_value, their_details) = min(attempts, key=lambda attempt: attempt[0])
        pairs.ours.append(our_value)
        pairs.theirs.append(their_value)
        pairs.others_share.append(share)
        pairs.details.append((our_details, their_details))
    return pairs


def _measure(
    setting: Setting, what: str, ours: Measure, theirs: Measure
) -> tuple[float, tuple[float, Any], tuple[float, Any]]:
    watch = machine.Watch()
    a, b = ours(), theirs()
    share = watch.others_share()
    disturbed = f", while others took {share:.0%} of the machine" if share > machine.DISTURBED else ""
    setting.say(f"{what}: {a[0]:.4g} and {b[0]:.4g}{disturbed}")
    return share, a, b


def row(pairs: Pairs, good: Literal["more", "less", "cost"], **about: Any) -> Row:
    """A row of the results.

    Args:
        pairs: what was measured.
        good: "more" (rates) and "less" (seconds) make ratios that say how many times better ours is; "cost" makes what
            ours takes for each one of theirs.
        about: the other fields.
    """
    both = list(zip(pairs.ours, pairs.theirs, strict=True))
    return Row(
        ours=pairs.ours,
        theirs=pairs.theirs,
        ratios=[theirs / ours if good == "less" else ours / theirs for ours, theirs in both],
        bound="at most" if good == "cost" else "at least",
        others_share=pairs.others_share,
        **about,
    )
