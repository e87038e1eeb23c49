"""What a wing must offer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from numpy.typing import NDArray
from PIL import Image

from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.engines import Engine
from transfer_parity.shared.contract.jobs import Runtime
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.zoo.pair import Pair

Part = Literal["features", "head", "all", "trunk", "tail"]
Array = NDArray[Any]
Network = TypeVar("Network")


@dataclass(frozen=True)
class Differentiated:
    """One forward and backward pass.

    Attributes:
        activations: output of every layer that holds parameters, by neutral name, in the order of the forward pass;
            feature maps are (b, H, W, C), what stands behind the pooling is (b, C).
        loss: of the batch.
        gradients: by neutral name, in torch's layout.
    """

    activations: dict[str, Array]
    loss: float
    gradients: dict[str, Array]


#: What it is ("parameter", "momentum", "first moment", "second moment"), whose (a neutral name), and the values in
#: torch's layout.
State = tuple[str, str, Array]


@dataclass(frozen=True)
class ForeignCheckpoint:
    """What a file in a framework's own format holds.

    Attributes:
        arrays: by neutral name, in torch's layout. Nothing says yet that they fit the architecture.
        recorded: what the file says about itself, if this project wrote it.
        left_over: shapes of arrays that have no neutral name, by their name in the file.
        batch_norm_epsilon: from the model's configuration, if the file has it.
    """

    arrays: dict[str, Array]
    recorded: Metadata | None
    left_over: dict[str, tuple[int, ...]]
    batch_norm_epsilon: float | None = None


@dataclass(frozen=True)
class Portion:
    """The training or the test images of a data set that a framework offers.

    Attributes:
        classes: names by label, or None if it has none.
        total: number of images.
        images: each as a file or decoded, and its label; can be gone through once.
    """

    classes: tuple[str, ...] | None
    total: int
    images: Iterator[tuple[Path | Image.Image, int]]


class Implementation(Protocol[Network]):
    """What a wing offers. ``Network`` is the wing's own type; the caller only hands it on.

    ``part`` chooses what of a network is meant: "features" (uint8 images to the head's input), "head" (the head's input
    to logits) or "all" (uint8 images to logits). "trunk" and "tail" are another cut in two, behind the frozen stages.
    Features and feature maps are (N, C) and (N, H, W, C) on both sides.
    """

    framework: Framework

    def configure(self, threads: int, precision: str, device: str, runtime: Runtime = "tuned") -> None:
        """Set threads, floating-point type and device, once, before anything is built.

        Stock leaves threads and layout as the framework has them when it is installed.
        """

    def environment(self) -> tuple[dict[str, str], str]:
        """Versions by package, and the device in words."""

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it."""

    def build(self, spec: ModelSpec) -> Network:
        """A network whose weights are still to be loaded."""

    def shapes(self, network: Network) -> dict[str, tuple[int, ...]]:
        """Neutral name and shape (torch's layout) of every parameter and running statistic."""

    def load(self, network: Network, arrays: Mapping[str, Array]) -> None:
        """Set the named parameters; all others stay as they are."""

    def dump(self, network: Network, names: Collection[str] | None = None) -> dict[str, Array]:
        """Parameters and running statistics by neutral name, in torch's layout: all, or the named ones."""

    def engines(self, network: Network, part: Part) -> tuple[Engine, ...]:
        """The ways to run a part in inference mode here; the first is the network as it is."""

    def infer(
        self, network: Network, part: Part, batches: Iterable[Array], engine: str | None = None
    ) -> Iterator[Array]:
        """Outputs for each batch of inputs, in inference mode, with one of ``engines`` (by default the first)."""

    def multiply_adds(self, network: Network, part: Part) -> int:
        """Multiplications with weights in the convolutions and dense layers of a part that takes images, for one."""

    def matrix_product_rate(self, network: Network) -> float:
        """Multiply-adds a second of a large matrix product, the machine's ceiling for this framework."""

    def train(
        self,
        network: Network,
        part: Part,
        trainable: frozenset[str],
        batch_norm_trains: bool,
        recipe: Recipe,
        batches: Iterable[Batch],
        on_step: Callable[[], None],
    ) -> list[float]:
        """Train the named parameters on the batches, from a fresh optimizer state. Returns the loss of every step."""

    def names(self, network: Network) -> dict[str, str]:
        """The framework's own name of every layer and parameter, by neutral name."""

    def own_images(self, pictures: Sequence[Path], images: Array, resize: int, switches: frozenset[str]) -> Array:
        """The images (N, S, S, 3), with what is switched on (decoding, resizing) done by the framework itself."""

    def seed(self, network: Network, seed: int) -> None:
        """Seed the framework's own generators (order, flips, weights) and those of a network's layers (dropout)."""

    def own_order(self, images: int, epochs: int) -> Array:
        """Places of the training images in the order of every epoch, as the framework shuffles; (epochs, images)."""

    def own_flips(self, images: int, epochs: int) -> Array:
        """Which images are mirrored in every epoch, as the framework draws it; bool (epochs, images)."""

    def own_weights(self, network: Network, names: Collection[str]) -> dict[str, Array]:
        """The named parameters and statistics as the framework itself initialises them, in torch's layout."""

    def preprocess(self, network: Network, images: Array) -> Array:
        """uint8 images (b, S, S, 3) as the network gets them, (b, S, S, 3)."""

    def activations(self, network: Network, images: Array) -> dict[str, Array]:
        """Outputs of layers in inference mode; see ``Differentiated``."""

    def differentiate(self, network: Network, recipe: Recipe, batch: Batch, batch_norm_trains: bool) -> Differentiated:
        """One pass with all parameters trainable. Running statistics learn if normalisation trains."""

    def optimize(
        self, network: Network, recipe: Recipe, gradients: Iterable[Mapping[str, Array]], rates: Sequence[float]
    ) -> Iterator[Iterator[State]]:
        """Steps of the recipe's optimizer from a fresh state along given gradients.

        Yields:
            After every step the optimizer's state and the parameters, which follow from it, one by one: of the largest
            networks they take gigabytes. An array holds until the next one is asked for.
        """

    def class_gradients(self, network: Network, images: Array, classes: Array) -> tuple[Array, Array]:
        """The backbone's last feature map, and the gradient of each image's class logit with respect to it.

        Args:
            network: with one of the recipe's heads.
            images: uint8 (b, S, S, 3).
            classes: index of the class to explain for each image, int64 (b,).

        Returns:
            Activations and gradients in inference mode, both (b, h, w, c); ``shared.explain`` makes maps of them.

        Raises:
            ValueError: the network ends in the architecture's own classifier.
        """

    def save(self, network: Network, path: Path, metadata: Mapping[str, str]) -> Path:
        """Keep the network in the framework's own format, as ``path`` with the fitting suffix."""

    def download(self, pair: Pair) -> dict[str, Array]:
        """The framework's own ImageNet weights with their classifier, by neutral name.

        Raises:
            OSError: they cannot be fetched.
        """

    def read_checkpoint(self, path: Path, pair: Pair) -> ForeignCheckpoint:
        """The arrays of a checkpoint in the framework's own format, by neutral name, without running code from it.

        Raises:
            BadInput: the file is damaged or holds something else.
        """

    def write_checkpoint(self, path: Path, arrays: Mapping[str, Array], metadata: Metadata, spec: ModelSpec) -> None:
        """Write arrays in the framework's own format, which the suffix chooses, with a record of what they are."""

    def data_set(self, name: str, folder: Path) -> dict[str, Portion]:
        """A classification data set that the framework offers, downloaded into the folder or into its own cache.

        Returns:
            "train", and "test" if the set itself has test images.

        Raises:
            BadInput: there is no such set, or it is not one of labelled images.
            OSError: it cannot be fetched.
        """


AnyImplementation = Implementation[Any]
