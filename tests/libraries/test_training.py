"""Heads, losses, gradients and optimizers of both wings against NumPy, scikit-learn and the papers' formulas.

A wing trains a head on given features for some steps, through the code that a recipe runs, the last batch of each epoch
smaller; ``formulas.py`` does the same. Everything is float64. What rounding may change is derived from the formulas in
float32: what they differ by there, scaled by the ratio of the two units of rounding, times ``SAFETY``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.neural_network import MLPClassifier

from tests.libraries import formulas
from tests.libraries.formulas import Rule
from tests.libraries.programs import SAFETY, UNIT32, UNIT64, Answers, ask, away
from transfer_parity.shared.contract import plan
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.runtime import ridge

WINGS = ("torch_impl", "tf_impl")
CLASSES, UNITS, IMAGES, BATCH, EPOCHS, RATE = 3, 8, 20, 8, 9, 1e-2
#: Three steps an epoch: of 8, 8 and 4 images.
STEPS = 27

#: Head, loss, label smoothing, optimizer, schedule: every value that a recipe has for each.
CASES: dict[str, tuple[str, str, float, Rule, str]] = {
    "sgd": ("linear", "cross_entropy", 0.0, Rule("sgd", momentum=0.0), "constant"),
    "sgd momentum": ("conv", "cross_entropy", 0.1, Rule("sgd"), "cosine"),
    "sgd decay": ("mlp", "mse", 0.0, Rule("sgd", weight_decay=0.1), "warmup"),
    "adam": ("linear", "cross_entropy", 0.0, Rule("adam"), "constant"),
    "adam mse": ("conv", "mse", 0.0, Rule("adam", epsilon=1e-3), "cosine"),
    "adam decay": ("mlp", "cross_entropy", 0.2, Rule("adam", beta1=0.8, beta2=0.99, weight_decay=0.1), "warmup"),
    "adamw": ("linear", "cross_entropy", 0.1, Rule("adamw", weight_decay=0.1), "warmup"),
}
#: Different on purpose: what Keras does instead, which docs/differences.md explains under the name of the switch.
SWITCHED: dict[str, Rule] = {
    # A momentum that float32 holds exactly: with the switch the TensorFlow wing takes Keras's own class (adam_betas).
    "sgd_momentum": Rule("sgd", momentum=0.875, keras=frozenset({"sgd_momentum"})),
    "weight_decay": Rule("sgd", weight_decay=0.1, keras=frozenset({"weight_decay"})),
    "adam_epsilon": Rule("adam", epsilon=1e-3, keras=frozenset({"adam_epsilon"})),
}
#: Keras's own optimizers in ``_KERAS``, which do all of it at once.
OWN: dict[str, Rule] = {
    "keras sgd": Rule("sgd", weight_decay=0.1, keras=frozenset({"sgd_momentum", "weight_decay"})),
    "keras adam": Rule("adam", epsilon=1e-3, keras=frozenset({"adam_epsilon"})),
}

_PROGRAM = """
from transfer_parity.shared.checkpoints.initialisation import draw_trained_looking_weights
from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.contract.spec import model_spec

held = np.load(given["inputs"])
images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
networks = {}

def network_of(recipe, switches):
    key = recipe.head, switches
    if key not in networks:
        networks[key] = wing.network.build(model_spec(recipe, None, given["classes"], switches=switches))
    return networks[key]

for case in given["cases"]:
    recipe = validated(case["recipe"], "the test")
    network = network_of(recipe, frozenset(case["switches"]))
    names = frozenset(name for name in wing.weights.shapes(network) if name.startswith("head."))
    first = {name: held[recipe.head + " " + name] for name in names}
    features = held["maps" if recipe.head == "conv" else "vectors"]
    batches = [Batch(features[chosen], held["labels"][chosen], rate) for chosen, rate in case["steps"]]
    # Twice: a second seed gets the trainer of the first.
    for turn in ("first", "second"):
        wing.weights.load(network, first)
        label = case["name"] + " " + turn + " "
        answers[label + "losses"] = np.array(wing.training.train(
            network, "head", names, False, recipe, batches, lambda: None))
        for name, array in wing.weights.dump(network, names).items():
                # A copy: torch's are views of what the next turn changes.
            answers[label + name] = np.array(array)
    wing.weights.load(network, first)
    label = case["name"] + " "
    answers[label + "logits"] = np.concatenate(list(wing.inference.infer(network, "head", [features])))
    loss, gradients = wing.trace.gradients(network, "head", names, False, recipe, batches[0])
    answers[label + "loss"] = np.array(loss)
    answers |= {label + "gradient " + name: array for name, array in gradients.items()}
