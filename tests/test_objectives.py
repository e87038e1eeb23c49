"""What strategies minimise, in both wings, against the formulas in NumPy; and what they train of a backbone.

Heads train on given features, the last stages on given outputs of the frozen ones, through the code that a recipe runs.
float64 everywhere. What rounding may change after 20 steps stays far below 1e-8, the project's promise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.libraries.programs import Answers, ask, away

Array = NDArray[np.float64]
WINGS = ("torch_impl", "tf_impl")
CLASSES, WIDTH, STEPS, LABELLED, UNLABELLED, RATE, ALLOWED = 3, 576, 20, 5, 7, 0.05, 1e-8
#: Numbers of classes of two tasks, and label smoothing, as words.
TASKS, SMOOTHED = (2, 3), ("0", "0.1")
COMMON: dict[str, Any] = {
    **{"backbone": "MobileNetV3Small", "weights": "random", "control": False, "image_size": 32},
    **{"precision": "float64", "optimizer": "sgd", "momentum": 0.0, "learning_rate": RATE},
}
#: By name, recipes of heads on features.
HEADS: dict[str, dict[str, Any]] = {
    "pseudo_label": {"strategy": "pseudo_label", "threshold": 0.6, "unlabeled_weight": 0.7},
    "soft labels": {"strategy": "pseudo_label", "threshold": 0.5, "label_temperature": 0.5},
    "fixmatch": {"strategy": "fixmatch", "threshold": 0.6, "unlabeled_weight": 2.0},
    "siamese": {"strategy": "siamese", "pair_margin": 3.0},
    "mean_teacher": {"strategy": "mean_teacher", "teacher_decay": 0.8, "unlabeled_weight": 5.0},
}
#: By name, recipes of what trains of the backbone.
STAGES: dict[str, dict[str, Any]] = {
    "norm_only": {"strategy": "norm_only", "finetune_stages": 1},
    "rates, sgd": {"stage_rate_decay": 0.3, "momentum": 0.9, "weight_decay": 0.1},
    "rates, adamw": {"stage_rate_decay": 0.3, "optimizer": "adamw", "weight_decay": 0.1, "learning_rate": 1e-3},
}

_PROGRAM = """
from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.runtime.built_network import trained_names

held = np.load(given["inputs"])
network = wing.network.build(model_spec(validated({**given["common"], **given["stages"]["norm_only"]}, ""), None, 3))
shapes = wing.weights.shapes(network)
head = {name: shape for name, shape in shapes.items() if name.startswith("head.")}
first = {name: held[name] for name in head}

def batches(inputs, kinds, size):
    return [
        Batch(inputs["inputs"][step], held["labels"][step], given["rate"], {kind: inputs[kind][step] for kind in kinds})
        for step in range(size)
    ]

for name, values in given["heads"].items():
    recipe = validated({**given["common"], **values}, "")
    for turn in ("first", "second"):
        wing.weights.load(network, first)
        kinds = [*recipe.method.streams[1:], *(["partner_labels"] if recipe.method.takes_pairs else [])]
        given_batches = batches(held, kinds, given["steps"])
        answers[f"{name} {turn} losses"] = np.array(wing.training.train(
            network, "head", frozenset(head), False, recipe, given_batches, lambda: None))
        for key, array in wing.weights.dump(network, frozenset(head)).items():
            answers[f"{name} {turn} {key}"] = np.array(array)
        answers |= {f"{name} {turn} state {key}": array for key, array in wing.training.state(network).items()}

several = validated({**given["common"], "strategy": "multi_task"}, "")
tasks = wing.network.build(model_spec(several, None, sum(given["tasks"]), tasks=tuple(given["tasks"])))
for turn in given["smoothed"]:
    wing.weights.load(tasks, {name: held[f"tasks {name}"] for name in head})
    recipe = several.model_copy(update={"label_smoothing": float(turn)})
    given_batches = [
        Batch(x, labels, given["rate"], {"known": labels >= 0})
        for x, labels in zip(held["inputs"], held["task labels"], strict=True)
    ]
    answers[f"tasks {turn} losses"] = np.array(wing.training.train(
        tasks, "head", frozenset(head), False, recipe, given_batches, lambda: None))
    for key, array in wing.weights.dump(tasks, frozenset(head)).items():
        answers[f"tasks {turn} {key}"] = np.array(array)

