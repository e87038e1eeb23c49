"""In which order strategies stand over the data sets of several studies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from transfer_parity import compare
from transfer_parity.shared.experiments import order_over_studies
from transfer_parity.shared.report import order


def study_of(data: str, accuracies: dict[str, list[float]]) -> dict[str, Any]:
    """A study's document as far as an order needs it: accuracies by strategy, a number for each number of shots."""
    points = [
        {"strategy": name, "shots": shots, "seeds": 5, "framework": framework, "accuracy": {"mean": value + shift}}
        for name, values in accuracies.items()
        for shots, value in zip((1, 2, 5), values, strict=True)
        for framework, shift in (("tensorflow", 0.01), ("torch", -0.01))
    ]
    recipes = {name: {"data": data} for name in accuracies}
    return {"created": "2026-11-01", "modes": ["matched"], "recipes": recipes, "points": points}


def test_the_order_over_several_data_sets() -> None:
    random = np.random.default_rng(0)
    studies = []
    for number in range(4):
        base = random.random(3) * 0.3 + 0.3
        studies.append(study_of(f"folder/{number}", {"good": [*(base + 0.2)], "fair": [*(base + 0.1)], "bad": [*base]}))
    found = order_over_studies.over_studies(studies)
    assert found is not None and (found.test, found.blocks, found.data) == ("friedman", 12, ["0", "1", "2", "3"])
    assert found.mean_ranks == {"good": 1, "fair": 2, "bad": 3}
    assert found.p_value == pytest.approx(stats.friedmanchisquare([3] * 12, [2] * 12, [1] * 12).pvalue)
    assert found.accuracies["good"] - found.accuracies["bad"] == pytest.approx(0.2)
    few = order_over_studies.over_studies(studies[:2])
    assert few is not None and (few.test, few.blocks) == ("paired", 6)
    assert "paired tests over data sets" in " ".join(order.sentences(few))
    assert order_over_studies.over_studies(studies[:1]) is None
    # Of two studies of one data set the later one counts; strategies that only one has do not.
    other = study_of("folder/1", {"bad": [0.9] * 3, "good": [0.1] * 3})
    turned = order_over_studies.over_studies([*studies[:2], other])
    assert turned is not None and turned.blocks == 6 and set(turned.mean_ranks) == {"bad", "good"}
    assert turned.mean_ranks["good"] == pytest.approx(1.5)


def test_a_study_of_something_else_does_not_hide_the_order() -> None:
    values = [0.5, 0.6, 0.7]
    two = [study_of(str(number), {"a": values, "b": [0.1, 0.2, 0.3]}) for number in range(2)]
    alone, apart = study_of("alone", {"a": values}), study_of("apart", {"a": values, "b": values})
    for point in apart["points"]:
        point["shots"] = 50 if point["strategy"] == "b" else 20
    found = order_over_studies.over_studies([alone, *two, apart])
    assert found is not None and (found.data, found.left_out, found.blocks) == (["0", "1"], ["alone", "apart"], 6)
    assert order.sentences(found)[0].startswith("Left out: alone and apart (")
    assert order_over_studies.over_studies([alone, two[0], apart]) is None
    # A third strategy counts where all have it with shots that all strategies share.
    for number, document in enumerate(two):
        document["points"] += [
            {**point, "strategy": name}
            for name in ("c", "d")
            for point in document["points"]
            if point["strategy"] == "a" and (name == "c" or point["shots"] == (1, 5)[number])
        ]
    found = order_over_studies.over_studies(two)
    assert found is not None and set(found.mean_ranks) == {"a", "b", "c", "d"}
    assert (found.blocks, found.shots, found.left_out) == (2, [1, 5], [])


def test_folders_of_one_name_are_not_one_data_set() -> None:
    accuracies = {"good": [0.6, 0.7, 0.8], "bad": [0.3, 0.4, 0.5]}
    birds = study_of("birds/images", accuracies) | {"classes": ["owl", "wren"], "images": 40}
    trees = study_of("trees/images", accuracies) | {"classes": ["ash", "elm"], "images": 40}
    moved = birds | {"recipes": {name: {"data": "elsewhere/images"} for name in accuracies}}
    found = order_over_studies.over_studies([birds, trees, moved])
    assert found is not None and (found.data, found.blocks) == (["birds/images", "trees/images"], 6)
    assert order_over_studies.over_studies([birds, moved]) is None
    assert order_over_studies.over_studies([birds, birds | {"images": 50}]) is None
    # Given from within two folders, both are "images".
    inside = [each | {"recipes": {name: {"data": "images"} for name in accuracies}} for each in (birds, trees)]
    found = order_over_studies.over_studies(inside)
    assert found is not None and found.data == ["images", "images (2)"]
    # Two sets that say the same may do so by chance, however exactly they do.
    assert [(each.p_value, each.told_apart) for each in found.pairs] == [(0.5, False)]


def test_the_command_that_orders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        document = study_of(str(number), {"a": [0.5, 0.6, 0.7], "b": [0.4, 0.5, 0.6], "c": [0.1, 0.2, 0.3]})
        (tmp_path / str(number) / "study.json").write_text(json.dumps(document), encoding="utf-8")
    assert compare.main(["runs", str(tmp_path), "--order"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Order by mean rank over 12 blocks (0, 1, 2 and 3, 3 numbers of shots): a 1.0, b 2.0, c 3.0." in printed
    assert compare.main(["runs", str(tmp_path / "0"), "--order"]) == 2
    assert "no studies of two data sets" in " ".join(capsys.readouterr().err.split())
