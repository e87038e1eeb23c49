"""Data sets by name. Those of the frameworks are stand-ins here: made-up classes that are used as the real ones are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, SMALL, Command
from tests.test_bad_input import NO_NETWORK, assert_refused
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.data import folders, pixel_cache
from transfer_parity.shared.data.storage import Files
from transfer_parity.shared.runtime import launch, resolve_dataset

#: torch's wing with more data sets in torchvision: files in splits, as Flowers102 and DTD have them; arrays with a
#: switch for training, as CIFAR10 has them; and some that are not for classification.
MORE_SETS = """
from collections.abc import Callable
from pathlib import Path

import torchvision
from PIL import Image
from torchvision.datasets import FakeData, VisionDataset
from torchvision.datasets.folder import default_loader
from torchvision.datasets.utils import verify_str_arg


class Meadow(VisionDataset):
    classes = ["rose", "A/B", "iris"]

    def __init__(self, root, split="train", transform=None, download=False, loader=default_loader):
        super().__init__(root)
        verify_str_arg(split, "split", ("train", "val", "test"))
        self.loader, self.files = loader, []
        for number in range({"train": 9, "val": 1, "test": 6}[split]):
            path = Path(root) / "meadow" / f"{split}{number}.bmp"
            path.parent.mkdir(exist_ok=True)
            if download:
                Image.new("L", (40, 40), 10 * (number % 3) + (split == "test")).save(path)
            self.files.append(str(path))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.loader(self.files[index]), index % 3


class Noise(FakeData):
    def __init__(self, root, train=True, transform=None, download=False):
        super().__init__(6 if train else 4, (3, 32, 32), 3)


class Boxes(Noise):
    def __getitem__(self, index):
        return super().__getitem__(index)[0], {"boxes": []}


class Halves(Noise):
    def __init__(self, root, split="left", download=False):
        verify_str_arg(split, "split", ("left", "right"))


for each in (Meadow, Noise, Boxes, Halves):
    setattr(torchvision.datasets, each.__name__, each)
