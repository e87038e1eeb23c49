"""What the parent asks of a framework's process (Job), what comes back (Result), and what a wing must offer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from shared import checkpoint, zoo
from shared.engines import Engine
from shared.plan import Batch
from shared.recipe import Framework, Recipe, Shots
from shared.rungs import Rung
from shared.spec import ModelSpec
from shared.timing import StepTimes

Part = Literal["features", "head", "all", "trunk", "tail"]
Runtime = Literal["tuned", "stock"]
ClassifierChoice = Literal["auto", "required", "none"]
Array = NDArray[Any]
Network = TypeVar("Network")
#: Seconds; what a phase includes is told in docs/comparison.md.
PHASES = ("start", "build", "weights", "features", "training", "inference")


class Cell(BaseModel):
    """One run: one subset, one seed, pretrained or not.

    Attributes:
        id: name of its folder below the job's.
        plan: file of its plan, relative to the job's folder.
        save_model: whether the trained model is kept in the framework's own format.
        explain: images to be explained by class-activation maps of the trained model, as indices of the data set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    pretrained: bool
    shots: Shots
    seed: int
    plan: str
    save_model: bool = False
    explain: tuple[int, ...] = ()


class Case(BaseModel):
    """One wing's part of a climb: a model, its data, and what to do differently.

    Attributes:
        id: name of its folder below the job's.
        recipe: backbone, sizes, loss, and the trajectory's optimizer and schedule.
        semantics: under which random weights are meant; a checkpoint brings its own.
        own_classifier: whether the architecture's own classifier stands on the backbone, not the recipe's head.
        classes: number of them.
        seed: of everything random.
        switches: what this wing is to do as the other framework does it.
        checkpoint: neutral checkpoint, or None for random weights that look trained.
        images: uint8 array (N, S, S, 3) as .npy; labels: int64 (N,) as .npy; plan: .npz; pictures: the files that the
            images were read from.
        until: last rung to climb.
        skip: rungs to leave out; loss and gradients go together.
        measures_rounding: whether to repeat the passes with moved weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    recipe: Recipe
    semantics: zoo.Semantics
    own_classifier: bool
    classes: int
    seed: int
    switches: tuple[str, ...] = ()
    checkpoint: Path | None = None
    images: Path
    labels: Path
    plan: Path
    pictures: tuple[Path, ...]
    until: Rung = "metrics"
    skip: frozenset[Rung] = frozenset()
    measures_rounding: bool = False


class Job(BaseModel):
    """What one process does. Written as ``job.json`` into the job's folder, where the results go too.

    Attributes:
        kind: "compare" runs cells; "features" only puts their images through the frozen backbone; "download" fetches
            the framework's own ImageNet weights; "import" turns the file ``checkpoint`` (in the framework's own format)
            into a neutral one. Both write ``weights.safetensors``. "export" writes the neutral ``checkpoint`` as
            ``exported`` plus ``suffix``, and imports that again; "run" only puts images through a neutral checkpoint.
            "trace" climbs the parity ladder for every case. "data_set" downloads a data set that the framework offers.
        images: uint8 array (N, S, S, 3) as .npy, read a batch at a time.
        labels: int64 array (N,) as .npy.
        classes: their names, in label order.
        checkpoint: neutral checkpoint for the pretrained cells, or the file to import.
        semantics: of an imported file that does not say which it has; by default the framework's own.
        classifier: whether an imported file's own classifier is taken if there is one, must be there, or is left out.
        suffix: of the exported file, which chooses the format.
        probe: whether "import" and "export" put images through what they read, as "run" does.
        runtime: "tuned", or "stock": the framework as it is installed.
        store: folder for what frozen layers put out, kept for later runs; without one it is forgotten.
        data_digest: of the decoded images, as a key of that folder.
        data_set: name of the framework's own data set.
        switches: of the cells: what this wing is to do by itself, or as the other framework does it.
        pictures: the files of all images, for a wing that is to read them itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["compare", "features", "download", "import", "export", "run", "trace", "data_set"]
    recipe: Recipe
    threads: int
    classes: tuple[str, ...] = ()
    images: Path | None = None
    labels: Path | None = None
    checkpoint: Path | None = None
    semantics: zoo.Semantics | None = None
    classifier: ClassifierChoice = "auto"
    suffix: str = ""
    probe: bool = False
    runtime: Runtime = "tuned"
    store: Path | None = None
    data_digest: str = ""
    data_set: str = ""
    switches: tuple[str, ...] = ()
    pictures: tuple[Path, ...] = ()
    cells: tuple[Cell, ...] = ()
    cases: tuple[Case, ...] = ()