weights = initialisation.draw_trained_looking_weights(shapes, 0)
images = np.random.default_rng(0).integers(0, 256, (given["steps"], 6, 32, 32, 3), dtype=np.uint8)
backbone = {name: shape for name, shape in shapes.items() if name not in head}
wing.weights.load(network, weights)
frozen = {"inputs": np.stack([next(iter(wing.inference.infer(network, "frozen", [each]))) for each in images])}
labels = np.arange(6) % 3
wing.weights.load(network, weights)
chosen = frozenset({"features.12.0.weight", "head.output.weight"})
plain = validated({**given["common"], "strategy": "finetune", "stage_rate_decay": 0.3}, "")
ones = {name: np.ones(shapes[name]) for name in chosen}
for states in wing.trace.optimize(network, plain, [ones], [given["rate"]], np.array, chosen):
    answers |= {
        f"step {state.name}": weights[state.name] - state.array for state in states if state.kind == "parameter"
    }
for name, values in given["stages"].items():
    recipe = validated({**given["common"], "strategy": "finetune", **values}, "")
    names = trained_names(recipe, backbone, head)
    wing.weights.load(network, weights)
    given_batches = [Batch(each, labels, recipe.learning_rate) for each in frozen["inputs"]]
    answers[f"{name} losses"] = np.array(wing.training.train(
        network, "trainable", names, recipe.batch_norm_trains, recipe, given_batches, lambda: None))
    after = {key: np.array(array) for key, array in wing.weights.dump(network).items()}
    answers[f"{name} moved"] = np.array(sorted(key for key in after if (after[key] != weights[key]).any()))
    answers |= {f"{name} {key}": array for key, array in after.items()}
