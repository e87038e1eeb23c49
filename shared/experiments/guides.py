"""From one library's official guide to the other's, one step at a time, on the same images and subsets.

Both guides train a new head on a frozen network. What they say stands here as recipes; each step between them changes
one thing, the budget first. The steps run in both frameworks, alike in everything; what a framework draws and decodes
by itself comes on top at the two ends.

Sources, as of 2026-11: https://keras.io/guides/transfer_learning/ (keras-team/keras-io, guides/transfer_learning.py,
"An end-to-end example", up to "Train the top layer": 150 x 150 pixels by tf.image.resize, batches of 32,
RandomFlip and RandomRotation(0.1), pixels from -1 to 1, the network called with training=False, GlobalAveragePooling2D,
Dropout(0.2), Dense, Adam(), 20 epochs) and
https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html (pytorch/tutorials,
beginner_source/transfer_learning_tutorial.py, "ConvNet as fixed feature extractor": RandomResizedCrop(224) and
RandomHorizontalFlip, Resize(256) and CenterCrop(224) to judge, ImageNet mean and deviation, batches of 4,
SGD(lr=0.001, momentum=0.9), StepLR(step_size=7, gamma=0.1), 25 epochs, model.train()).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from transfer_parity.shared.contract import framework_defaults, recipe_files
from transfer_parity.shared.contract.framework_defaults import Configuration
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.wings import KERAS, TORCHVISION, libraries
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, WorkerFailed
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.data.storage import Files
from transfer_parity.shared.evaluation import significance
from transfer_parity.shared.experiments import attributed_cells
from transfer_parity.shared.experiments.arms import Arm, ArmKey
from transfer_parity.shared.experiments.attribution_document import (
    AttributionDocument,
    Guides,
    GuideStep,
    Measured,
)
from transfer_parity.shared.experiments.comparison_document import Environment
from transfer_parity.shared.experiments.sweep import Sweep
from transfer_parity.shared.runtime import resolve_weights

FIRST = "Keras's guide to transfer learning, training the top layer (https://keras.io/guides/transfer_learning/)"
LAST = (
    "PyTorch's tutorial on transfer learning, the network as fixed feature extractor "
    "(https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html)"
)
#: What the first guide says, by key of the recipe. Where it says nothing, it is what its library does.
BEGINNING: dict[str, Any] = {
    "strategy": "linear_probe",
    "freeze_batch_norm": True,
    "head": "linear",
    "solver": "optimizer",
    "image_size": 150,
    "resize": None,
    "preprocessing": "auto",
    "flip": True,
    "crop": False,
    "loss": "cross_entropy",
    "label_smoothing": 0.0,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "momentum": 0.9,
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": KERAS.epsilon,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup_epochs": 0.0,
    "epochs": 20,
    "batch_size": 32,
}


@dataclass(frozen=True)
class Step:
    """One thing that the guides do differently.

    Attributes:
        name: a part of file names.
        what: in a few words.
        changes: keys of the recipe and their values in the last guide.
        switched_off: native behaviour that ends here.
        switched_on: native behaviour that begins here.
    """

    name: str
    what: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    switched_off: frozenset[str] = frozenset()
    switched_on: frozenset[str] = frozenset()


#: Native behaviour with which the way begins.
SWITCHES = frozenset({"resizing", "adam_epsilon"})
START = "start"
#: In order, the budget first. Both guides have the rate 1e-3.
STEPS = (
    Step("epochs", "20 epochs become 25", {"epochs": 25}),
    Step("batch_size", "batches of 32 become batches of 4", {"batch_size": 4}),
    Step(
        "optimizer",
        "Adam becomes SGD with momentum 0.9, both with a rate of 1e-3",
        {"optimizer": "sgd"},
        switched_off=frozenset({"adam_epsilon"}),
    ),
    Step("schedule", "the rate, constant so far, falls to a tenth after every 7 epochs", {"schedule": "step"}),
    Step("image_size", "images of 150 pixels become images of 224", {"image_size": 224}),
    Step(
        "resizing",
        "the square that was squashed without antialiasing is cut out of the middle",
        switched_off=frozenset({"resizing"}),
    ),
    Step("crop", "training images are cropped at random", {"crop": True}),
    Step(
        "weights",
        "Keras's ImageNet weights become torchvision's, with the preprocessing, padding and epsilon of each",
        {"weights": TORCHVISION.library},
    ),
    Step(
        "frozen_batch_norm",
        "frozen normalisations, in inference mode so far, follow the batches",
        switched_on=frozenset({"frozen_batch_norm"}),
    ),
)
#: What of the guides a recipe cannot say.
LEFT_OUT = (
    "the networks (Xception, ResNet18): both guides have the recipe's backbone, which both libraries have",
    "the numbers of images (9,305 cats and dogs, 244 ants and bees): both have the recipe's images and shots, and as "
    "many classes",
    "Keras's guide: RandomRotation(0.1) and Dropout(0.2) are left out; neither wing has rotations or masks in its plan",
    "Keras's guide: its second part, 10 epochs of the whole network at 1e-5, is left out; a recipe has one phase",
    "Keras's guide: one logit and binary cross entropy for two classes; here a logit for each and cross entropy",
    "PyTorch's tutorial: RandomResizedCrop (8 to 100 % of the area, other aspect ratios) is approximated by crops of "
    "224 out of 256 pixels",
    "PyTorch's tutorial: the best of 25 epochs on the validation images is kept; here the last, since those who choose "
    "by the test images overrate themselves",
    "PyTorch's tutorial: its other half, which trains the whole network, is left out",
)
#: Keys on which the guides decide. Everything else is the recipe's: images, subsets, seeds, backbone, precision.
DECIDED = frozenset(BEGINNING)


class GuideChain:
    """The way from one guide to the other.

    Args:
        recipe: whose images, subsets, seeds, backbone and weights count; what the guides decide does not.
        cache: of weights.
        threads: for what has to be fetched.
        progress: hears how far it is.

    Attributes:
        recipes: of all steps, by name, in order.
        left_out: what of the guides is left out or approximated.
    """

    def __init__(self, recipe: Recipe, cache: Cache, threads: int, progress: Progress) -> None:
        self.left_out = list(LEFT_OUT)
        own_weights = self._weights(recipe, cache, threads, progress)
        values = {**recipe.model_dump(), **BEGINNING, "weights": own_weights or recipe.weights}
        self.steps: list[Step] = [Step(START, FIRST)]
        self.switches: dict[str, frozenset[str]] = {}
        self.recipes: dict[str, Recipe] = {}
        switched = SWITCHES
        for step in (self.steps[0], *STEPS):
            if step.name == "weights" and own_weights is None:
                continue
            if not recipe.pair.batch_norm and step.switched_on:
                continue
            values |= step.changes
            switched = (switched - step.switched_off) | step.switched_on
            self.recipes[step.name] = recipe_files.validated(values, f"the guides' recipe ({step.name})")
            self.switches[step.name] = switched
            if step.name != START:
                self.steps.append(step)

    def _weights(self, recipe: Recipe, cache: Cache, threads: int, progress: Progress) -> str | None:
        """The library whose weights the first guide takes; None if both guides start from the recipe's."""
        if recipe.weights not in libraries():
            self.left_out.append(f"each library's own weights: all steps start from the recipe's ({recipe.weights})")
            return None
        for library in (KERAS.library, TORCHVISION.library):
            try:
                wanted = recipe.model_copy(update={"weights": library, "strategy": "linear_probe"})
                resolve_weights.resolve(wanted, cache, threads, progress)
            except (BadInput, WorkerFailed) as error:
                self.left_out.append(f"each library's own weights: all steps start from {recipe.weights}'s ({error})")
                return None
        return KERAS.library

    def arms(self, recipes: Mapping[str, Recipe], data: Dataset) -> list[Arm]:
        """Every step in all frameworks alike, and each guide in its own framework with what that does by itself."""
        arms = []
        if not isinstance(data.pictures, Files):
            # Decoded ones have their size already.
            self.switches = {name: switched - {"resizing"} for name, switched in self.switches.items()}
            self.left_out.append("Keras's guide: how it resizes, since these images are no files")
        for name, recipe in recipes.items():
            switches = self.switches[name]
            for framework in recipe.frameworks:
                arms.append(Arm(ArmKey(framework, name), Configuration(recipe, switches)))
        for key in self._ends():
            recipe = recipes[key.strategy]
            if key.framework in recipe.frameworks:
                native = {
                    each.name
                    for each in framework_defaults.defaults(recipe, data)
                    if each.framework == key.framework and each.native and each.switch
                }
                arms.append(Arm(key, Configuration(recipe, self.switches[key.strategy] | native)))
        return arms

    def _ends(self) -> tuple[ArmKey, ArmKey]:
        """Each guide in its own framework."""
        names = list(self.recipes)
        return (
            ArmKey(KERAS.identifier, names[0], "as shipped"),
            ArmKey(TORCHVISION.identifier, names[-1], "as shipped"),
        )

    def document(self, sweep: Sweep) -> AttributionDocument:
        """What the finished cells tell."""
        found, inputs = attributed_cells.read([sweep]), sweep.inputs
        names, ends = list(self.recipes), self._ends()
        frameworks = sweep.common.frameworks
        changes: dict[Framework, dict[str, Measured]] = {
            each: _corrected(
                {
                    name: attributed_cells.measured(
                        found.get(ArmKey(each, name), {}), found.get(ArmKey(each, before), {})
                    )
                    for before, name in pairwise(names)
                }
            )
            for each in frameworks
        }
        steps = []
        for step in self.steps:
            strategy = inputs.strategies[step.name]
            side = {each: found.get(ArmKey(each, step.name), {}) for each in frameworks}
            steps.append(
                GuideStep(
                    name=step.name,
                    what=step.what,
                    switches=sorted(self.switches[step.name]),
                    recipe=strategy.recipe,
                    training_steps=len(next(iter(strategy.plans.values())).learning_rates),
                    accuracy=attributed_cells.accuracies(side, strategy.recipe),
                    change={each: changes[each][step.name] for each in frameworks if step.name in changes[each]},
                )
            )
        own = {key.framework: found.get(key, {}) for key in ends}
        plain = {key.framework: found.get(ArmKey(key.framework, key.strategy), {}) for key in ends}
        own_ways = {each: attributed_cells.measured(own[each], plain[each]) for each in own}
        return AttributionDocument(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            environment=Environment.here(inputs.versions, inputs.threads, {}, inputs.load),
            images=len(sweep.data),
            classes=list(sweep.data.classes),
            strategies=[],
            left_out={},
            cells=sweep.size,
            finished=len(sweep.finished()),
            mode="guides",
            guides=Guides(
                first=FIRST,
                last=LAST,
                steps=steps,
                own_ways={each: value for each, value in own_ways.items() if value is not None},
                whole=attributed_cells.measured(*(own[key.framework] for key in ends)),
                accuracy=attributed_cells.accuracies(own, sweep.common),
                left_out=self.left_out,
            ),
        )


def _corrected(found: Mapping[str, Measured | None]) -> dict[str, Measured]:
    """Those that are finished, with p-values that are corrected for their number."""
    known = {name: each for name, each in found.items() if each is not None}
    p_values: Sequence[float] = significance.holm([each.p_value for each in known.values() if each.p_value is not None])
    return {
        name: each.model_copy(update={"p_value": p}) for (name, each), p in zip(known.items(), p_values, strict=True)
    }
