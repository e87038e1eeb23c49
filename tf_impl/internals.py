"""Private interfaces of Keras, each with the reason why no public one will do, and what has no like in torch.

The one file whose names differ from the other wing's. Everywhere else Keras is used as its documentation describes it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from transfer_parity.shared.contract.rungs import StateKind
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.core.errors import BadInput

#: No honest array or file in an archive is this many times larger than what is stored of it, but for a small rest.
_MOST_EXPANDED = 100
_SMALL = 2**20


def layers_of(model: keras.Model) -> list[keras.Layer]:
    """All layers of a model, those inside of nested models among them.

    ``Model.layers`` stops at the first level.
    """
    return model._flatten_layers(include_self=False, recursive=True)


def nodes_of(model: keras.Model) -> list[Any]:
    """One node for each operation of a functional model, in the order of the forward pass.

    A node has ``operation``, ``input_tensors`` and ``outputs``. Keras shows which layers a model has, but not which
    tensors lie between them: ``Layer.input`` and ``Layer.output`` are there for layers only, not for additions.
    """
    return [operation._inbound_nodes[0] for operation in model.operations]


def maker(tensor: keras.KerasTensor) -> keras.Operation:
    """The operation that a symbolic tensor comes from. A tensor does not tell it otherwise."""
    return tensor._keras_history.operation


def momentum(optimizer: keras.optimizers.SGD, variable: keras.Variable) -> keras.Variable:
    """What an SGD holds for a variable.

    A subclass that overrides ``update_step`` gets the variable, and an optimizer's state lies in lists in the order in
    which it was built.
    """
    return optimizer.momentums[optimizer._get_variable_index(variable)]


def moments(optimizer: keras.optimizers.Adam, variable: keras.Variable) -> tuple[keras.Variable, keras.Variable]:
    """The first and the second moment that an Adam holds for a variable; see ``momentum``."""
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


def states(optimizer: keras.optimizers.Optimizer) -> dict[StateKind, list[keras.Variable]]:
    """All that an SGD or Adam holds, by what it is, in the order of the variables that it was built for.

    ``Optimizer.variables`` has the same and more, told apart by nothing but names.
    """
    if isinstance(optimizer, keras.optimizers.SGD):
        return {"momentum": optimizer.momentums}
    return {"first_moment": optimizer._momentums, "second_moment": optimizer._velocities}


def names_in(configuration: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
    """Names of layers by their groups in a Keras 3 file, from a model's configuration.

    Groups are called after the class, and numbered in the order of the model's layers: so Keras's saving module does,
    whose functions for it are private.
    """
    names: dict[tuple[str, ...], str] = {}
    used: Counter[str] = Counter()
    for layer in configured_layers(configuration):
        group = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", layer["class_name"]))
        group = re.sub(r"([a-z])([A-Z])", r"\1_\2", group).lower()
        own = f"{group}_{used[group]}" if used[group] else group
        used[group] += 1
        names[(own,)] = layer["config"]["name"]
        names |= {(own, *key): name for key, name in names_in(layer).items()}
    return names


def configured_layers(configuration: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layers that a model's configuration lists, or none if it is a layer's."""
    config = configuration.get("config")
    found = config.get("layers", []) if isinstance(config, dict) else config if isinstance(config, list) else []
    return [layer for layer in found if isinstance(layer, dict) and isinstance(layer.get("config"), dict | list)]


def claims_too_much(claimed: int, stored: int) -> bool:
    """Whether no honest array, or file in an archive, is so many bytes large with so few stored."""
    return claimed > _MOST_EXPANDED * stored + _SMALL


@dataclass(frozen=True)
class Leaf:
    """A layer with variables, as it is found in a file.

    Attributes:
        path: of the file.
        container: groups of the models around it, from the outside in.
        key: its own group below the innermost of them.
        name: of the layer, if the file says it.
        variables: data sets by Keras's word for their kind.
    """

    path: Path
    container: tuple[str, ...]
    key: tuple[str, ...]
    name: str | None
    variables: dict[str, h5py.Dataset]

    def below(self, container: tuple[str, ...]) -> tuple[str, ...]:
        """Its group's name as seen from a container around it."""
        return (*self.container, *self.key)[len(container) :]

    def array(self, kind: str) -> Array:
        """A variable in single precision at least.

        Raises:
            BadInput: it is not in the file.
        """
        dataset = self.variables[kind]
        if dataset.is_virtual or dataset.external:
            raise BadInput(f"{self.path}: {dataset.name} lies in another file, which is not opened; save it again.")
        if claims_too_much(dataset.nbytes, dataset.id.get_storage_size()):
            raise BadInput(
                f"{self.path}: {dataset.name} claims {dataset.nbytes} bytes that are not in the file; save it again."
            )
        array = np.asarray(dataset)
        return array.astype(np.float32) if array.dtype.itemsize < 4 else array
