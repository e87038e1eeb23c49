"""The verdict looks at everything that it has: weights, losses, steps and logits, not predictions alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT, Command, run_compare
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import KERAS, TORCHVISION
from transfer_parity.shared.evaluation import agreement
from transfer_parity.shared.evaluation.agreement import Agreement, Paired, Side, Verdict, exit_status
from transfer_parity.shared.evaluation.computation import FirstDifference, Rounding
from transfer_parity.shared.experiments import short_check

TWO = (KERAS, TORCHVISION)
MARGIN = 0.01
#: Measured: rounding moves a loss by 1e-6 of the first one, a trained logit by 1e-6 of the largest.
ROUNDING = Rounding(losses=[1e-6] * 20, trained_logits=1e-6, safety=8.0, few=1e-6)


def pair(seed: int = 0, of_second: dict[str, Any] | None = None, noise: float = 1e-7) -> Paired:
    """A run that both frameworks have done alike, but for rounding and what is given of the second one."""
    random = np.random.default_rng(seed)
    labels = np.arange(80) % 4
    logits = random.normal(size=(80, 4)) + 3 * np.eye(4)[labels]
    losses = np.linspace(1.4, 0.3, 20)
    second: dict[str, Any] = {
        "logits": logits + noise * random.normal(size=logits.shape),
        "losses": losses + noise,
        "weights_digest": "a",
    }
    return Paired(seed, labels, Side(logits, losses, "a"), Side(**(second | (of_second or {}))), shots=5)


def judged(pairs: list[Paired], rounding: Rounding | None = ROUNDING) -> tuple[Verdict, str, Agreement]:
    agreed, differences = agreement.agree(pairs, MARGIN, (), rounding)
    return (*agreement.judge(agreed, differences, MARGIN, TWO, "recipe.toml"), agreed)


def flipped(logits: Array, images: list[int]) -> Array:
    """Logits whose predictions of some images are others."""
    changed = logits.copy()
    changed[images] = -changed[images]
    return changed


def test_the_same_within_rounding_is_identical() -> None:
    verdict, sentence, agreed = judged([pair(seed) for seed in range(3)])
    assert (verdict, exit_status(verdict)) == ("identical", 0), sentence
    assert agreed.first_difference is None


def losses_from(step: int, by: float) -> Array:
    losses = np.linspace(1.4, 0.3, 20)
    losses[step:] += by
    return losses


ALIKE = pair()
PLANTED: dict[str, dict[str, Any]] = {
    "weights": {"weights_digest": "b"},
    "steps": {"losses": np.linspace(1.4, 0.3, 19)},
    "losses": {"losses": losses_from(7, 1e-3)},
    "logits": {"logits": ALIKE.first.logits + 1e-3 * np.eye(4)[ALIKE.labels]},
}


@pytest.mark.parametrize("what", PLANTED)
def test_the_same_predictions_of_another_computation_are_not_identical(what: str) -> None:
    verdict, sentence, agreed = judged([pair(0, PLANTED[what]), pair(1)])
    assert agreed.predictions_identical == agreed.predictions_compared
    assert (verdict, exit_status(verdict)) == ("different computation", 1)
    assert "compare.py parity" in sentence and "(seed 0, shots 5)" in sentence
    first = agreed.first_difference
    assert first is not None and (first.what, first.seed) == (what, 0)
    assert first.step == (7 if what == "losses" else None)


def test_the_first_in_the_order_of_the_computation_is_named() -> None:
    """Not the first run in which something differs."""
    _, _, agreed = judged([pair(0, PLANTED["logits"]), pair(1, PLANTED["losses"]), pair(2, PLANTED["weights"])])
    assert agreed.first_difference is not None and agreed.first_difference.what == "weights"


def test_a_few_other_predictions_do_not_hide_another_computation() -> None:
    logits = flipped(ALIKE.first.logits, [3]) + 1e-3
    verdict, _, agreed = judged([pair(0, {"logits": logits}), *(pair(seed) for seed in range(1, 6))])
    assert agreed.predictions_identical < agreed.predictions_compared
    assert verdict == "different computation"


def test_as_shipped_nothing_of_this_counts() -> None:
    for planted in PLANTED.values():
        verdict, _, agreed = judged([pair(0, planted), pair(1)], None)
        assert (verdict, agreed.first_difference) == ("identical", None)


def test_without_a_check_weights_and_steps_count_and_rounding_is_not_guessed() -> None:
    found = {what: judged([pair(0, planted), pair(1)], Rounding())[0] for what, planted in PLANTED.items()}
    differ = "different computation"
    assert found == {"weights": differ, "steps": differ, "losses": "identical", "logits": "identical"}


def test_what_the_check_has_found_is_the_first_difference() -> None:
    failed = FirstDifference(what="gradients", name="features.0.weight", difference=1.0, tolerance=1e-5)
    verdict, sentence, _ = judged([pair(0), pair(1)], Rounding(failed=failed))
    assert verdict == "different computation"
    assert (
        "the gradients of features.0.weight" in sentence and "`compare.py parity recipe.toml` finds out why" in sentence
    )


@pytest.mark.parametrize("growth", [1e3, 1e6])
def test_where_rounding_grows_beyond_telling_nothing_is_said(growth: float) -> None:
    """A long or chaotic training: today's rule."""
    losses = (1e-6 * growth ** np.linspace(0, 1, 20)).tolist()
    grown = Rounding(losses=losses, trained_logits=1e-6 * growth, safety=8.0, few=1e-6)
    verdict, sentence, _ = judged([pair(0, {"losses": losses_from(15, 0.2 if growth > 1e4 else 1e-3)}), pair(1)], grown)
    assert verdict == "identical", sentence


