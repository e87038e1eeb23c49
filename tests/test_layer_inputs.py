"""Single steps of convolutions of which one pads within itself, and the other behind a layer that pads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from transfer_parity.shared.contract.inventory import Inventory, LayerRecord
from transfer_parity.shared.contract.rungs import Array
from transfer_parity.shared.runtime import subject_dump
from transfer_parity.shared.subjects import layer_inputs

INSIDE, OUTSIDE, LATER = [[1, 1], [1, 1]], [[0, 0], [0, 0]], [[0, 1], [0, 1]]


def handed_over(
    folder: Path, given: Array, paddings: tuple[list[list[int]], ...], shapes: tuple[tuple[int, ...], ...]
) -> list[Array]:
    subject_dump.write_layer_inputs(folder, "conv", [given])
    subject_dump.write_layer_inputs(folder, "alone", [given])
    first, second = (
        Inventory(
            layers=[LayerRecord(name=name, kind="conv", class_name="", config={"padding": each}, output_shape=shape)],
            outputs=[],
        )
        for name, each, shape in zip(("conv", "faltung"), paddings, shapes, strict=True)
    )
    layer_inputs.hand_over(folder, {"conv": "faltung"}, (first, second))
    assert subject_dump.layers_with_inputs(folder) == ["faltung"]
    return subject_dump.read_layer_inputs(folder, "faltung")


SAME = ((2, 4, 4, 3), (2, 4, 4, 3))


def image() -> Array:
    return np.random.default_rng(0).standard_normal((2, 8, 8, 3))


def around(array: Array) -> Array:
    return np.pad(array, [(0, 0), (1, 1), (1, 1), (0, 0)])


def test_the_candidate_gets_what_its_padding_layer_would_have_added(tmp_path: Path) -> None:
    (found,) = handed_over(tmp_path / "in", image(), (INSIDE, OUTSIDE), SAME)
    np.testing.assert_array_equal(found, around(image()))


def test_a_candidate_that_pads_itself_gets_no_zeros(tmp_path: Path) -> None:
    (found,) = handed_over(tmp_path / "in", around(image()), (OUTSIDE, INSIDE), SAME)
    np.testing.assert_array_equal(found, image())


def test_zeros_at_one_side_only(tmp_path: Path) -> None:
    padded = np.pad(image(), [(0, 0), (0, 1), (0, 1), (0, 0)])
    (found,) = handed_over(tmp_path / "in", padded, (OUTSIDE, LATER), SAME)
    np.testing.assert_array_equal(found, image())


@pytest.mark.parametrize(
    ("paddings", "shapes"),
    [
        ((INSIDE, INSIDE), SAME),
        ((INSIDE, LATER), SAME),
        ((INSIDE, OUTSIDE), ((2, 8, 8, 3), (2, 6, 6, 3))),
        ((OUTSIDE, INSIDE), SAME),
    ],
    ids=["the same", "another side", "none at all", "what is at the border is no padding"],
)
def test_mistakes_are_not_hidden(
    paddings: tuple[list[list[int]], ...], shapes: tuple[tuple[int, ...], ...], tmp_path: Path
) -> None:
    (found,) = handed_over(tmp_path / "in", image(), paddings, shapes)
    np.testing.assert_array_equal(found, image())
