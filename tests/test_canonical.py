"""Zeros around feature maps: what is put around them can be taken away, and only maps have any."""

from __future__ import annotations

import numpy as np

from transfer_parity.shared.runtime.canonical import covered, uncovered

AROUND = ((1, 2), (0, 3))


def test_zeros_stand_before_and_after_by_axis() -> None:
    array = np.ones((2, 4, 5, 3))
    found = covered(array, AROUND)
    assert found.shape == (2, 7, 8, 3)
    assert found[:, 0].max() == found[:, -2:].max() == found[:, :, -3:].max() == 0
    assert (found[:, 1:5, :5] == 1).all()
    assert (uncovered(found, AROUND) == array).all()


def test_what_is_no_map_stays() -> None:
    array = np.ones((2, 3))
    assert covered(array, AROUND) is array and uncovered(array, AROUND) is array
    assert covered(np.ones((2, 4, 5, 3)), ()).shape == (2, 4, 5, 3)
