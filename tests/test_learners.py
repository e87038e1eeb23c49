"""Methods that learn from base classes: what they get, their gradients against NumPy, both wings on the same job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.contract import artifacts, episodes, learners, wings
from transfer_parity.shared.contract.jobs import EpisodesJob, Execution, Learning
from transfer_parity.shared.contract.learners import LearnerName, LearnerSettings, Tasks
from transfer_parity.shared.contract.learning_plan import LearningPlan
from transfer_parity.shared.contract.methods import EPSILON
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.runtime import launch

Array = np.ndarray[Any, Any]
METHODS: tuple[LearnerName, ...] = ("anil", "siamese")
WAYS, SHOTS, QUERIES, LENGTH = 3, 2, 4, 10
LABELS = np.repeat(np.arange(5), 8)
SETTINGS = LearnerSettings(units=6, steps=40, tasks=2, inner_steps=3, inner_rate=0.2, pairs=6, margin=1.2)
ADAM = Recipe(optimizer="adam", learning_rate=0.01)
#: After one step what was learned has moved by the gradient.
ONE_STEP = Recipe(optimizer="sgd", momentum=0.0, learning_rate=1.0)


def features(seed: int) -> Array:
    """Of five classes that can be told apart, some images exactly alike."""
    random = np.random.default_rng(seed)
    found = random.normal(size=(40, LENGTH)) + 4 * random.normal(size=(5, LENGTH))[LABELS]
    found[1] = found[0]
    return found


def plan(settings: LearnerSettings) -> LearningPlan:
    count = settings.steps * settings.tasks
    base = episodes.draw(LABELS, range(5), WAYS, SHOTS, QUERIES, count, 0, episodes.BASE)
    novel = episodes.draw(LABELS, range(5), WAYS, SHOTS, QUERIES, 30, 0)
    pairs = learners.draw_pairs(LABELS, settings.pairs, settings.steps, 0)
    # Images that are alike are at distance 0.
    pairs[:, 0], pairs[:, -1] = (0, 1), (0, 1)
    return LearningPlan(base, pairs, novel)


# ----- what is drawn -----


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    drawn = plan(SETTINGS)
    drawn.save(tmp_path / "plan.npz")
    read = LearningPlan.load(tmp_path / "plan.npz")
    for mine, yours in ((drawn.base, read.base), (drawn.novel, read.novel)):
        assert mine.ways == yours.ways
        for name in ("support", "support_labels", "queries", "query_labels"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(yours, name))
    np.testing.assert_array_equal(drawn.pairs, read.pairs)


def test_half_of_the_pairs_are_of_one_class() -> None:
    # A class of a single image is in pairs of two classes only.
    labels = np.append(LABELS, 5)
    drawn = learners.draw_pairs(labels, 8, 50, 1)
    assert drawn.shape == (50, 8, 2)
    first, second = labels[drawn[..., 0]], labels[drawn[..., 1]]
    assert (first[:, :4] == second[:, :4]).all()
    assert (first[:, 4:] != second[:, 4:]).all()
    assert (drawn[..., 0] != drawn[..., 1]).all()
    assert 5 in first[:, 4:]
    np.testing.assert_array_equal(drawn[:10], learners.draw_pairs(labels, 8, 10, 1))


def test_inputs_have_one_length() -> None:
    values = features(0)
    found = learners.inputs(values, values.mean(axis=0), "float64")
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.sqrt(LENGTH), rtol=1e-12)
    np.testing.assert_array_equal(learners.inputs(values[:1], values[0], "float32"), np.zeros((1, LENGTH), np.float32))


# ----- NumPy's versions, without any automatic derivative -----


def log_softmax(logits: Array) -> Array:
    total: Array = np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logits - total


def embedded(arrays: dict[str, Array], inputs: Array) -> Array:
    return inputs @ arrays["embedding.weight"].T + arrays["embedding.bias"]


def anil_logits(arrays: dict[str, Array], tasks: Tasks, number: int) -> Array:
    """Logits of one task's queries; the inner gradient of softmax regression is written out."""
    support = np.maximum(embedded(arrays, tasks.support[number]), 0)
    targets = tasks.support_targets[number]
    weight, bias = arrays["head.weight"], arrays["head.bias"]
    for _ in range(SETTINGS.inner_steps):
        error = (np.exp(log_softmax(support @ weight.T + bias)) - targets) / len(support)
        weight, bias = weight - SETTINGS.inner_rate * error.T @ support, bias - SETTINGS.inner_rate * error.sum(axis=0)
    return np.maximum(embedded(arrays, tasks.queries[number]), 0) @ weight.T + bias


def anil_loss(arrays: dict[str, Array], tasks: Tasks) -> float:
    found = [
        -(targets * log_softmax(anil_logits(arrays, tasks, number))).sum(axis=-1).mean()
        for number, targets in enumerate(tasks.query_targets)
    ]
    return float(np.mean(found))


def unit(values: Array) -> Array:
    lengths: Array = np.sqrt((values**2).sum(axis=-1, keepdims=True) + EPSILON)
    return values / lengths


def siamese_loss(arrays: dict[str, Array], pairs: learners.Pairs) -> float:
    first, second = unit(embedded(arrays, pairs.first)), unit(embedded(arrays, pairs.second))
    squared = ((first - second) ** 2).sum(axis=1) + EPSILON
    missing = np.maximum(SETTINGS.margin - np.sqrt(squared), 0)
    return float((pairs.same * squared + (1 - pairs.same) * missing**2).mean())


