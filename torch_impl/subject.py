"""A model of the user's own, as ``shared/contract/subject_wing.py`` wants it handled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from transfer_parity.shared.contract.inventory import Amendment, Inventory
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.subject import Layout
from transfer_parity.shared.contract.subject_wing import Watch
from transfer_parity.shared.contract.wing import Array
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.runtime import user_code
from transfer_parity.torch_impl import layer_kinds, layouts, subject_amendments, subject_layers, subject_watch
from transfer_parity.torch_impl.internals import canonical_outputs
from transfer_parity.torch_impl.subject_training import SubjectTraining

#: What draws under a name of its own in libraries that need not be installed: torchvision's, timm's.
_DROPS = ("StochasticDepth", "DropPath", "DropBlock2d", "DropBlock3d")
_RATES = ("p", "drop_prob")


def configure(info: WingInfo, threads: int, precision: str) -> dict[str, str]:
    """Set threads and floating-point type, on the CPU, once, before anything is built. Returns versions."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    torch.set_default_dtype(torch.float64 if precision == "float64" else torch.float32)
    # Its shortcut computes a whole layer of an encoder in one call, of which nothing could be seen.
    torch.backends.mha.set_fastpath_enabled(False)
    torch.manual_seed(0)
    return {"torch": torch.__version__, "numpy": np.__version__}


def build(make: Callable[[], Any], prepare: Callable[[], Sequence[Array]]) -> nn.Module:
    """The model that the user's factory makes, tried with one forward pass, in the configured precision.

    Raises:
        BadInput: the factory returns something else, or the forward pass fails.
    """
    with subject_layers.Remembering():
        model = make()
    if not isinstance(model, nn.Module):
        raise BadInput(f"the factory returns {type(model).__name__}; it has to return a torch.nn.Module.")
    model = model.to(device="cpu", dtype=torch.get_default_dtype())
    inputs = _tensors(prepare())
    try:
        with torch.no_grad():
            outputs = subject_layers.tensors(subject_watch.called(model, inputs, False))
    except Exception as error:
        raise user_code.cannot_be_called(error, (tuple(each.shape) for each in inputs)) from error
    user_code.require_outputs(outputs)
    return model


def lay_out(model: nn.Module, rules: Mapping[str, Layout]) -> None:
    """From now on the named parameters, and all that has their shapes, are read and written by these rules."""
    layouts.RULES[model] = rules


def inventory(model: nn.Module, inputs: Sequence[Array]) -> Inventory:
    """Every layer in the order in which it computes, and the functions between layers."""
    return subject_watch.inventory(model, _tensors(inputs))


def shown(value: Any) -> Array:
    """An array or tensor, as a user's preprocessing may return it, as a NumPy array."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def dump(model: nn.Module, names: Collection[str] | None = None) -> Iterator[tuple[str, Array]]:
    """Copies of parameters and statistics, one at a time: all, or the named ones."""
    for each in layouts.held(model):
        if names is None or each.name in names:
            yield each.name, each.read()


def load(model: nn.Module, arrays: Mapping[str, Array]) -> None:
    """Set the named parameters; all others stay as they are.

    Raises:
        KeyError: a name that the model does not have.
        ValueError: a shape that does not fit.
    """
    known = {each.name: each for each in layouts.held(model)}
    for name, array in arrays.items():
        known[name].write(array)


def read_checkpoint(model: nn.Module, path: Path) -> None:
    """Load a state dict, ``.pt``, ``.pth`` or ``.safetensors``, into the model, without running code from it.

    Raises:
        BadInput: it cannot be read, or does not fit.
    """
    user_code.require_checkpoint(path)
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own words advise to read it with the code that it holds.
        raise BadInput(
            f"{path} cannot be read as weights without running code from it ({type(error).__name__}); "
            "save model.state_dict() alone, with torch.save or as .safetensors."
        ) from error
    if not isinstance(state, Mapping):
        raise BadInput(f"{path} holds {type(state).__name__}, no state dict; save model.state_dict().")
    state = state.get("state_dict", state)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise user_code.does_not_fit(path, error) from error


def write_checkpoint(model: nn.Module, path: Path) -> None:
    """Write the model's weights as a state dict."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(
            {name: each.clone().contiguous() for name, each in model.state_dict().items()}, path
        )
    else:
        torch.save(model.state_dict(), path)


def silence(model: nn.Module) -> None:
    """Switch off everything random that is a layer of its own, in training mode too."""
    for module in model.modules():
        if layer_kinds.kind_of(module) == "dropout" or type(module).__name__ in _DROPS:
            for rate in _RATES:
                if hasattr(module, rate):
                    setattr(module, rate, 0.0)
        if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            module.dropout = 0.0


def amend(model: nn.Module, amendment: Amendment) -> None:
    """Change one thing about one layer, as ``LayerRecord.config`` names it.

    Raises:
        ValueError: it cannot be changed there.
    """
    subject_amendments.amend(model, amendment, subject_layers.modules_of(model))


def forward(model: nn.Module, inputs: Sequence[Array], training: bool, watch: Watch | None = None) -> list[Array]:
    """Outputs of the model, in inference mode or in training mode, without gradients. Statistics stay as they were."""
    before = [each.clone() for each in model.buffers()] if training else []
    with torch.no_grad():
        if watch is None:
            outputs = subject_layers.tensors(subject_watch.called(model, _tensors(inputs), training))
        else:
            outputs, _ = subject_watch.watched(model, _tensors(inputs), training, watch)
        for buffer, value in zip(model.buffers(), before, strict=False):
            buffer.copy_(value)
    found = canonical_outputs(model, outputs)
    return [np.ascontiguousarray(each.detach().cpu().numpy()) for each in found]


def call(model: nn.Module, layer: str, inputs: Sequence[Array]) -> list[Array] | None:
    """A layer alone, in inference mode, with canonical inputs, to canonical outputs; None where it cannot be."""
    return subject_layers.alone(model, layer, _tensors(inputs))


def inputs_of(model: nn.Module, inputs: Sequence[Array], watch: Callable[[str, list[Array]], None]) -> None:
    """Put inputs through the model, in inference mode; ``watch`` hears the canonical inputs of every layer."""
    subject_watch.watched(model, _tensors(inputs), False, None, watch)


def trainer(
    model: nn.Module,
    recipe: Recipe,
    loss: Callable[[Any, Any], Any] | None,
    optimizer: Callable[[Any], Any] | None,
    training_mode: bool,
) -> SubjectTraining:
    """A trainer of everything in the model that trains."""
    return SubjectTraining(model, recipe, loss, optimizer, training_mode)


def _tensors(inputs: Sequence[Array]) -> list[Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(each)) for each in inputs]