class Imported(BaseModel):
    """What a worker says about a file that it brought into the neutral format, in ``imported.json``.

    Attributes:
        left_over: shape of every array that is not part of the architecture, by its name in the file.
        folded: neutral names of convolution biases that went into running means.
        classes: of the architecture's own classifier, or None without one.
        image_size: side in pixels of the images that the model is built for.
    """

    model_config = ConfigDict(extra="forbid")

    left_over: dict[str, tuple[int, ...]]
    folded: tuple[str, ...]
    classes: int | None
    image_size: int


class CellResult(BaseModel):
    """What a worker says about one finished cell.

    Beside it lie ``logits.npy`` and ``losses.npy``; of a job of kind "features", ``train.npy`` and ``test.npy``.

    If it was asked to explain n images, ``explained.npy`` does, too: maps of their true classes in the order of
    ``Cell.explain``, float32 (n, h, w), 0 to 1 (see ``shared.explain.class_activation_maps``).

    Attributes:
        phases: seconds by phase; what several cells share (start, build, weights and features of a frozen backbone) is
            given in full to each of them.
        peak_memory_bytes: largest resident memory of the process so far.
        weights_digest: SHA-256 of all weights before the first training step (of the backbone's, if nothing trains);
            equal in both wings.
        model: file of the kept model, relative to the cell's folder.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    phases: dict[str, float]
    peak_memory_bytes: int
    weights_digest: str
    model: str | None = None


class WorkerResult(BaseModel):
    """What a worker says about itself when it is done, in ``result.json``.

    Attributes:
        versions: of the framework and what belongs to it.
        device: what the arithmetic ran on.
        phases: seconds by phase, over all cells, each counted once.
        steps: by phase, how long its batches took.
        engine: how the passes over many images ran, and why; None if there was none.
        engine_reason: why, in a few words.
        multiply_adds: of the layers that the pass led through, for one image.
        ceiling: multiply-adds a second of a large matrix product in this framework, the same number of threads and the
            same floating-point type; None if no pass was made.
        cpu_seconds: processor time of the process, all threads.
        wall_seconds: from the process's start to its last result.
        involuntary_context_switches: how often it lost a core to somebody else.
        others_share: part of the time of all cores that other processes took meanwhile, 0 to 1; the launcher's to say.
    """

    model_config = ConfigDict(extra="forbid")

    versions: dict[str, str]
    device: str
    phases: dict[str, float]
    steps: dict[str, StepTimes] = {}
    engine: str | None = None
    engine_reason: str | None = None
    multiply_adds: int | None = None
    ceiling: float | None = None
    cpu_seconds: float
    wall_seconds: float
    involuntary_context_switches: int
    others_share: float = 0.0
    peak_memory_bytes: int

    @property
    def images_per_second(self) -> float | None:
        """Through the backbone (or its frozen stages) in inference mode, if many images went through it."""
        phase = "features" if "features" in self.steps else "inference"
        return self.steps[phase].images_per_second if self.multiply_adds and phase in self.steps else None

    def efficiency(self, ceiling: float) -> float | None:
        """Multiply-adds a second against a ceiling, 0 to 1 (fused or Winograd arithmetic may exceed it)."""
        if not (self.images_per_second and self.multiply_adds and ceiling):
            return None
        return self.images_per_second * self.multiply_adds / ceiling


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
    recorded: checkpoint.Metadata | None
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

    def download(self, pair: zoo.Pair) -> dict[str, Array]:
        """The framework's own ImageNet weights with their classifier, by neutral name.

        Raises:
            OSError: they cannot be fetched.
        """

    def read_checkpoint(self, path: Path, pair: zoo.Pair) -> ForeignCheckpoint:
        """The arrays of a checkpoint in the framework's own format, by neutral name, without running code from it.

        Raises:
            BadInput: the file is damaged or holds something else.
        """

    def write_checkpoint(
        self, path: Path, arrays: Mapping[str, Array], metadata: checkpoint.Metadata, spec: ModelSpec
    ) -> None:
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
