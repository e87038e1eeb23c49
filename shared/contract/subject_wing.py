"""What a wing offers for a model of the user's own: ``subject.py`` of each wing.

Arrays go in and out in the canonical layout of ``shared/contract/inventory.py``; parameters are named ``layer.role``.
A model is the framework's own type; the caller only hands it on. Inputs are what the user's preprocessing made, in the
order of the models' inputs, in the framework's own layout.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from transfer_parity.shared.contract.inventory import Amendment, Inventory
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.subject import Layout
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wing_values import State
from transfer_parity.shared.contract.wings import WingInfo

#: Called with the name of a layer, as the inventory has it, and its canonical output, as soon as that is computed.
Watch = Callable[[str, Array], None]


class SubjectTrainer(Protocol):
    """Loss, gradients and optimizer of one model, from a fresh optimizer state."""

    def differentiate(self, inputs: Sequence[Array], targets: Array, watch: Watch | None = None) -> float:
        """Loss of a batch; its gradients are kept for ``gradients`` and ``update``. Statistics learn in training mode.

        Args:
            inputs: of the batch.
            targets: classes (b,) int64 for cross entropy, else what outputs are compared with.
            watch: hears every layer.
        """

    def gradients(self) -> Iterator[tuple[str, Array]]:
        """Of the last batch, by parameter name, one at a time; those of what does not train are left out."""

    def update(self, rate: float, gradients: Mapping[str, Array] | None = None) -> None:
        """One step of the optimizer along its own gradients, or along given ones, canonical, by parameter name."""

    def states(self) -> Iterator[State]:
        """What the optimizer holds for every parameter, then every parameter and running statistic, canonical.

        A parameter that the framework holds in two parts (torch's two biases of an LSTM) counts as one: their sum; the
        second part does not train.
        """


class SubjectModule(Protocol):
    """``subject.py``: a model of the user's own."""

    def configure(self, info: WingInfo, threads: int, precision: str) -> dict[str, str]:
        """Set threads and floating-point type, on the CPU, once, before anything is built. Returns versions."""

    def build(self, make: Callable[[], Any], prepare: Callable[[], Sequence[Array]]) -> Any:
        """The model that the user's factory makes, built by one forward pass, in the configured precision.

        Args:
            make: the factory. Where it makes each layer is remembered, for ``LayerRecord.source``.
            prepare: inputs of a few examples.

        Raises:
            BadInput: the factory returns something else, or the forward pass fails; the last lines of it are shown.
        """

    def lay_out(self, model: Any, rules: Mapping[str, Layout]) -> None:
        """From now on the named parameters, and all that has their shapes, are read and written by these rules."""

    def inventory(self, model: Any, inputs: Sequence[Array]) -> Inventory:
        """Every layer in the order in which it computes, and the functions between layers that can be seen."""

    def shown(self, value: Any) -> Array:
        """An array or tensor of the framework's, as a user's preprocessing may return it, as a NumPy array."""

    def dump(self, model: Any, names: Collection[str] | None = None) -> Iterator[tuple[str, Array]]:
        """Copies of parameters and statistics, one at a time: all, or the named ones."""

    def load(self, model: Any, arrays: Mapping[str, Array]) -> None:
        """Set the named parameters; all others stay as they are.

        Raises:
            KeyError: a name that the model does not have.
            ValueError: a shape that does not fit.
        """

    def read_checkpoint(self, model: Any, path: Path) -> None:
        """Load a file in the framework's own format into the model, without running code from it.

        Raises:
            BadInput: it cannot be read, or does not fit.
        """

    def write_checkpoint(self, model: Any, path: Path) -> None:
        """Write the model's weights in the framework's own format."""

    def silence(self, model: Any) -> None:
        """Switch off everything random that is a layer of its own (dropout and its relatives), in training mode too."""

    def amend(self, model: Any, amendment: Amendment) -> None:
        """Change one thing about one layer (``Amendment.what`` is "layer"), as ``LayerRecord.config`` names it.

        Raises:
            ValueError: it cannot be changed there.
        """

    def forward(self, model: Any, inputs: Sequence[Array], training: bool, watch: Watch | None = None) -> list[Array]:
        """Outputs of the model, in inference mode or in training mode, without gradients.

        Running statistics are afterwards as they were before.
        """

    def call(self, model: Any, layer: str, inputs: Sequence[Array]) -> list[Array] | None:
        """A layer alone, in inference mode, with canonical inputs, to canonical outputs; None where it cannot be."""

    def inputs_of(self, model: Any, inputs: Sequence[Array], watch: Callable[[str, list[Array]], None]) -> None:
        """Put inputs through the model, in inference mode; ``watch`` hears the canonical inputs of every layer."""

    def trainer(
        self,
        model: Any,
        recipe: Recipe,
        loss: Callable[[Any, Any], Any] | None,
        optimizer: Callable[[Any], Any] | None,
        training_mode: bool,
    ) -> SubjectTrainer:
        """A trainer of everything in the model that trains.

        Args:
            model: whose parameters are changed.
            recipe: loss and optimizer, where the user has none of their own, meant as in the wing's ``training.py``.
            loss: the user's, of the framework's tensors (targets, outputs).
            optimizer: the user's; gets the model, returns an optimizer of the framework's. Its rates are its own.
            training_mode: of normalisations.
        """
