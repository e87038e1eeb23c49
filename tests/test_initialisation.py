from __future__ import annotations

import numpy as np
import pytest

from transfer_parity.shared.checkpoints.initialisation import close_residual_branches, draw_weights


def test_weights_depend_on_name_shape_and_seed_only() -> None:
    shapes = {"a.weight": (4, 3, 3, 3), "b.weight": (5, 4), "n.weight": (4,), "n.running_var": (4,), "n.bias": (4,)}
    together = draw_weights(shapes, 0)
    for name, shape in shapes.items():
        np.testing.assert_array_equal(together[name], draw_weights({name: shape}, 0)[name])
    assert not np.array_equal(together["a.weight"], draw_weights(shapes, 1)["a.weight"])
    assert together["n.weight"].tolist() == together["n.running_var"].tolist() == [1.0] * 4
    assert together["n.bias"].tolist() == [0.0] * 4


def test_weights_have_the_stated_spread() -> None:
    convolution = draw_weights({"c.weight": (64, 32, 3, 3)}, 0)["c.weight"]
    assert convolution.std() == pytest.approx(np.sqrt(2 / (32 * 9)), rel=0.02)
    dense = draw_weights({"d.weight": (300, 200)}, 0)["d.weight"]
    assert np.abs(dense).max() == pytest.approx(np.sqrt(6 / 500), rel=0.01)


def test_residual_branches_start_closed() -> None:
    def block(name: str, before: int, after: int) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {f"{name}.conv1.weight": (8, before, 1, 1), f"{name}.bn1.weight": (8,)}
        shapes |= {f"{name}.bn1.running_var": (8,), f"{name}.conv2.weight": (after, 8, 1, 1)}
        return shapes | {f"{name}.bn2.weight": (after,), f"{name}.bn2.running_var": (after,)}

    shapes = block("layer1.0", 16, 16) | block("layer1.1", 16, 24) | block("layer2.0", 24, 32)
    shapes |= {"layer2.0.downsample.0.weight": (32, 24, 1, 1)}
    closed = {name for name, array in close_residual_branches(draw_weights(shapes, 0)).items() if not array.any()}
    assert closed == {"layer1.0.bn2.weight", "layer2.0.bn2.weight"}
    drawn = draw_weights(block("features.1", 16, 16), 0)
    assert all(array.any() for array in close_residual_branches(drawn, ("features.1",)).values())