"""


@pytest.fixture(scope="module")
def held() -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(3)
    centres = random.standard_normal((CLASSES, WIDTH))

    def features(count: int) -> tuple[NDArray[np.int64], Array]:
        labels = random.integers(0, CLASSES, (STEPS, count))
        return labels, 0.3 * centres[labels] + random.standard_normal((STEPS, count, WIDTH))

    labels, inputs = features(LABELLED)
    (_, weak), (_, strong) = features(UNLABELLED), features(UNLABELLED)
    first = {
        "head.output.weight": 0.05 * random.standard_normal((CLASSES, WIDTH)),
        "head.output.bias": np.zeros(CLASSES),
    }
    partner_labels, partners = features(LABELLED)
    # Two of different classes in the same place, at which a root has no slope.
    partners[0, 0], partner_labels[0, 0] = inputs[0, 0], (labels[0, 0] + 1) % CLASSES
    pairs = {"partners": partners, "partner_labels": partner_labels}
    # Two tasks side by side: half of the labels of the second are known, in some steps none; in one step none at all.
    both = np.stack([random.integers(0, TASKS[0], labels.shape), TASKS[0] + labels], axis=-1)
    both[..., 1][random.random(labels.shape) < 0.5] = -1
    both[3:6, :, 1], both[7] = -1, -1
    several = {
        "task labels": both,
        "tasks head.output.weight": 0.05 * random.standard_normal((sum(TASKS), WIDTH)),
        "tasks head.output.bias": np.zeros(sum(TASKS)),
    }
    return {"labels": labels, "inputs": inputs, "weak": weak, "strong": strong, **pairs, **first, **several}


@pytest.fixture(scope="module")
def answers(held: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answers]:
    folder = tmp_path_factory.mktemp("objectives")
    np.savez(folder / "inputs.npz", **held)
    given: dict[str, Any] = {"inputs": str(folder / "inputs.npz"), "common": COMMON, "heads": HEADS, "stages": STAGES}
    given |= {"rate": RATE, "steps": STEPS, "tasks": TASKS, "smoothed": SMOOTHED}
    return {wing: ask(wing, _PROGRAM, given, folder) for wing in WINGS}


# The formulas.


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


#: Loss of unlabelled images, and its slope with respect to the logits of the stream that learns.
Unlabelled = Callable[[dict[str, Any], Array, Array, Array], tuple[float, Array]]


def from_labels(values: dict[str, Any], weak: Array, learning: Array, taught: Array) -> tuple[float, Array]:
    """Pseudo-labels: cross entropy of those that the weak views are sure of."""
    temperature = values.get("label_temperature", 0)
    probabilities = softmax(weak)
    labels = softmax(weak / temperature) if temperature else np.eye(CLASSES)[probabilities.argmax(axis=-1)]
    sure = (probabilities.max(axis=-1) >= values["threshold"]).astype(float)[:, None]
    said = softmax(learning)
    return float(-(sure * labels * np.log(said)).sum() / len(weak)), sure * (said - labels) / len(weak)


def from_teacher(values: dict[str, Any], weak: Array, learning: Array, taught: Array) -> tuple[float, Array]:
    """Squared differences from what the teacher says of the weak views."""
    teacher, said = softmax(taught), softmax(learning)
    slope = 2 * (said - teacher) / said.size
    return float(np.square(said - teacher).mean()), said * (slope - (slope * said).sum(axis=-1, keepdims=True))


def contrasted(held: dict[str, Any], values: dict[str, Any]) -> tuple[list[float], Array, Array]:
    """Losses, weight and bias of an embedding."""
    weight, losses = held["head.output.weight"].copy(), []
    for step in range(STEPS):
        apart = held["inputs"][step] - held["partners"][step]
        alike = (held["labels"][step] == held["partner_labels"][step]).astype(float)
        away_by = apart @ weight.T
        squared = np.square(away_by).sum(axis=1) + 1e-9
        short = np.maximum(0, values["pair_margin"] - np.sqrt(squared))
        losses.append(float((alike * squared + (1 - alike) * np.square(short)).mean()))
        slope = (alike - (1 - alike) * short / np.sqrt(squared)) * 2 / LABELLED
        weight = weight - RATE * (slope[:, None] * away_by).T @ apart
    return losses, weight, held["head.output.bias"]


def trained(held: dict[str, Any], values: dict[str, Any]) -> tuple[list[float], Array, Array, Array, float]:
    """Losses, weight, teacher's weight, bias, and how near a probability came to the threshold."""
    weight, bias = held["head.output.weight"].copy(), held["head.output.bias"].copy()
    teacher, teacher_bias = weight.copy(), bias.copy()
    teaches, kept = values["strategy"] == "mean_teacher", values.get("teacher_decay", 0)
    unlabelled: Unlabelled = from_teacher if teaches else from_labels
    stream = "weak" if values["strategy"] == "pseudo_label" else "strong"
    factor, losses, closest = values.get("unlabeled_weight", 1.0), [], 1.0
    for step in range(STEPS):
        x, weak, learning = held["inputs"][step], held["weak"][step], held[stream][step]
        said, true = softmax(x @ weight.T + bias), np.eye(CLASSES)[held["labels"][step]]
        slope = (said - true) / LABELLED
        logits = weak @ weight.T + bias
        more, steep = unlabelled(values, logits, learning @ weight.T + bias, weak @ teacher.T + teacher_bias)
        losses.append(float(-(true * np.log(said)).sum() / LABELLED + factor * more))
        closest = min(closest, float(np.abs(softmax(logits).max(axis=-1) - values.get("threshold", 9)).min()))
        weight = weight - RATE * (slope.T @ x + factor * steep.T @ learning)
        bias = bias - RATE * (slope.sum(axis=0) + factor * steep.sum(axis=0))
        own = min(kept, (step + 1) / (step + 2))
        teacher, teacher_bias = own * teacher + (1 - own) * weight, own * teacher_bias + (1 - own) * bias
    return losses, weight, teacher, bias, closest


@pytest.mark.parametrize("wing", WINGS)
@pytest.mark.parametrize("name", HEADS)
def test_an_objective_is_its_formula(name: str, wing: str, held: dict[str, Any], answers: dict[str, Answers]) -> None:
    """In a second seed, too, which begins anew."""
    if name == "siamese":
        losses, weight, bias = contrasted(held, HEADS[name])
    else:
        losses, weight, teacher, bias, closest = trained(held, HEADS[name])
    for turn in ("first", "second"):
        found = {key.removeprefix(f"{name} {turn} "): array for key, array in answers[wing].items()}
        assert away(found["losses"], np.array(losses)) <= ALLOWED
        assert away(found["head.output.weight"], weight) <= ALLOWED
        assert away(found["head.output.bias"], bias) <= ALLOWED
        if name == "mean_teacher":
            assert away(found["state head.output.weight"], teacher) <= ALLOWED
            assert away(teacher, weight) > 1e-4
        elif name != "siamese":
            assert away(found["state threshold.closest"], np.array([closest])) <= ALLOWED
            assert closest > ALLOWED