def test_a_bound_as_large_as_the_loss_tells_nothing() -> None:
    grown = Rounding(losses=[0.2] * 20, safety=8.0, few=1e-6)
    assert judged([pair(0, {"losses": losses_from(15, 5.0)})], grown)[0] == "identical"


def test_rounding_may_grow_faster_in_other_runs_than_in_the_measured_one() -> None:
    grown = Rounding(losses=[1e-6] * 10 + [1e-5] * 10, safety=8.0, few=1e-6, measured=(5, 0))
    # Ten times as much was measured, so a hundred times is allowed for elsewhere.
    parted = {"losses": losses_from(15, 4e-4)}
    assert judged([pair(0), pair(1, parted)], grown)[0] == "identical"
    assert judged([pair(0, parted), pair(1)], grown)[0] == "different computation"
    assert judged([pair(0), pair(1, {"losses": losses_from(15, 4e-3)})], grown)[0] == "different computation"


def test_steps_that_were_not_measured_are_not_judged() -> None:
    short = Rounding(losses=[1e-6] * 5, safety=8.0, few=1e-6)
    assert judged([pair(0, {"losses": losses_from(7, 1e-3)})], short)[0] == "identical"
    assert judged([pair(0, {"losses": losses_from(4, 1e-3)})], short)[0] == "different computation"


def test_what_was_measured_on_one_untrained_backbone_says_nothing_of_another() -> None:
    first = Rounding(losses=[1e-6] * 20, safety=8.0, few=1e-6, seeds=frozenset({0}))
    assert judged([pair(0), pair(1, PLANTED["losses"])], first)[0] == "identical"
    assert judged([pair(0, PLANTED["losses"]), pair(1)], first)[0] == "different computation"


def test_logits_that_agree_to_the_bit_are_a_copy() -> None:
    verdict, sentence, agreed = judged([pair(seed, noise=0.0) for seed in range(2)])
    assert (verdict, agreed.copies, exit_status(verdict)) == ("inconclusive", 2, 1)
    assert "copy" in sentence


def test_logits_that_rounding_does_not_move_may_agree_to_the_bit() -> None:
    still = Rounding(losses=[1e-6] * 20, trained_logits=0.0, safety=8.0, few=1e-6)
    verdict, _, agreed = judged([pair(seed, noise=0.0) for seed in range(2)], still)
    assert (verdict, agreed.copies) == ("identical", 0)


def test_small_copies_add_up() -> None:
    """A few numbers agree by chance; those of all runs together do not."""

    def few(seed: int) -> Paired:
        whole = pair(seed, noise=0.0)
        side = Side(whole.first.logits[:5], whole.first.losses, "a")
        return Paired(seed, whole.labels[:5], side, side, shots=5)

    assert judged([few(0)])[2].copies == 0
    assert judged([few(0), few(1)])[2].copies == 2


def test_a_few_numbers_may_agree_by_chance() -> None:
    few = pair(0, {"logits": np.eye(4)[np.arange(80) % 4]})
    same = Paired(0, few.labels, Side(few.second.logits, few.first.losses, "a"), few.second)
    assert judged([same])[0] == "identical"


