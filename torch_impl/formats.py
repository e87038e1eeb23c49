"""torch's file formats: ``.safetensors``, ``.pth`` and ``.pt``, each a state_dict. Reading never runs code from a file.

What is in a file, under the names that it has there; ``files.py`` finds the architecture in it.
"""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import safetensors.torch
import torch
from torch import Tensor

from transfer_parity.shared.checkpoints import kept_model, neutral
from transfer_parity.shared.core.errors import BadInput

#: What is written: torch saves states, Keras saves models.
Content: TypeAlias = Mapping[str, Tensor]
#: Keys under which training scripts keep the state_dict beside an optimizer's.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True)
class Opened:
    """What is in a file.

    Attributes:
        state: tensors by their name in the file.
        record: what the file says about itself, or nothing.
    """

    state: Mapping[str, Tensor]
    record: Mapping[str, Any]


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """What is in a file, for as long as the block lasts.

    Raises:
        BadInput: the file is damaged, or holds anything but a state_dict.
    """
    record: Mapping[str, Any] = {}
    try:
        if path.suffix.lower() == ".safetensors":
            record = kept_model.read_record(path)
            state: Any = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except BadInput:
        raise
    except PermissionError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); make it readable.") from None
    except pickle.UnpicklingError:
        # weights_only refuses all code, and advises to do without that protection, which nobody should.
        raise BadInput(
            f"{path} is not a state_dict that can be read safely: it is damaged, or holds objects besides tensors; "
            "save model.state_dict() alone."
        ) from None
    except Exception as error:
        # Whatever the bytes of a broken file happen to mean.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path} is not a state_dict that can be read safely ({reason}); use another file.") from None
    for key in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise BadInput(f"{path} holds something else than a state_dict of tensors; use another file.")
    text = getattr(state, neutral.RECORD, None)
    if isinstance(text, str):
        record = neutral.parsed_record(text, path)
    for key, tensor in state.items():
        if tensor.is_meta:
            raise BadInput(f"{path}: {key} has a shape and no values (device meta); save the model once it has them.")
        # Strides of zero make a few bytes into any size.
        if tensor.layout == torch.strided and tensor.nbytes > tensor.untyped_storage().nbytes():
            raise BadInput(f"{path}: {key} claims {tensor.nbytes} bytes and holds fewer; use another file.")
    yield Opened(state, record)


def write(path: Path, content: Content, record: Mapping[str, Any]) -> None:
    """Write a state_dict in the format that the suffix chooses, and what it is: a record that torch reads over.

    Args:
        path: ends in ``.safetensors``, ``.pth`` or ``.pt``.
        content: what the file is to hold.
        record: strings by name for ``.safetensors``, anything that JSON can say for the others.
    """
    if path.suffix == ".safetensors":
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in content.items()}
        safetensors.torch.save_file(tensors, path, metadata=dict(record))
        return
    # An OrderedDict may have attributes: torch itself keeps the versions of modules there. load_state_dict ignores it.
    state = OrderedDict(content)
    setattr(state, neutral.RECORD, json.dumps(record))
    torch.save(state, path)
