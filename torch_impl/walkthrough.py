"""The default recipe from top to bottom, by this wing's own functions and nothing around them: read this file first.

``python -m transfer_parity.torch_impl.walkthrough`` carries it out on the flowers and prints the accuracy. The other
wing's file is the same, line by line, and prints the same. What ``compare.py`` adds is a process for each framework,
stopwatches, a store of features, other strategies, and a judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from transfer_parity.shared.checkpoints import initialisation, neutral
from transfer_parity.shared.contract import plan
from transfer_parity.shared.contract.batches import training_batches
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.data import pixel_cache
from transfer_parity.shared.evaluation import metrics
from transfer_parity.shared.runtime import resolve_dataset, resolve_weights
from transfer_parity.shared.zoo.pair import HEAD
from transfer_parity.torch_impl import device, inference, network, training, weights


def predict(
    recipe: Recipe, images: Array, labels: Array, classes: int, plans: Mapping[int, Plan], checkpoint: Path
) -> dict[int, Array]:
    """Train a linear probe for each seed. Returns logits of its test images, (m, classes), by seed.

    Args:
        recipe: of strategy linear_probe.
        images: uint8 (N, S, S, 3), all of them, RGB.
        labels: int64 (N,).
        classes: number of them.
        plans: by seed: which images train and test, in which order, at which learning rates.
        checkpoint: pretrained weights in the neutral format.
    """
    # Build: torchvision's stock architecture, edited in place
    # under the meaning of padding, stride and epsilon that its weights were trained with; then pooling and a new head.
    pretrained, metadata = neutral.load(checkpoint)
    classifier = network.build(model_spec(recipe, metadata, classes))

    # Load: every array has a name (torchvision's) and a layout (torch's); the old classifier stays behind.
    backbone = {name: array for name, array in pretrained.items() if not recipe.pair.in_classifier(name)}
    weights.load(classifier, backbone)

    # Freeze: only the head's parameters are named as trainable. In torch that is what
    # has ``requires_grad``.
    shapes = {name: shape for name, shape in weights.shapes(classifier).items() if name.startswith(HEAD)}
    trainable = frozenset(shapes)

    # Extract: what is frozen puts out the same for an image in every step, so each image goes through it once.
    # ``eval()`` tells torch's modules that nothing is to be learnt, ``inference_mode()`` keeps no graph of it.
    seen = np.unique(np.concatenate([indices for drawn in plans.values() for indices in (drawn.train, drawn.test)]))
    outputs = inference.infer(classifier, "features", _batches(images, seen, recipe.inference_batch_size))
    extracted = np.concatenate(list(outputs))
    features = np.zeros((len(images), *extracted.shape[1:]), extracted.dtype)
    features[seen] = extracted

    logits = {}
    for seed, drawn in plans.items():
        # Train the head, which starts from weights that are drawn in NumPy, by name and seed, for both wings alike.
        weights.load(classifier, initialisation.draw_weights(shapes, seed))
        batches = training_batches(drawn, recipe.batch_size, features, labels, size=None)
        training.train(classifier, "head", trainable, recipe.batch_norm_trains, recipe, batches, lambda: None)

        # Predict.
        outputs = inference.infer(classifier, "head", _batches(features, drawn.test, recipe.inference_batch_size))
        logits[seed] = np.concatenate(list(outputs))
    return logits


def main() -> None:
    """The default recipe on the flowers."""
    recipe, cache, threads = Recipe(), Cache(), machine.available_cores()
    device.configure(threads, recipe.precision, recipe.device)

    # Decode: every image once, upright, resized and cropped; both wings read the same bytes.
    data, path = pixel_cache.pixels(
        resolve_dataset.load(recipe.data, cache), recipe.resize_to, recipe.stored_size, cache
    )
    images = np.load(path, mmap_mode="r", allow_pickle=False)

    # Plan: whatever is random is drawn before a framework has any part in it.
    (shots,) = recipe.shots
    names = list(data.classes)
    plans = {s: plan.draw(recipe, data.labels, data.is_test, names, s, shots) for s in recipe.seed_list}
    checkpoint = resolve_weights.resolve(recipe, cache, threads)
    assert checkpoint is not None

    # Accuracy: the part of the test images whose largest logit is that of their class.
    accuracies = []
    for seed, logits in predict(recipe, images, data.labels, len(names), plans, checkpoint).items():
        accuracies.append(metrics.evaluate(logits, data.labels[plans[seed].test]).accuracy)
        print(f"seed {seed}: accuracy {accuracies[-1]:.4f}")
    print(f"accuracy {np.mean(accuracies):.4f}")


def _batches(inputs: Array, indices: Array, size: int) -> Iterator[Array]:
    return (inputs[indices[start : start + size]] for start in range(0, len(indices), size))


if __name__ == "__main__":
    main()