torchvision.datasets.__all__ += ("Meadow", "Noise", "Boxes", "Halves")
"""


@pytest.fixture
def more_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package_of: Callable[[str, str], None]) -> None:
    """torchvision has more data sets, in the worker's process only."""
    (tmp_path / "more_sets.py").write_text(
        f"{MORE_SETS}\n"
        "if __name__ == '__main__':\n"
        "    from transfer_parity.shared.runtime import worker\n"
        "    from transfer_parity.torch_impl.wing import WING\n"
        "    worker.main(WING)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    package_of("torch", "more_sets")


def test_a_set_of_torchvision(more_sets: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, told = Cache(tmp_path / "cache"), set[str]()
    data = resolve_dataset.load(
        "torchvision:meadow", cache, lambda what, done, total: told.add(f"{what} {done}/{total}")
    )
    assert (data.name, data.classes) == ("torchvision:meadow", ("A-B", "iris", "rose"))
    assert {"writing train images of meadow 9/9", "writing test images of meadow 6/6"} <= told
    assert data.is_test is not None
    # Files are taken as they are.
    assert isinstance(data.pictures, Files)
    assert {path.suffix for path in data.pictures.paths} == {".bmp"}
    _, path = pixel_cache.pixels(data, 32, 32, cache)
    # Grey says class and part: 0, 10 and 20 for rose, A/B and iris, and 1 more for test images.
    shade = np.array([10, 20, 0])[data.labels] + data.is_test
    np.testing.assert_array_equal(np.load(path)[:, 16, 16, 0], shade)
    assert np.bincount(data.labels[data.is_test]).tolist() == [2, 2, 2]
    assert len(data) == 15
    monkeypatch.setattr(launch, "run", lambda *arguments: pytest.fail("fetched twice"))
    assert len(resolve_dataset.load("torchvision:Meadow", cache)) == 15
    assert not list((cache.root / "data").rglob(".fetching-*"))


def test_a_set_of_a_framework_and_no_network(command: Command, tmp_path: Path) -> None:
    outcome = command(
        "--data", "torchvision:Flowers102", *SMALL, "--cache-dir", tmp_path / "empty", environment=NO_NETWORK
    )
    assert_refused(outcome, "the data set Flowers102 is not in the cache", "connect to the network once")
    assert not list((tmp_path / "empty" / "data").iterdir())


ASK = """
import json, sys
from pathlib import Path
from transfer_parity.shared.runtime import export_dataset
from transfer_parity.shared.core.errors import BadInput

def answers(wing, names):
    for name in names:
        folder = Path(sys.argv[1]) / name
        folder.mkdir()
        try:
            export_dataset.export(wing, name, folder, lambda phase, total: lambda steps: None)
        except BadInput as error:
            yield str(error)
        else:
            yield ""

print(json.dumps(list(answers(WING, sys.argv[2:]))))
"""


def ask(program: str, folder: Path, *names: str) -> list[str]:
    """What a wing says to each name of a data set, an empty string if it has written it into a folder of that name."""
    finished = subprocess.run(
        [sys.executable, "-c", f"{program}\n{ASK}", str(folder), *names],
        cwd=ROOT,
        env=os.environ | NO_NETWORK | {"KERAS_HOME": str(folder / "keras-home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    found: list[str] = json.loads(finished.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_what_torchvision_offers(tmp_path: Path) -> None:
    asked = ("Noise", "Boxes", "Halves", "Flower102", "Cityscapes", "Kinetics", "CIFAR10", "MNIST")
    program = f"{MORE_SETS}\nfrom transfer_parity.torch_impl.wing import WING"
    noise, boxes, halves, flower, cityscapes, kinetics, cifar, mnist = ask(program, tmp_path, *asked)
    assert noise == ""
    assert "Boxes does not have one class for each image" in boxes
    assert "Halves has no split train or trainval" in halves
    assert "Valid values are {'left', 'right'}" in halves
    assert "did you mean 'Flowers102'?" in flower
    assert "torchvision has no data set 'Cityscapes' that it downloads by its name alone" in cityscapes
    assert "'Kinetics'" in kinetics
    assert "CIFAR10 is not in the cache, and torch cannot download it (" in cifar
    assert "refused" in mnist
    assert "\n" not in mnist
    data = folders.from_folder(tmp_path / "Noise" / "images")
    assert set(data.classes) <= {"000", "001", "002"}
    assert data.is_test is not None
    assert (len(data), int(data.is_test.sum())) == (10, 4)


@pytest.mark.slow
def test_what_keras_offers(tmp_path: Path) -> None:
    program = """
from transfer_parity.tf_impl.wing import WING
import keras, numpy
labels = numpy.array([[7], [3], [7]], dtype="uint8")
pixels = numpy.arange(3 * 32 * 32 * 3, dtype="uint32").reshape(3, 32, 32, 3).astype("uint8")
keras.datasets.cifar10.load_data = lambda: ((pixels, labels), (pixels[:2], labels[:2]))
"""
    cifar, mnist, imdb = ask(program, tmp_path, "CIFAR-10", "mnist", "imdb")
    assert cifar == ""
    assert "mnist is not in the cache, and tensorflow cannot download it" in mnist
    assert "Keras has no data set of images 'imdb'; choose from cifar10, cifar100, fashion_mnist, mnist" in imdb
    data = folders.from_folder(tmp_path / "CIFAR-10" / "images")
    assert data.classes == ("003", "007")
    assert isinstance(data.pictures, Files)
    assert [str(path.relative_to(data.pictures.root)) for path in data.pictures.paths] == [
        "train/003/000001.png",
        "train/007/000000.png",
        "train/007/000002.png",
        "test/003/000001.png",
        "test/007/000000.png",
    ]
    _, path = pixel_cache.pixels(data, 32, 32, Cache(tmp_path / "cache"))
    expected = np.arange(3 * 32 * 32 * 3).astype(np.uint8).reshape(3, 32, 32, 3)
    np.testing.assert_array_equal(np.load(path), expected[[1, 0, 2, 1, 0]])


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("cifar-10", "did you mean 'cifar10'"),
        ("chestxray", "did you mean 'chest_xrays'"),
        ("torchvison:MNIST", "did you mean 'torchvision:MNIST'"),
        ("nowhere", "choose from flowers, cifar10, chest_xrays, solar_cells, torchvision:NAME, keras:NAME"),
        ("torchvision:", "says no name"),
        ("keras:../..", "says no name"),
    ],
)
def test_unknown_names(name: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=complaint):
        resolve_dataset.load(name, Cache(tmp_path))