def test_equal_accuracies_with_other_predictions_have_an_interval() -> None:
    """Every seed gains an image and loses one: no spread over seeds, and yet not the same model."""
    pairs = []
    for seed in range(5):
        given = pair(seed)
        first, second = (Side(flipped(given.first.logits, [each]), given.first.losses, "a") for each in (0, 1))
        pairs.append(Paired(seed, given.labels, first, second, shots=5))
    agreed, differences = agreement.agree(pairs, MARGIN)
    assert agreed.accuracy_difference == 0 and len(differences) == 5 * 80
    assert agreed.accuracy_difference_interval is not None
    low, high = agreed.accuracy_difference_interval
    assert low < 0 < high
    verdict, sentence = agreement.judge(agreed, differences, MARGIN, TWO)
    assert "+0.00 to +0.00" not in sentence
    assert verdict in ("equivalent", "inconclusive")


def test_a_mistake_does_not_measure_its_own_tolerance() -> None:
    """A trainer that remembers the last run parts from it at once, and so does its shadow."""
    assert short_check._of_both([1e-5, 5e-5], 1e-7) == 5e-5
    assert short_check._of_both([1e-5, 1e-2], 1e-7) == 1e-5
    assert short_check._of_both([0.0, 5e-7], 1e-7) == 5e-7


OPTIONS = ("--weights", "random", "--no-control", "--image-size", 32, "--seeds", 1, "--shots", 3, "--epochs", 3)


def test_a_comparison_checks_itself(command: Command, photos: Path) -> None:
    outcome = command("--data", photos, *OPTIONS)
    assert outcome.status == 0, outcome.output + outcome.errors
    assert "checked: forward, loss, gradients, 3 steps: within rounding" in outcome.output
    check = outcome.document["check"]
    assert [rung["name"] for rung in check["rungs"]] == ["forward", "loss", "gradients", "parameters"]
    run = next(iter(outcome.document["runs"]))
    assert len(check["rounding_of_losses"]) == len(run["losses"])
    assert 0 < check["rounding_of_trained_logits"] < 1
    assert all(worker["check_seconds"] > 0 for worker in outcome.document["workers"].values())


def test_the_check_can_be_left_out(command: Command, photos: Path) -> None:
    outcome = command("--data", photos, *OPTIONS, "--no-check")
    assert outcome.status == 0, outcome.output + outcome.errors
    assert "checked:" not in outcome.output and outcome.document["check"] is None
    assert all(worker["check_seconds"] == 0 for worker in outcome.document["workers"].values())


#: Mistakes in a wing that leave the predictions of so few images as they are: file, what stands there, and the mistake.
MISTAKES = {
    "loss": (
        "tf_impl/optimizers.py",
        "return keras.losses.MeanSquaredError()",
        "return lambda targets, logits: ops.mean(ops.sum(ops.square(logits - targets), axis=-1))",
    ),
    "forward": ("torch_impl/backbone.py", "spec.batch_norm.epsilon", "spec.batch_norm.epsilon * 1.5"),
    "weights": (
        "tf_impl/weights.py",
        "each.variable.assign(each.from_neutral(arrays[each.name]))",
        "each.variable.assign(each.from_neutral(arrays[each.name] * (1.001 if each.name.endswith('3.weight') else 1)))",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_a_wing_is_named(what: str, photos: Path, tmp_path: Path) -> None:
    """In a copy of the package, which stands before the installed one on the path."""
    package = tmp_path / "path" / "transfer_parity"
    package.mkdir(parents=True)
    for each in ROOT.iterdir():
        if each.name not in ("tf_impl", "torch_impl") and not each.name.startswith("."):
            (package / each.name).symlink_to(each)
    name, before, after = MISTAKES[what]
    for wing in ("tf_impl", "torch_impl"):
        (package / wing).mkdir()
        for file in (ROOT / wing).glob("*.py"):
            text = file.read_text(encoding="utf-8")
            if f"{wing}/{file.name}" == name:
                assert text.count(before) >= 1
                text = text.replace(before, after, 1)
            (package / wing / file.name).write_text(text, encoding="utf-8")
    options = ("--data", photos, *OPTIONS, "--loss", "mse", "--cache-dir", tmp_path / "cache")
    outcome = run_compare(tmp_path / "out", *options, environment={"PYTHONPATH": str(tmp_path / "path")})
    assert outcome.status == 1, outcome.output + outcome.errors
    assert outcome.document["verdict"] != "identical"
    assert outcome.document["agreement"]["first_difference"]["what"] == what