# What stands between a backbone and its head.
pooled, maps = (networks[head, frozenset()] for head in ("linear", "conv"))
stages = {key: shape for key, shape in wing.weights.shapes(maps).items() if not key.startswith("head.")}
weights = draw_trained_looking_weights(stages, 0)
for name, network in (("pooled", pooled), ("maps", maps)):
    wing.weights.load(network, weights)
    answers["backbone " + name] = np.concatenate(list(wing.inference.infer(network, "features", [images])))
# Ridge regression's own weights, in the head of the wing.
wing.weights.load(pooled, {"head.output." + name: held["ridge " + name] for name in ("weight", "bias")})
answers["ridge"] = np.concatenate(list(wing.inference.infer(pooled, "head", [held["vectors"]])))
"""

#: Keras's own optimizers along given gradients of one variable. Constants go by way of float32: adam_betas.
_KERAS = """
import keras
for name, optimizer in (
    ("keras sgd", keras.optimizers.SGD(momentum=0.9, weight_decay=0.1)),
    ("keras adam", keras.optimizers.Adam(epsilon=1e-3)),
):
    variable = keras.Variable(np.load(given["inputs"])["walk"][0])
    optimizer.build([variable])
    for gradient, rate in zip(np.load(given["inputs"])["walk"][1:], given["rates"], strict=True):
        optimizer.learning_rate.assign(rate)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    answers[name] = variable.numpy()
"""


#: torch's own schedule, rate by rate.
_TORCH = """
import torch
variable = torch.nn.Parameter(torch.zeros(1))
optimizer = torch.optim.SGD([variable], given["peak"])
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(given["rates"]))
found = []
for _ in given["rates"]:
    found.append(optimizer.param_groups[0]["lr"])
    optimizer.step()
    schedule.step()
