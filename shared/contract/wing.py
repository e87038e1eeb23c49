"""What a wing must offer, module by module."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.engines import Engine
from transfer_parity.shared.contract.jobs import Runtime
from transfer_parity.shared.contract.learners import LearnerName, LearnerSettings, Pairs, Tasks
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing_values import Array as Array
from transfer_parity.shared.contract.wing_values import Differentiated, ForeignCheckpoint, Portion, State
from transfer_parity.shared.contract.wings import WingInfo
from transfer_parity.shared.zoo.pair import Pair

Part = Literal["features", "head", "all", "frozen", "trainable"]


class DeviceModule(Protocol):
    """``device.py``: threads, floating-point type and device of the process."""

    def configure(self, threads: int, precision: str, device: str, runtime: Runtime = "tuned") -> None:
        """Set threads, floating-point type and device, once, before anything is built.

        Stock leaves threads and layout as the framework has them when it is installed.
        """

    def environment(self) -> tuple[dict[str, str], str]:
        """Versions by package, and the device in words."""

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it."""


class NetworkModule(Protocol):
    """``network.py``: a backbone and a head, connected."""

    def build(self, spec: ModelSpec) -> Any:
        """A network whose weights are still to be loaded."""


class WeightsModule(Protocol):
    """``weights.py``: neutral arrays to the framework's variables, and back."""

    def shapes(self, network: Any) -> dict[str, tuple[int, ...]]:
        """Neutral name and shape (torch's layout) of every parameter and running statistic."""

    def load(self, network: Any, arrays: Mapping[str, Array]) -> None:
        """Set the named parameters; all others stay as they are."""

    def dump(self, network: Any, names: Collection[str] | None = None) -> dict[str, Array]:
        """Parameters and running statistics by neutral name, in torch's layout: all, or the named ones."""

    def save(self, network: Any, path: Path, metadata: Mapping[str, str]) -> Path:
        """Keep the network in the framework's own format, as ``path`` with the fitting suffix."""

    def restore(self, path: Path) -> tuple[Any, list[str]]:
        """A network as ``save`` kept it, and the names of its classes.

        Raises:
            BadInput: the file is damaged, or not that of a kept model.
        """

    def download(self, pair: Pair) -> dict[str, Array]:
        """The framework's own ImageNet weights with their classifier, by neutral name.

        Raises:
            OSError: they cannot be fetched.
        """


class TrainingModule(Protocol):
    """``training.py``: losses, optimizers and steps."""

    def train(
        self,
        network: Any,
        part: Part,
        trainable: frozenset[str],
        batch_norm_trains: bool,
        recipe: Recipe,
        batches: Iterable[Batch],
        on_step: Callable[[], None],
    ) -> list[float]:
        """Train the named parameters on the batches, from a fresh optimizer state. Returns the loss of every step."""

    def state(self, network: Any) -> dict[str, Array]:
        """What the objective of the latest training keeps from step to step, by neutral name, in torch's layout."""


class InferenceModule(Protocol):
    """``inference.py``: forward passes, and the ways to run them."""

    def engines(self, network: Any, part: Part, in_float64: bool = False) -> tuple[Engine, ...]:
        """The ways to run a part in inference mode here; the first is the network as it is.

        ``in_float64``: whether to name those, too, that are not offered in float64 and yet compute in it.
        """

    def infer(self, network: Any, part: Part, batches: Iterable[Array], engine: str | None = None) -> Iterator[Array]:
        """Outputs for each batch of inputs, in inference mode, with one of ``engines`` (by default the first)."""

    def multiply_adds(self, network: Any, part: Part) -> int:
        """Multiplications with weights in the convolutions and dense layers of a part that takes images, for one."""

    def matrix_product_rate(self, network: Any) -> float:
        """Multiply-adds a second of a large matrix product, the machine's ceiling for this framework."""


class FilesModule(Protocol):
    """``files.py``: checkpoints in the framework's own formats."""

    def read_checkpoint(self, path: Path, pair: Pair) -> ForeignCheckpoint:
        """The arrays of a checkpoint in the framework's own format, by neutral name, without running code from it.

        Raises:
            BadInput: the file is damaged or holds something else.
        """

    def write_checkpoint(self, path: Path, arrays: Mapping[str, Array], metadata: Metadata, spec: ModelSpec) -> None:
        """Write arrays in the framework's own format, which the suffix chooses, with a record of what they are."""


class DataModule(Protocol):
    """``data.py``: data sets that the framework offers."""

    def data_set(self, name: str, folder: Path) -> dict[str, Portion]:
        """A classification data set that the framework offers, downloaded into the folder or into its own cache.

        Returns:
            "train", and "test" if the set itself has test images.

        Raises:
            BadInput: there is no such set, or it is not one of labelled images.
            OSError: it cannot be fetched.
        """


