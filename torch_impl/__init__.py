"""Wing 2: torchvision on PyTorch. Read it side by side with ``tf_impl``: same files, same functions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
import torchvision

from transfer_parity.shared.contract.batches import Batch
from transfer_parity.shared.contract.engines import Engine
from transfer_parity.shared.contract.jobs import Runtime
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.spec import ModelSpec
from transfer_parity.shared.contract.wing import Array, Differentiated, ForeignCheckpoint, Part, Portion, State
from transfer_parity.shared.zoo.pair import Pair
from transfer_parity.torch_impl import data, explain, files, inference, native, trace, training, weights
from transfer_parity.torch_impl.network import Network


class Implementation:
    """Fulfils ``shared.contract.Implementation`` for PyTorch."""

    framework: Framework = "torch"

    def configure(self, threads: int, precision: str, device: str, runtime: Runtime = "tuned") -> None:
        """Set threads, floating-point type and device, once, before anything is built."""
        self.stock = runtime == "stock"
        if not self.stock:
            torch.set_num_threads(threads)
            torch.set_num_interop_threads(1)
        self.device = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else "cpu")
        # float32 means float32: TF32 would keep only 10 bits of the mantissa on recent GPUs.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        # bfloat16 is the backbone's arithmetic; weights, head and optimizer stay float32.
        self.reduced = torch.bfloat16 if precision == "bfloat16" else None
        torch.set_default_dtype(torch.float64 if precision == "float64" else torch.float32)

    def environment(self) -> tuple[dict[str, str], str]:
        """Versions by package, and the device in words."""
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return {"torch": torch.__version__, "torchvision": torchvision.__version__}, device

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def build(self, spec: ModelSpec) -> Network:
        """A network whose weights are still to be loaded."""
        return Network(spec, self.device, self.reduced, self.stock)

    def shapes(self, network: Network) -> dict[str, tuple[int, ...]]:
        """Neutral name and shape (torch's layout) of every parameter and running statistic."""
        return weights.shapes(network)

    def load(self, network: Network, arrays: Mapping[str, Array]) -> None:
        """Set the named parameters; all others stay as they are."""
        weights.load(network, arrays)

    def dump(self, network: Network, names: Collection[str] | None = None) -> dict[str, Array]:
        """Parameters and running statistics by neutral name, in torch's layout: all, or the named ones."""
        return weights.dump(network, names)

    def engines(self, network: Network, part: Part) -> tuple[Engine, ...]:
        """The ways to run a part in inference mode here; the first is the network as it is."""
        return inference.engines(network, part)

    def infer(
        self, network: Network, part: Part, batches: Iterable[Array], engine: str | None = None
    ) -> Iterator[Array]:
        """Outputs for each batch of inputs, in inference mode."""
        return inference.infer(network, part, batches, engine)

    def multiply_adds(self, network: Network, part: Part) -> int:
        """Multiplications with weights in the convolutions and dense layers of a part that takes images, for one."""
        return inference.multiply_adds(network, part)

    def matrix_product_rate(self, network: Network) -> float:
        """Multiply-adds a second of a large matrix product, the machine's ceiling for this framework."""
        return inference.matrix_product_rate(network)

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
        return training.train(network, part, trainable, batch_norm_trains, recipe, batches, on_step)

    def names(self, network: Network) -> dict[str, str]:
        """The framework's own name of every layer and parameter, by neutral name."""
        return trace.names(network)

    def own_images(self, pictures: Sequence[Path], images: Array, resize: int, switches: frozenset[str]) -> Array:
        """The images, with what is switched on (decoding, resizing) done by the framework itself."""
        return native.own_images(pictures, images, resize, switches)

    def seed(self, network: Network, seed: int) -> None:
        """Seed the framework's own generators, those of a network's layers among them."""
        native.seed(network, seed)

    def own_order(self, images: int, epochs: int) -> Array:
        """Places of the training images in the order of every epoch, as the framework shuffles; (epochs, images)."""
        return native.own_order(images, epochs)

    def own_flips(self, images: int, epochs: int) -> Array:
        """Which images are mirrored in every epoch, as the framework draws it; bool (epochs, images)."""
        return native.own_flips(images, epochs)

    def own_weights(self, network: Network, names: Collection[str]) -> dict[str, Array]:
        """The named parameters and statistics as the framework itself initialises them, in torch's layout."""
        return native.own_weights(network, names)

    def preprocess(self, network: Network, images: Array) -> Array:
        """uint8 images (b, S, S, 3) as the network gets them, (b, S, S, 3)."""
        return trace.preprocess(network, images)

    def activations(self, network: Network, images: Array) -> dict[str, Array]:
        """Outputs of every layer that holds parameters, in inference mode."""
        return trace.activations(network, images)

    def differentiate(self, network: Network, recipe: Recipe, batch: Batch, batch_norm_trains: bool) -> Differentiated:
        """One forward and backward pass with all parameters trainable."""
        return trace.differentiate(network, recipe, batch, batch_norm_trains)

    def optimize(
        self, network: Network, recipe: Recipe, gradients: Iterable[Mapping[str, Array]], rates: Sequence[float]
    ) -> Iterator[Iterator[State]]:
        """Steps of the recipe's optimizer from a fresh state along given gradients."""
        return trace.optimize(network, recipe, gradients, rates)

    def class_gradients(self, network: Network, images: Array, classes: Array) -> tuple[Array, Array]:
        """The backbone's last feature map, and the gradient of each image's class logit with respect to it."""
        return explain.class_gradients(network, images, classes)

    def save(self, network: Network, path: Path, metadata: Mapping[str, str]) -> Path:
        """Keep the network as a state_dict in safetensors; ``torch_impl.weights.restore`` builds it again."""
        return weights.save(network, path, metadata)

    def download(self, pair: Pair) -> dict[str, Array]:
        """torchvision's own ImageNet weights with their classifier, by neutral name."""
        return weights.download(pair)

    def read_checkpoint(self, path: Path, pair: Pair) -> ForeignCheckpoint:
        """The arrays of a torchvision state_dict: ``.pth``, ``.pt`` or safetensors, without running code from it."""
        return files.read_checkpoint(path, pair)

    def write_checkpoint(self, path: Path, arrays: Mapping[str, Array], metadata: Metadata, spec: ModelSpec) -> None:
        """Write arrays in the framework's own format, which the suffix chooses, with a record of what they are."""
        files.write_checkpoint(path, arrays, metadata, spec)

    def data_set(self, name: str, folder: Path) -> dict[str, Portion]:
        """One of torchvision's own data sets, its training and its test images."""
        return data.data_set(name, folder)
