"""One side of a user's own pair in its framework's process: its model, what it is given, and how it is trained."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from transfer_parity.shared.contract.inventory import STATISTICS, Amendment, Inventory
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.rungs import UNIT, Array
from transfer_parity.shared.contract.subject import Layout, Subject
from transfer_parity.shared.contract.subject_wing import SubjectModule, SubjectTrainer
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.runtime import subject_examples, user_code

#: Roles that are one of many terms of a sum: matrices and kernels.
_FACTORS = "weight"


class SubjectSide:
    """A side's model, built and silent.

    Attributes:
        inventory: of the model.
        changed_inputs: what is changed about prepared inputs, to see whether a difference goes away with it.
    """

    def __init__(
        self, wing: SubjectModule, info: WingInfo, subject: Subject, side: str, root: Path, few: Mapping[str, Array]
    ) -> None:
        """Build the model. ``few``: a few examples.

        Raises:
            BadInput: a user's function fails, or returns something that cannot be used.
        """
        self.wing, self.info, self.subject, self.name, self.root = wing, info, subject, side, root
        self.side = subject.sides[side]
        self.changed_inputs: tuple[Amendment, ...] = ()
        self._preprocess = user_code.find(self.side.preprocess, root) if self.side.preprocess else None
        factory = user_code.find(self.side.factory, root)
        make = partial(user_code.called, self.side.factory, factory, **self.side.arguments)
        self.model = wing.build(make, lambda: self.prepare(few))
        if self.side.checkpoint is not None:
            wing.read_checkpoint(self.model, root / self.side.checkpoint)
        wing.silence(self.model)
        if self.side.layouts:
            check_layouts(self.side.layouts, {name: array.shape for name, array in wing.dump(self.model)})
            wing.lay_out(self.model, self.side.layouts)
        self.inventory: Inventory = wing.inventory(self.model, self.prepare(few))
        if not self.inventory.with_parameters:
            raise BadInput(f"{self.side.factory} returns a model without weights; there is nothing to compare.")
        self.refuse_randomness(self.prepare(few))

    def prepare(self, examples: Mapping[str, Array]) -> list[Array]:
        """Inputs as the model gets them: through the user's preprocessing, or cast, and channels moved.

        Raises:
            BadInput: the user's preprocessing fails.
        """
        prepared = self._prepared(examples)
        for amendment in self.changed_inputs:
            prepared = self._changed(prepared, amendment)
        return prepared

    def _changed(self, prepared: Sequence[Array], amendment: Amendment) -> list[Array]:
        """Inputs with their channels reversed (of images), or scaled and moved (of all that are no whole numbers)."""
        found = []
        for array, each in zip(prepared, self.subject.inputs.values(), strict=False):
            changed = array
            if amendment.key == "reversed_channels" and each.moves_channels:
                first = self.info.channels_first and array.ndim == len(each.shape) + 1
                changed = np.flip(array, 1 if first else -1)
            elif amendment.key == "affine" and array.dtype.kind == "f":
                factor, offset = amendment.value
                changed = array * factor + offset
            found.append(np.ascontiguousarray(changed, dtype=array.dtype))
        return found

    def _prepared(self, examples: Mapping[str, Array]) -> list[Array]:
        given = [examples[name] for name in self.subject.inputs]
        if self._preprocess is not None:
            assert self.side.preprocess is not None
            found = user_code.called(self.side.preprocess, self._preprocess, *given)
            several = found if isinstance(found, list | tuple) else [found]
            return [self._in_precision(self.wing.shown(each)) for each in several]
        moved = []
        for array, each in zip(given, self.subject.inputs.values(), strict=True):
            first = each.moves_channels and self.info.channels_first
            value = array if each.kind == "tokens" else array.astype(self.subject.precision)
            moved.append(np.ascontiguousarray(np.moveaxis(value, -1, 1)) if first else value)
        return moved

    def canonical(self, prepared: Sequence[Array]) -> list[Array]:
        """Prepared inputs with their channels last."""
        found = []
        for array, each in zip(prepared, self.subject.inputs.values(), strict=False):
            first = each.moves_channels and self.info.channels_first and array.ndim == len(each.shape) + 1
            found.append(np.moveaxis(array, 1, -1) if first else array)
        return found

    def _in_precision(self, array: Array) -> Array:
        return array.astype(self.subject.precision) if array.dtype.kind == "f" else array

    def recipe(self, amendments: Sequence[Amendment]) -> Recipe:
        """The training's constants, some of them amended."""
        changed = {each.key: each.value for each in amendments if each.what == "training"}
        if not changed:
            return self.subject.recipe
        training = self.subject.training.model_copy(update=changed)
        return self.subject.model_copy(update={"training": training}).recipe

    def trainer(self, recipe: Recipe, training_mode: bool) -> SubjectTrainer:
        """A trainer with a fresh optimizer state; the user's own loss and optimizer where there are any."""
        loss, optimizer = (self._function(place) for place in (self.side.loss, self.side.optimizer))
        return self.wing.trainer(self.model, recipe, loss, optimizer, training_mode)

    def _function(self, place: str | None) -> Callable[..., Any] | None:
        if place is None:
            return None
        return partial(user_code.called, place, user_code.find(place, self.root))

    def weights(self) -> dict[str, Array]:
        """All parameters and statistics, canonical, by parameter name."""
        return dict(self.wing.dump(self.model))

    def load(self, weights: Mapping[str, Array]) -> None:
        """Set the named parameters."""
        self.wing.load(self.model, weights)

    def amend(self, amendment: Amendment) -> None:
        """Change one thing about a layer.

        Raises:
            ValueError: it cannot be changed there.
        """
        self.wing.amend(self.model, amendment)

    def undo(self, amendment: Amendment) -> None:
        """Make a layer what it was before ``amend``."""
        before = self.inventory.layer(amendment.layer).config.get(amendment.key)
        self.wing.amend(self.model, amendment.model_copy(update={"value": before}))

    def refuse_randomness(self, inputs: Sequence[Array]) -> None:
        """Make sure that the same inputs give the same outputs in training mode.

        Raises:
            BadInput: they do not; it names the first layer that differs.
        """
        if not self.subject.training.training_mode:
            return
        seen: list[dict[str, int]] = []
        for _ in range(2):
            sums: dict[str, int] = {}

            def watch(name: str, output: Array, sums: dict[str, int] = sums) -> None:
                sums[name] = zlib.crc32(np.ascontiguousarray(output).tobytes())

            outputs = self.wing.forward(self.model, inputs, True, watch)
            sums[""] = zlib.crc32(b"".join(np.ascontiguousarray(each).tobytes() for each in outputs))
            seen.append(sums)
        first = next((name for name in seen[0] if seen[0][name] != seen[1].get(name)), None)
        if first is None:
            return
        layer = first or "a function that is no layer of its own"
        source = next((each.source for each in self.inventory.layers if each.name == first and each.source), None)
        raise BadInput(
            f"side {self.name}: {layer}{f' ({source})' if source else ''} is random in training mode, and no layer "
            "that could be switched off; take dropout out of the function, or set training.training_mode = false."
        )

    def moved(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """Weights moved by sqrt(n) units of rounding, n being the number of terms that each is one of, up or down."""
        unit, found = UNIT[self.subject.precision], {}
        for name, array in weights.items():
            role = name.rpartition(".")[2]
            terms = math.prod(array.shape[1:]) if role.endswith(_FACTORS) and array.ndim > 1 else 1
            up = generator(self.subject.seed, "rounding", name).random(array.shape) < 0.5
            step = math.sqrt(terms) * unit
            found[name] = array.astype(np.float64) * np.where(up, 1 + step, 1 - step)
        return found

    def drawn(self) -> dict[str, Array]:
        """Weights that look trained, by parameter name: nothing is zero, and no scale or variance is one."""
        found = {}
        for name, array in self.wing.dump(self.model):
            random, role = generator(self.subject.seed, "weights", name), name.rpartition(".")[2]
            if role == "running_var":
                found[name] = random.uniform(0.5, 1.5, array.shape)
            elif role in STATISTICS or role.endswith("bias"):
                found[name] = random.normal(0, 0.1, array.shape)
            elif array.ndim > 1:
                found[name] = random.standard_normal(array.shape) / math.sqrt(math.prod(array.shape[1:]))
            else:
                found[name] = random.uniform(0.8, 1.2, array.shape)
        return found


def check_layouts(rules: Mapping[str, Layout], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Make sure that the user's own rules fit the parameters that they name.

    Args:
        rules: by parameter name.
        shapes: of all parameters.

    Raises:
        BadInput: a rule is of a parameter that the model does not have, or does not fit it.
    """
    for name, rule in rules.items():
        if name not in shapes:
            raise BadInput(f"layouts: the model has no parameter {name!r}; {did_you_mean(name, shapes)}")
        try:
            rule.undo(rule.apply(np.empty(shapes[name], np.bool_)), shapes[name])
        except (ValueError, IndexError) as error:
            raise BadInput(
                f"layouts: the rule of {name!r} does not fit its shape {shapes[name]} ({error}); "
                "mend split, axes or shape."
            ) from None


def batches(subject: Subject, examples: Mapping[str, Array], steps: int) -> Iterator[tuple[dict[str, Array], Array]]:
    """Inputs and targets of every step: the training examples, batch by batch, again and again."""
    size = subject.training.batch
    last = subject_examples.count(subject) - size
    for step in range(steps):
        start = step * size % last
        part = {name: array[start : start + size] for name, array in examples.items()}
        yield (
            {name: array for name, array in part.items() if name != subject_examples.TARGETS},
            part[subject_examples.TARGETS],
        )