class TraceModule(Protocol):
    """``trace.py``: activations, gradients and optimizer state for the ladder."""

    def names(self, network: Any) -> dict[str, str]:
        """The framework's own name of every layer and parameter, by neutral name."""

    def preprocess(self, network: Any, images: Array) -> Array:
        """uint8 images (b, S, S, 3) as the network gets them, (b, S, S, 3)."""

    def structure(self, network: Any) -> list[str]:
        """Names of all that ``activations`` finds, in the order of the forward pass."""

    def activations(self, network: Any, images: Array) -> dict[str, Array]:
        """Outputs of layers and entries in inference mode; see ``Differentiated``."""

    def differentiate(self, network: Any, recipe: Recipe, batch: Batch, batch_norm_trains: bool) -> Differentiated:
        """One pass with all parameters trainable. Running statistics learn if normalisation trains."""

    def gradients(
        self,
        network: Any,
        part: Part,
        trainable: frozenset[str],
        batch_norm_trains: bool,
        recipe: Recipe,
        batch: Batch,
    ) -> tuple[float, dict[str, Array]]:
        """Loss of a batch and its gradients by the named parameters, in torch's layout, as ``training.train`` has them.

        Running statistics learn if normalisation trains.
        """

    def optimize(
        self,
        network: Any,
        recipe: Recipe,
        gradients: Iterable[Mapping[str, Array]],
        rates: Sequence[float],
        sample: Callable[[Array], Array],
        trainable: frozenset[str] | None = None,
    ) -> Iterator[list[State]]:
        """Steps of the recipe's optimizer from a fresh state along given gradients.

        Args:
            network: its parameters are changed.
            recipe: its optimizer.
            gradients: of every step, by neutral name, in torch's layout.
            rates: learning rate of every step.
            sample: copies what is wanted of an array. It is called at once for one array after the other, so that
                memory stays flat: of the largest networks state and parameters take gigabytes.
            trainable: neutral names of what the optimizer is built for; None for all.

        Yields:
            After every step what the optimizer holds, then the parameters.
        """

    def optimize_learner(
        self,
        learner: Any,
        gradients: Iterable[Mapping[str, Array]],
        rates: Sequence[float],
        sample: Callable[[Array], Array],
    ) -> Iterator[list[State]]:
        """The same of a ``Learner`` that has done no step yet, all of whose arrays train."""


class ExplainModule(Protocol):
    """``explain.py``: the last feature map and its gradient."""

    def class_gradients(self, network: Any, images: Array, classes: Array) -> tuple[Array, Array]:
        """The backbone's last feature map, and the gradient of each image's class logit with respect to it.

        Args:
            network: with one of the recipe's heads.
            images: uint8 (b, S, S, 3).
            classes: index of the class to explain for each image, int64 (b,).

        Returns:
            Activations and gradients in inference mode, both (b, h, w, c); ``shared.evaluation.gradcam`` makes maps of
            them.

        Raises:
            ValueError: the network ends in the architecture's own classifier.
        """


class NativeModule(Protocol):
    """``native.py``: what the framework does by itself where nobody tells it otherwise."""

    def seed(self, network: Any, value: int) -> None:
        """Seed the framework's own generators (order, flips, weights) and those of a network's layers (dropout)."""

    def decode_jpeg(self, path: Path) -> Array:
        """A JPEG file as the framework decodes it: RGB pixels (h, w, 3), uint8."""

    def squash(self, pixels: Array, size: int) -> Array:
        """An image (h, w, 3), uint8, resized to (size, size, 3) as the framework does, without antialiasing."""

    def shuffled_order(self, images: int, epochs: int) -> Array:
        """Places of the training images in the order of every epoch, as the framework shuffles; (epochs, images)."""

    def random_flips(self, images: int, epochs: int) -> Array:
        """Which images are mirrored in every epoch, as the framework draws it; bool (epochs, images)."""

    def initial_weights(self, network: Any, names: Collection[str]) -> dict[str, Array]:
        """The named parameters and statistics as the framework itself initialises them, in torch's layout."""


class Learner(Protocol):
    """A method that learns from base classes how to learn novel ones (``episodes.py``)."""

    def arrays(self) -> dict[str, Array]:
        """What has been learned, by neutral name (``shared/contract/learners.py``)."""

    def step(self, batch: Tasks | Pairs) -> float:
        """One step of the optimizer on a batch of the method's kind. Returns the loss before it."""

    def gradients(self, batch: Tasks | Pairs) -> tuple[float, dict[str, Array]]:
        """Loss of a batch and its gradients by neutral name, as a step has them."""

    def logits(self, tasks: Tasks) -> Array:
        """Logits of the queries of some tasks, (T, m, ways)."""


class EpisodesModule(Protocol):
    """``episodes.py``: methods that learn from base classes, on frozen features."""

    def learner(self, name: LearnerName, start: Mapping[str, Array], settings: LearnerSettings, recipe: Recipe) -> Any:
        """A ``Learner`` that sets out from these arrays, with the recipe's optimizer and learning rate."""


@dataclass(frozen=True)
class Wing:
    """A wing: who it is, and its modules. The harness reaches the framework through nothing else.

    A network is the wing's own type; the caller only hands it on. ``part`` chooses what of a network is meant:
    "features" (uint8 images to the head's input), "head" (the head's input to logits) or "all" (uint8 images to
    logits). "frozen" and "trainable" are another cut in two, behind the frozen stages. Features and feature maps are
    (N, C) and (N, H, W, C) in every wing.
    """

    info: WingInfo
    device: DeviceModule
    network: NetworkModule
    weights: WeightsModule
    training: TrainingModule
    inference: InferenceModule
    files: FilesModule
    data: DataModule
    trace: TraceModule
    explain: ExplainModule
    native: NativeModule
    episodes: EpisodesModule
