"""The walkthroughs do what the harness does: the same logits, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, Command
from tests.processes import python
from tests.test_zoo import write_checkpoint

#: Carries out the recipe that a run of the command has left behind, by the walkthrough's own function.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from transfer_parity.shared.contract import plan, recipe_files
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.data import pixel_cache
from transfer_parity.shared.runtime import resolve_dataset
from transfer_parity.{wing} import device, walkthrough
recipe, cache = recipe_files.read(sys.argv[1], {{}}), Cache(sys.argv[2])
device.configure(recipe.threads, recipe.precision, recipe.device)
data = resolve_dataset.load(recipe.data, cache)
data, pixels = pixel_cache.pixels(data, recipe.resize_to, recipe.stored_size, cache)
drawn = plan.draw_all(recipe, data.labels, data.is_test, list(data.classes))
plans = {{seed: each for (shots, seed), each in drawn.items()}}
checkpoint = Path(recipe.weights)
logits = walkthrough.predict(recipe, np.load(pixels), data.labels, len(data.classes), plans, checkpoint)
np.savez(sys.argv[3], **{{str(seed): each for seed, each in logits.items()}})
print(len(logits))
"""


def test_logits_are_those_of_the_harness(command: Command, photos: Path, cache_dir: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    write_checkpoint(weights, "MobileNetV2", "torchvision")
    chosen = ("--data", photos, "--weights", weights, "--image-size", 64, "--shots", 3, "--no-control")
    # Batches of different sizes, and more than one backbone pass would show in the second seed.
    steps = ("--seeds", 2, "--epochs", 3, "--batch-size", 4, "--inference-batch-size", 7)
    outcome = command(*chosen, *steps, "--threads", 1, "--device", "cpu", "--engine", "plain")
    assert outcome.status in (0, 1), outcome.errors
    for wing, framework in (("tf_impl", "tensorflow"), ("torch_impl", "torch")):
        arrays = tmp_path / f"{wing}.npz"
        python(PROGRAM.format(wing=wing), outcome.folder / "recipe.toml", cache_dir, arrays)
        with np.load(arrays) as found:
            assert sorted(found) == ["0", "1"]
            for seed, logits in found.items():
                (path,) = (outcome.folder / "logits").glob(f"{framework}-*seed{seed}.npy")
                expected = np.load(path)
                assert (logits.shape, logits.dtype) == (expected.shape, expected.dtype)
                assert logits.tobytes() == expected.tobytes()
                assert len(set(logits.argmax(axis=1))) > 1


@pytest.mark.network
def test_both_walkthroughs_print_the_same_accuracy(tmp_path: Path) -> None:
    """From a checkout's root, and from anywhere."""
    printed = []
    for name, folder in (("tf_impl", ROOT), ("transfer_parity.torch_impl", tmp_path)):
        command = [sys.executable, "-m", f"{name}.walkthrough"]
        finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        printed.append(finished.stdout)
    assert printed[0] == printed[1]
    assert printed[0].splitlines()[-1] == "accuracy 0.7975"
