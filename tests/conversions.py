"""Programs that write checkpoints in one framework's process. For the tests of conversions."""

from __future__ import annotations

from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.zoo.lookup import find_pair

MOBILE = find_pair("MobileNetV3Small")

METADATA = Metadata(backbone="ResNet50", semantics="torchvision")


#: Beginning of a program in one wing's framework: arrays that look trained, in the stock model's names and shapes, and
#: a check that a written file comes back bit by bit, with its record.
COMMON = """
import sys
from pathlib import Path
import numpy as np
from transfer_parity.shared.checkpoints import bias_folding, initialisation
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.recipe_files import validated
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.runtime import checkpoint_io
from transfer_parity.shared.zoo.lookup import find_pair
folder = Path(sys.argv[1])
def recipe_for(name, size):
    return validated({"backbone": name, "image_size": size, "device": "cpu"}, "the test")
def drawn(wing, name, semantics, size, classes=10):
    metadata = Metadata(backbone=name, semantics=semantics, batch_norm_epsilon=0.002, source="test")
    spec = model_spec(recipe_for(name, size), metadata, classes, head="imagenet")
    shapes = wing.weights.shapes(wing.network.build(spec))
    arrays = initialisation.draw_trained_looking_weights(shapes, 0)
    return {key: array.astype(np.float32) for key, array in arrays.items()}, metadata, spec
def same(a, b):
    return a.keys() == b.keys() and all(a[key].tobytes() == b[key].tobytes() for key in a)
def round_trip(wing, path, arrays, metadata, spec):
    wing.files.write_checkpoint(path, arrays, metadata, spec)
    found = wing.files.read_checkpoint(path, spec.pair)
    read, _ = bias_folding.conform(found.arrays, spec.pair, metadata.semantics, "it")
    assert found.recorded == metadata and not found.left_over, path
    return read
"""

#: Writes a stock torchvision model with weights that look trained, and compares two files of it.
WRITE_STATE = """
import sys
import torch
from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.torch_impl import backbone
pair = find_pair(sys.argv[1])
model = backbone.stock(pair, pair.image_size, classifier=True, classes=10)
state = model.state_dict()
shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if tensor.is_floating_point()}
drawn = initialisation.draw_trained_looking_weights(shapes, 0)
state = {name: torch.tensor(drawn[name], dtype=torch.float32) if name in drawn else 0 * state[name] for name in state}
torch.save(state, sys.argv[2])
"""