def summed(held: dict[str, Any], smoothing: float) -> tuple[list[float], Array, Array]:
    """Losses, weight and bias of a head with several tasks, image by image."""
    weight, bias = held["tasks head.output.weight"].copy(), held["tasks head.output.bias"].copy()
    losses = []
    for x, labels in zip(held["inputs"], held["task labels"], strict=True):
        logits, slope, loss, first = x @ weight.T + bias, np.zeros((len(x), sum(TASKS))), 0.0, 0
        for task, size in enumerate(TASKS):
            own = slice(first, first + size)
            known = [image for image in range(len(x)) if labels[image, task] >= 0]
            for image in known:
                said = softmax(logits[image, own])
                target = (1 - smoothing) * np.eye(size)[labels[image, task] - first] + smoothing / size
                loss -= float(target @ np.log(said)) / len(known)
                slope[image, own] = (said - target) / len(known)
            first += size
        losses.append(loss)
        weight, bias = weight - RATE * slope.T @ x, bias - RATE * slope.sum(axis=0)
    return losses, weight, bias


@pytest.mark.parametrize("wing", WINGS)
@pytest.mark.parametrize("smoothing", SMOOTHED)
def test_tasks_are_summed_over_known_labels(
    smoothing: str, wing: str, held: dict[str, Any], answers: dict[str, Answers]
) -> None:
    """A batch without any known label of a task adds nothing for it; one without any label at all changes nothing."""
    losses, weight, bias = summed(held, float(smoothing))
    found = {key.removeprefix(f"tasks {smoothing} "): array for key, array in answers[wing].items()}
    assert losses[7] == 0 < min(losses[:7])
    assert away(found["losses"], np.array(losses)) <= ALLOWED
    assert away(found["head.output.weight"], weight) <= ALLOWED
    assert away(found["head.output.bias"], bias) <= ALLOWED


@pytest.mark.parametrize("name", [name for name in HEADS if name != "siamese"])
def test_unlabelled_images_count(name: str, held: dict[str, Any]) -> None:
    """Some count and some do not: otherwise the formulas would be tested by nothing."""
    alone = trained(held, {**HEADS[name], "unlabeled_weight": 0.0})[1]
    assert away(trained(held, HEADS[name])[1], alone) > 1e-3
    if "threshold" in HEADS[name]:
        assert away(trained(held, {**HEADS[name], "threshold": 0.0})[1], trained(held, HEADS[name])[1]) > 1e-3


@pytest.mark.parametrize("name", STAGES)
def test_both_wings_train_a_backbone_alike(name: str, answers: dict[str, Answers]) -> None:
    ours, theirs = (
        {key: array for key, array in answers[wing].items() if key.startswith(name + " ")} for wing in WINGS
    )
    assert ours.keys() == theirs.keys()
    moved = set(ours.pop(f"{name} moved").tolist())
    assert moved == set(theirs.pop(f"{name} moved").tolist())
    for key, array in ours.items():
        assert away(array, theirs[key]) <= ALLOWED * max(1.0, float(np.abs(array).max())), key
    if name == "norm_only":
        assert any(key.startswith("features.") for key in moved)
        assert all(key.split(".")[-2] == "1" for key in moved if key.startswith("features."))


@pytest.mark.parametrize("wing", WINGS)
def test_further_stages_move_less(wing: str, answers: dict[str, Answers]) -> None:
    """A step of SGD along a gradient of ones is as long as the rate: that of the head, and one factor of it."""
    assert answers[wing]["step head.output.weight"] == pytest.approx(RATE, rel=1e-9)
    assert answers[wing]["step features.12.0.weight"] == pytest.approx(0.3 * RATE, rel=1e-9)