answers["cosine"] = np.array(found)
"""

#: What only one library is asked.
_ONE = {"torch_impl": _TORCH, "tf_impl": _KERAS}


def recipe_of(head: str, kind: str, smoothing: float, rule: Rule, schedule: str) -> dict[str, Any]:
    return {
        # Without depth: it is the head that is looked at.
        "backbone": "VGG16",
        "image_size": 96,
        "precision": "float64",
        "strategy": "linear_probe",
        "head": head,
        "head_units": UNITS,
        "loss": kind,
        "label_smoothing": smoothing,
        "optimizer": rule.optimizer,
        "learning_rate": RATE,
        "momentum": rule.momentum,
        "beta1": rule.beta1,
        "beta2": rule.beta2,
        "epsilon": rule.epsilon,
        "weight_decay": rule.weight_decay,
        "schedule": "cosine" if schedule == "cosine" else "constant",
        "warmup_epochs": 0 if schedule == "constant" else 2,
        "epochs": EPOCHS,
        "batch_size": BATCH,
    }


def rates_of(schedule: str) -> list[float]:
    warmup = 0 if schedule == "constant" else 2 * STEPS // EPOCHS
    return list(formulas.rates(RATE, STEPS, warmup, schedule == "cosine"))


def steps_of(schedule: str) -> list[tuple[list[int], float]]:
    """Images and rate of every step."""
    random = np.random.default_rng(1)
    orders = [random.permutation(IMAGES).tolist() for _ in range(EPOCHS)]
    batches = [order[start : start + BATCH] for order in orders for start in range(0, IMAGES, BATCH)]
    return list(zip(batches, rates_of(schedule), strict=True))


def drawn() -> dict[str, np.ndarray]:
    """Features, labels, and the first weights of each head. Channels: those of VGG16."""
    random = np.random.default_rng(0)
    shapes = {
        "linear": {"output.weight": (CLASSES, 512), "output.bias": (CLASSES,)},
        "mlp": {
            **{"hidden.weight": (UNITS, 512), "hidden.bias": (UNITS,)},
            **{"output.weight": (CLASSES, UNITS), "output.bias": (CLASSES,)},
        },
        "conv": {
            **{"conv.weight": (UNITS, 512, 3, 3), "conv.bias": (UNITS,)},
            **{"output.weight": (CLASSES, UNITS), "output.bias": (CLASSES,)},
        },
    }
    found = {
        f"{head} head.{name}": random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        for head, parts in shapes.items()
        for name, shape in parts.items()
    }
    found["vectors"] = random.normal(0.2, 1, (IMAGES, 512))
    found["maps"] = random.normal(0.2, 1, (IMAGES, 3, 3, 512))
    found["labels"] = np.arange(IMAGES) % CLASSES
    found["walk"] = random.normal(size=(STEPS + 1, 50))
    solved = ridge.fit(found["vectors"], np.arange(IMAGES), found["labels"], CLASSES, 1.0)
    return found | {f"ridge {name}": solved[f"head.output.{name}"] for name in ("weight", "bias")}


INPUTS = drawn()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answers]:
    folder = tmp_path_factory.mktemp("training")
    np.savez(folder / "inputs.npz", **INPUTS)  # type: ignore[arg-type]
    cases = [
        {"name": name, "recipe": recipe_of(*case), "steps": steps_of(case[-1]), "switches": []}
        for name, case in CASES.items()
    ]
    for switch, rule in SWITCHED.items():
        recipe = recipe_of("linear", "cross_entropy", 0.0, rule, "cosine")
        cases.append({"name": switch, "recipe": recipe, "steps": steps_of("cosine"), "switches": [switch]})
    given: dict[str, Any] = {"inputs": str(folder / "inputs.npz"), "classes": CLASSES, "cases": cases, "peak": RATE}
    given["rates"] = rates_of("cosine")
    return {wing: ask(wing, _PROGRAM + _ONE[wing], given, folder) for wing in WINGS}


def first_weights(head: str) -> formulas.Weights:
    return {name.partition(" ")[2]: array for name, array in INPUTS.items() if name.startswith(f"{head} ")}


def features_of(head: str) -> formulas.Array:
    return INPUTS["maps" if head == "conv" else "vectors"]


def trained(
    head: str, kind: str, smoothing: float, rule: Rule, schedule: str
) -> Iterator[tuple[str, formulas.Array, float]]:
    """Losses and last weights by the formulas, each with what rounding may change of it."""
    results = []
    for dtype in (np.float64, np.float32):
        features = features_of(head).astype(dtype)
        batches = [(features[chosen], INPUTS["labels"][chosen], rate) for chosen, rate in steps_of(schedule)]
        weights = formulas.as_type(first_weights(head), dtype)
        losses, last = formulas.train(head, rule, kind, smoothing, weights, batches)
        results.append({"losses": losses, **last})
    exact, rounded = results
    allowed = bounds(exact, rounded)
    for name, array in exact.items():
        yield name, array, allowed[name]


def bounds(exact: formulas.Weights, rounded: formulas.Weights) -> dict[str, float]:
    """What float64's rounding may change, absolute, from what float32's changed.

    Relative to the largest value of an array it is the same for all: a few values alone could be lucky in float32.
    """
    scales = {name: float(np.abs(array).max()) for name, array in exact.items()}
    change = max(away(array, rounded[name]) / scales[name] for name, array in exact.items())
    return {name: SAFETY * (UNIT64 / UNIT32 * change + UNIT64) * scale for name, scale in scales.items()}


@pytest.mark.parametrize("wing", WINGS)
@pytest.mark.parametrize("name", CASES)
def test_training_follows_the_formulas(name: str, wing: str, answers: dict[str, Answers]) -> None:
    """Losses of all steps and the weights behind the last; so does a second run with the same trainer."""
    for key, expected, allowed in trained(*CASES[name]):
        assert allowed < 1e-9 * np.abs(expected).max()
        for turn in ("first", "second"):
            assert away(answers[wing][f"{name} {turn} {key}"], expected) <= allowed, (turn, key)


@pytest.mark.parametrize("wing", WINGS)
@pytest.mark.parametrize("name", SWITCHED)
def test_what_keras_does_instead(name: str, wing: str, answers: dict[str, Answers]) -> None:
    """Different on purpose, as docs/differences.md says: with the switch it is Keras's formula, without it is not."""
    rule = SWITCHED[name]
    paper = replace(rule, keras=frozenset())
    others = {key: array for key, array, _ in trained("linear", "cross_entropy", 0.0, paper, "cosine")}
    for key, expected, allowed in trained("linear", "cross_entropy", 0.0, rule, "cosine"):
        assert away(answers[wing][f"{name} first {key}"], expected) <= allowed, key
        assert away(others[key], expected) > 1e6 * allowed


