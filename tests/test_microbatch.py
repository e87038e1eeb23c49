"""How many images a network takes at a time, and where it is cut."""

from __future__ import annotations

from transfer_parity.shared.runtime.microbatch import Step, Stretch, stretches


def test_later_operations_take_more_images_at_a_time() -> None:
    """Of 200 bytes, 100 go in twice, 60 three times, 24 eight times and 5 forty times."""
    steps = [Step(100, 40), Step(60, 20), Step(24, 4), Step(5, 1)]
    assert stretches(steps, 200) == [Stretch(0, 2, 2), Stretch(2, 3, 8), Stretch(3, 4, 32)]


def test_nothing_fits_or_everything_does() -> None:
    steps = [Step(100, 40), Step(60, 20)]
    assert stretches(steps, 10) == [Stretch(0, 2, 1)]
    assert stretches(steps, 6_400) == [Stretch(0, 2, 64)]


def test_images_stay_together_where_maps_grow_again() -> None:
    """The small ones in the middle would fit eight times, but a large one follows."""
    assert stretches([Step(100, 1), Step(20, 1), Step(100, 1), Step(20, 1)], 200) == [
        Stretch(0, 3, 2),
        Stretch(3, 4, 8),
    ]


def test_it_is_cut_where_least_is_copied_and_nothing_else_is_needed() -> None:
    steps = [Step(100, None), Step(40, None), Step(40, 30), Step(40, 10), Step(40, 10), Step(10, 5)]
    assert stretches(steps, 200) == [Stretch(0, 4, 2), Stretch(4, 5, 4), Stretch(5, 6, 16)]
    # Past a shortcut that is never over, nothing is cut.
    assert stretches([Step(100, None), Step(40, None), Step(10, 5)], 200) == [Stretch(0, 3, 2)]