def siamese_logits(arrays: dict[str, Array], tasks: Tasks, number: int) -> Array:
    support, labels = unit(embedded(arrays, tasks.support[number])), tasks.support_targets[number].argmax(axis=1)
    means = np.stack([support[labels == way].mean(axis=0) for way in range(WAYS)])
    queries = unit(embedded(arrays, tasks.queries[number]))
    distances: Array = np.sqrt(((queries[:, None] - means[None]) ** 2).sum(axis=-1) + EPSILON)
    return -distances


# ----- both wings -----


@dataclass(frozen=True)
class Learned:
    """What a process has written of one method."""

    losses: Array
    logits: Array
    arrays: dict[str, Array]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Learned]]:
    """Of each wing, in one process: forty steps of Adam, and a single step down the gradient."""
    found = {}
    for framework in wings.IDENTIFIERS:
        folder = tmp_path_factory.mktemp(framework)
        np.save(folder / "base.npy", features(0))
        np.save(folder / "novel.npy", features(1))
        learnings = []
        for name, recipe, steps in (("adam", ADAM, 40), ("once", ONE_STEP, 1)):
            settings = SETTINGS.model_copy(update={"steps": steps})
            plan(settings).save(folder / f"{name}.npz")
            where = {"base": folder / "base.npy", "novel": folder / "novel.npy", "plan": f"{name}.npz", "seed": 3}
            learnings += [
                Learning(id=f"{method}-{name}", method=method, settings=settings, recipe=recipe, **where)
                for method in METHODS
            ]
        execution = Execution(threads=1, precision="float64", device="cpu")
        launch.run(framework, EpisodesJob(execution=execution, learnings=tuple(learnings)), folder)
        found[framework] = {each.id: read(folder / each.id) for each in learnings}
    return found


def read(folder: Path) -> Learned:
    with np.load(folder / artifacts.LEARNED, allow_pickle=False) as arrays:
        return Learned(np.load(folder / artifacts.LOSSES), np.load(folder / artifacts.LOGITS), dict(arrays))


def start(method: LearnerName) -> dict[str, Array]:
    found = dict(initialisation.draw_weights(learners.shapes(method, LENGTH, WAYS, SETTINGS), 3))
    return {name: np.zeros_like(array) if name == "head.weight" else array for name, array in found.items()}


def judged_tasks() -> Tasks:
    mean = features(0).mean(axis=0)
    return learners.tasks(learners.inputs(features(1), mean, "float64"), plan(SETTINGS).novel, slice(None))


def first_batch(method: LearnerName) -> Any:
    drawn, values = plan(SETTINGS), learners.inputs(features(0), features(0).mean(axis=0), "float64")
    if method == "siamese":
        return next(learners.pair_batches(values, drawn.pairs))
    return learners.tasks(values, drawn.base, slice(SETTINGS.tasks))


@pytest.mark.parametrize("method", METHODS)
def test_the_wings_learn_the_same(method: LearnerName, results: dict[str, dict[str, Learned]]) -> None:
    mine, yours = (results[each][f"{method}-adam"] for each in wings.IDENTIFIERS)
    assert mine.losses.shape == yours.losses.shape == (40,)
    np.testing.assert_allclose(mine.losses, yours.losses, rtol=0, atol=1e-8)
    np.testing.assert_allclose(mine.logits, yours.logits, rtol=0, atol=1e-8)
    assert set(mine.arrays) == set(learners.shapes(method, LENGTH, WAYS, SETTINGS))
    for name, array in mine.arrays.items():
        np.testing.assert_allclose(array, yours.arrays[name], rtol=0, atol=1e-8)
        # There is something to agree about.
        assert np.abs(array - start(method)[name]).max() > 1e-3
    assert mine.losses[-10:].mean() < mine.losses[:10].mean()


@pytest.mark.parametrize("framework", wings.IDENTIFIERS)
@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_numpy(
    method: LearnerName, framework: str, results: dict[str, dict[str, Learned]]
) -> None:
    """Central differences of a loss that is written out: of second order, and finite where images are alike."""
    found, before, batch = results[framework][f"{method}-once"], start(method), first_batch(method)
    loss = anil_loss if method == "anil" else siamese_loss
    assert found.losses[0] == pytest.approx(loss(before, batch), abs=1e-10)
    checked, step = 0, 1e-6
    for name, array in before.items():
        gradient = array - found.arrays[name]
        assert np.isfinite(gradient).all()
        for place in list(np.ndindex(array.shape))[::3]:
            moved = []
            for sign in (1, -1):
                shifted = array.copy()
                shifted[place] += sign * step
                moved.append(loss({**before, name: shifted}, batch))
            assert gradient[place] == pytest.approx((moved[0] - moved[1]) / (2 * step), abs=1e-8), (name, place)
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("framework", wings.IDENTIFIERS)
@pytest.mark.parametrize("method", METHODS)
def test_queries_are_classified_as_by_numpy(
    method: LearnerName, framework: str, results: dict[str, dict[str, Learned]]
) -> None:
    found, tasks = results[framework][f"{method}-adam"], judged_tasks()
    logits = anil_logits if method == "anil" else siamese_logits
    expected = np.stack([logits(found.arrays, tasks, number) for number in range(30)])
    np.testing.assert_allclose(found.logits, expected, rtol=0, atol=1e-10)
    # It has learned to tell classes apart that it has not seen.
    assert (found.logits.argmax(axis=-1) == tasks.query_targets.argmax(axis=-1)).mean() > 0.6