def walked(rule: Rule) -> formulas.Array:
    optimizer = formulas.Optimizer(rule)
    weights: formulas.Weights = {"walk": INPUTS["walk"][0]}
    for gradient, rate in zip(INPUTS["walk"][1:], rates_of("cosine"), strict=True):
        weights = optimizer.update(weights, {"walk": gradient}, rate)
    return weights["walk"]


@pytest.mark.parametrize("name", OWN)
def test_keras_own_optimizers_are_the_other_formula(name: str, answers: dict[str, Answers]) -> None:
    """So the switches are what Keras itself does. It casts its constants by way of float32 (adam_betas)."""
    # A step moves a weight by a few rates at most, and a constant is wrong by 2^-24: in Adam's second moment one of
    # 1 - 0.999, a thousand times as much.
    allowed = STEPS * RATE * 1000 * UNIT32
    assert away(answers["tf_impl"][name], walked(OWN[name])) <= allowed
    assert away(answers["tf_impl"][name], walked(replace(OWN[name], keras=frozenset()))) > 10 * allowed


@pytest.mark.parametrize("wing", WINGS)
@pytest.mark.parametrize("name", CASES)
def test_logits_loss_and_gradients(name: str, wing: str, answers: dict[str, Answers]) -> None:
    head, kind, smoothing, _, schedule = CASES[name]
    chosen = steps_of(schedule)[0][0]
    seen = []
    for dtype in (np.float64, np.float32):
        weights, features = formulas.as_type(first_weights(head), dtype), features_of(head).astype(dtype)
        logits, _ = formulas.forward(head, weights, features)
        part, kept = formulas.forward(head, weights, features[chosen])
        value, slope = formulas.loss(kind, smoothing, part, INPUTS["labels"][chosen])
        gradients = formulas.backward(head, weights, kept, slope)
        named = {f"gradient {key}": array for key, array in gradients.items()}
        seen.append({"logits": logits, "loss": np.array(value), **named})
    allowed = bounds(*seen)
    for key, expected in seen[0].items():
        assert away(answers[wing][f"{name} {key}"], expected) <= allowed[key], key


@pytest.mark.parametrize("wing", WINGS)
def test_scikit_learn_says_the_same(wing: str, answers: dict[str, Answers]) -> None:
    """Linear and mlp heads by models of its own with the same weights, losses by its metrics."""
    found, labels, vectors = answers[wing], INPUTS["labels"], INPUTS["vectors"]
    linear, mlp = LogisticRegression(), MLPClassifier((UNITS,), activation="relu")
    weights = first_weights("linear")
    linear.coef_, linear.intercept_ = weights["head.output.weight"], weights["head.output.bias"]
    linear.classes_ = np.arange(CLASSES)
    # Sums of 512 terms, whose rounding grows with the root of their number.
    allowed = SAFETY * UNIT64 * np.sqrt(512) * np.abs(found["adam logits"]).max()
    assert away(found["adam logits"], linear.decision_function(vectors)) <= allowed
    weights = first_weights("mlp")
    mlp.partial_fit(vectors, labels, classes=np.arange(CLASSES))
    mlp.coefs_ = [weights["head.hidden.weight"].T, weights["head.output.weight"].T]
    mlp.intercepts_ = [weights["head.hidden.bias"], weights["head.output.bias"]]
    softmax = formulas.probabilities(found["adam decay logits"])
    assert away(softmax, mlp.predict_proba(vectors)) <= allowed
    for name, (_, kind, smoothing, _, schedule) in CASES.items():
        chosen = steps_of(schedule)[0][0]
        logits, right = found[f"{name} logits"][chosen], labels[chosen]
        if kind == "mse":
            expected = mean_squared_error(np.eye(CLASSES)[right], logits)
        else:
            # With smoothing: for every class, as if it were the right one, its part of the target.
            classes, softmax = range(CLASSES), formulas.probabilities(logits)
            every = [log_loss(np.full(len(right), each), softmax, labels=classes) for each in classes]
            expected = (1 - smoothing) * log_loss(right, softmax, labels=classes) + smoothing * np.mean(every)
        # The logits are what the sums above made of them, and each counts by one at most (by 2|logit| with mse).
        assert abs(float(found[f"{name} loss"]) - expected) <= allowed * max(1.0, 2 * np.abs(logits).max()), name


