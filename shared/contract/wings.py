"""The wings, described without importing a framework: who they are, what they need, what they read and write.

Another column is another entry here and another package beside the two.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from transfer_parity.shared.zoo.pair import Semantics


@dataclass(frozen=True)
class WingInfo:
    """One wing.

    Attributes:
        identifier: its name in recipes, on the command line and in documents; also that of the extra that installs it.
        package: the Python package of its code.
        library: where its architectures and weights come from; also the prefix of its own data sets, and the semantics
            under which its own ImageNet weights were trained.
        title: for headings.
        short: for sentences.
        packages: the distributions that it needs, the framework first; each is imported under the same name.
        reads: suffixes of the checkpoints that it reads, in lower case.
        writes: suffixes of the checkpoints that it writes.
        keeps: suffix of the file in which it keeps a model that it has trained, with its head.
        arithmetic: environment variables with which a user may change its arithmetic, and only its.
        out_of_memory: what is in its exceptions if a device, or the machine, has no more memory to give.
        epsilon: of its Adam where nobody says otherwise.
        channels_first: whether its feature maps have channels in front of their places.
        backends: what may compute for it; the first does where nobody chooses. None where it computes itself.
        backend_variable: environment variable that chooses; empty where there is nothing to choose.
        models: suffixes of checkpoints of a user's own model that it loads and writes, its own first.
    """

    identifier: Framework
    package: str
    library: Semantics
    title: str
    short: str
    packages: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    keeps: str
    arithmetic: tuple[str, ...]
    out_of_memory: tuple[str, ...]
    epsilon: float
    channels_first: bool
    backends: tuple[str, ...]
    backend_variable: str
    models: tuple[str, ...]


KERAS = WingInfo(
    identifier="tensorflow",
    package="transfer_parity.tf_impl",
    library="keras",
    title="Keras on TensorFlow",
    short="TensorFlow",
    packages=("tensorflow", "keras"),
    reads=(".h5", ".hdf5", ".keras"),
    writes=(".weights.h5", ".h5", ".keras"),
    keeps=".keras",
    arithmetic=("TF_ENABLE_ONEDNN_OPTS",),
    out_of_memory=("ResourceExhaustedError",),
    epsilon=1e-7,
    channels_first=False,
    backends=("tensorflow", "torch"),
    backend_variable="KERAS_BACKEND",
    models=(".weights.h5",),
)
TORCHVISION = WingInfo(
    identifier="torch",
    package="transfer_parity.torch_impl",
    library="torchvision",
    title="torchvision on PyTorch",
    short="PyTorch",
    packages=("torch", "torchvision"),
    reads=(".safetensors", ".pth", ".pt"),
    writes=(".pth", ".pt"),
    keeps=".safetensors",
    arithmetic=(),
    out_of_memory=("OutOfMemoryError", "DefaultCPUAllocator"),
    epsilon=1e-8,
    channels_first=True,
    backends=(),
    backend_variable="",
    models=(".pt", ".pth", ".safetensors"),
)
#: In the order in which tables show them and recipes run them. Differences are the first minus the second.
WINGS: tuple[WingInfo, ...] = (KERAS, TORCHVISION)
#: Whose meaning of a word (momentum, epsilon, padding of random weights) matched runs have, and whose values
#: differences are relative to.
REFERENCE = TORCHVISION
#: For tables of known differences.
TENSORFLOW, TORCH = KERAS.identifier, TORCHVISION.identifier
IDENTIFIERS: tuple[Framework, ...] = tuple(wing.identifier for wing in WINGS)

# Identifier of a wing, as recipes and documents write it: any string to a type checker, which cannot read the table,
# and one of the table's to whoever validates a document.
if TYPE_CHECKING:
    Framework = str
else:
    Framework = Literal[IDENTIFIERS]


def wing(identifier: Framework) -> WingInfo:
    """The wing of an identifier.

    Raises:
        KeyError: there is none.
    """
    for each in WINGS:
        if each.identifier == identifier:
            return each
    raise KeyError(identifier)


def of_library(library: Semantics) -> WingInfo:
    """The wing whose library this is.

    Raises:
        KeyError: there is none.
    """
    for each in WINGS:
        if each.library == library:
            return each
    raise KeyError(library)


def other(wing: WingInfo) -> WingInfo:
    """The first other wing: it checks what this one has written, and has the meaning that a switch takes on."""
    return next(each for each in WINGS if each.identifier != wing.identifier)


def compared(frameworks: Collection[Framework]) -> tuple[WingInfo, WingInfo] | None:
    """The two wings of some frameworks that are set against each other, or None if there is but one.

    They are the first two in the order of ``WINGS``, in which differences and ratios are taken.
    """
    found = [each for each in WINGS if each.identifier in frameworks]
    return (found[0], found[1]) if len(found) > 1 else None


def reader(suffix: str) -> WingInfo | None:
    """The wing that reads checkpoints of a suffix (in lower case), or None."""
    return next((each for each in WINGS if suffix in each.reads), None)


def readable() -> tuple[str, ...]:
    """Suffixes of all checkpoints that some wing reads, in the order in which messages list them."""
    return tuple(suffix for each in _reference_first() for suffix in each.reads)


def writer(suffix: str) -> WingInfo | None:
    """The wing that writes checkpoints of a suffix (in lower case), or None."""
    return next((each for each in WINGS if suffix in each.writes), None)


def writable() -> tuple[str, ...]:
    """Suffixes of all checkpoints that some wing writes, in the order in which messages list them."""
    return tuple(suffix for each in _reference_first() for suffix in each.writes)


def keeper(suffix: str) -> WingInfo | None:
    """The wing that keeps models which it has trained in files of a suffix (in lower case), or None."""
    return next((each for each in WINGS if suffix == each.keeps), None)


def keeping() -> tuple[str, ...]:
    """Suffixes of all files in which some wing keeps what it has trained, in the order in which messages list them."""
    return tuple(each.keeps for each in _reference_first())


def libraries() -> tuple[Semantics, ...]:
    """Libraries that offer weights and data sets, in the order in which messages list them."""
    return tuple(each.library for each in _reference_first())


def _reference_first() -> tuple[WingInfo, ...]:
    return (REFERENCE, *(each for each in WINGS if each.identifier != REFERENCE.identifier))