@pytest.mark.parametrize("wing", WINGS)
def test_pooling_is_the_mean_of_all_places(wing: str, answers: dict[str, Answers]) -> None:
    maps = answers[wing]["backbone maps"]
    assert maps.shape == (2, 3, 3, 512)
    assert np.abs(maps).max() > 0
    allowed = SAFETY * UNIT64 * 3 * np.abs(maps).max()
    assert away(answers[wing]["backbone pooled"], maps.mean(axis=(1, 2))) <= allowed


@pytest.mark.parametrize("wing", WINGS)
def test_ridge_predicts_as_scikit_learns(wing: str, answers: dict[str, Answers]) -> None:
    """Fitted by the project and predicted by a wing's head, against Ridge."""
    vectors, targets = INPUTS["vectors"], np.eye(CLASSES)[INPUTS["labels"]]
    # By singular values, another way than the project's.
    expected = Ridge(alpha=1.0, solver="svd").fit(vectors, targets).predict(vectors)
    # The system's condition is at most (largest eigenvalue + penalty) / penalty.
    condition = np.linalg.norm(vectors - vectors.mean(axis=0), 2) ** 2 + 1
    assert away(answers[wing]["ridge"], expected) <= SAFETY * UNIT64 * condition


@pytest.mark.parametrize(("images", "length"), [(20, 512), (300, 16)])
@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_ridge_is_scikit_learns(images: int, length: int, penalty: float) -> None:
    """Few images (Ridge itself, another solver) and many (normal equations)."""
    random = np.random.default_rng(2)
    features, labels = random.normal(1, 1, (images, length)), random.integers(0, CLASSES, images)
    found = ridge.fit(features, np.arange(images), labels, CLASSES, penalty)
    expected = Ridge(alpha=penalty, solver="svd").fit(features, np.eye(CLASSES)[labels])
    condition = np.linalg.norm(features - features.mean(axis=0), 2) ** 2 / penalty + 1
    assert away(found["head.output.weight"], expected.coef_) <= SAFETY * UNIT64 * condition
    allowed = SAFETY * UNIT64 * condition * np.abs(features.mean(axis=0)).sum()
    assert away(found["head.output.bias"], expected.intercept_) <= allowed


@pytest.mark.parametrize("schedule", ["constant", "warmup", "cosine"])
def test_schedules_are_the_formulas(schedule: str) -> None:
    recipe = validated(recipe_of("linear", "cross_entropy", 0.0, Rule("sgd"), schedule), "the test")
    found = plan.schedule(recipe, STEPS // EPOCHS)
    assert away(found, np.array(rates_of(schedule))) <= SAFETY * UNIT64 * RATE


def test_the_cosine_is_torchs(answers: dict[str, Answers]) -> None:
    """Without warm-up, which torch composes of two schedules."""
    recipe = recipe_of("linear", "cross_entropy", 0.0, Rule("sgd"), "cosine") | {"warmup_epochs": 0}
    found = plan.schedule(validated(recipe, "the test"), STEPS // EPOCHS)
    # torch goes from rate to rate, so rounding adds up over the steps.
    assert away(found, answers["torch_impl"]["cosine"]) <= SAFETY * UNIT64 * RATE * STEPS
