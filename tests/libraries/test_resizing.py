"""Resizing, cutting out and mirroring: the project's pixels against torchvision's own, on the same PIL images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.libraries.programs import UNIT32, Answers, ask, away
from transfer_parity.shared.contract.batches import augmented
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.data import images
from transfer_parity.shared.zoo.pair import Pair
from transfer_parity.shared.zoo.pairs import PAIRS

#: Width, height, shorter side, side of the square: shrinking and growing, odd remainders, and no change at all.
CASES = (
    *((100, 80, 37, 32), (81, 100, 37, 32), (301, 203, 64, 51), (203, 301, 64, 51), (97, 97, 96, 95)),
    *((40, 33, 64, 64), (33, 41, 65, 48), (64, 64, 64, 64), (500, 60, 73, 64), (60, 499, 73, 64)),
)
#: Families whose ImageNet weights torchvision evaluates with another size or with bicubic interpolation: different on
#: purpose (docs/differences.md, "What is no switch, and why").
OTHER_PRESETS = {"EfficientNet", "EfficientNetV2", "ConvNeXt"}

_PROGRAM = """
import torch, torchvision
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F
from transfer_parity.shared.zoo.pairs import PAIRS
for number, (path, resize, size) in enumerate(given["cases"]):
    picture = Image.open(path)
    small = F.resize(picture, [resize], interpolation=InterpolationMode.BILINEAR, antialias=True)
    answers[f"small {number}"] = np.asarray(F.center_crop(small, [size, size]))
picture = torch.from_numpy(np.asarray(Image.open(given["cases"][0][0]))).permute(2, 0, 1)
answers["mirrored"] = F.horizontal_flip(picture).permute(1, 2, 0).numpy()
answers["cut"] = F.crop(picture, 5, 9, 40, 40).permute(1, 2, 0).numpy()
answers["cut and mirrored"] = F.horizontal_flip(F.crop(picture, 5, 9, 40, 40)).permute(1, 2, 0).numpy()
for pair in PAIRS:
    preset = torchvision.models.get_model_weights(pair.torchvision_name)["IMAGENET1K_V1"].transforms()
    sizes = [*preset.resize_size, *preset.crop_size, preset.interpolation == InterpolationMode.BILINEAR]
    answers[pair.name] = np.array([*sizes, preset.antialias])
"""


def picture(width: int, height: int) -> Image.Image:
    """Coarse and fine detail."""
    random = np.random.default_rng(width * height)
    coarse = random.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3)).repeat(9, axis=0).repeat(9, axis=1)
    fine = random.integers(-60, 61, (height, width, 3))
    return Image.fromarray(np.clip(coarse[:height, :width] + fine, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resizing")
    for number, (width, height, _, _) in enumerate(CASES):
        picture(width, height).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def answers(folder: Path) -> Answers:
    cases = [[str(folder / f"{number}.png"), case[2], case[3]] for number, case in enumerate(CASES)]
    return ask("torch_impl", _PROGRAM, {"cases": cases}, folder)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_pixels_are_torchvisions(number: int, folder: Path, answers: Answers) -> None:
    """Whole numbers: not one may differ."""
    _, _, resize, size = CASES[number]
    np.testing.assert_array_equal(images.read(folder / f"{number}.png", resize, size), answers[f"small {number}"])


def test_flips_and_crops_are_torchvisions(folder: Path, answers: Answers) -> None:
    pixels = np.asarray(Image.open(folder / "0.png"))[None]
    yes, corner = np.array([True]), np.array([[5, 9]])
    np.testing.assert_array_equal(augmented(pixels, 100, np.array([[0, 0]]), yes)[0], answers["mirrored"])
    np.testing.assert_array_equal(augmented(pixels, 40, corner, None)[0], answers["cut"])
    np.testing.assert_array_equal(augmented(pixels, 40, corner, yes)[0], answers["cut and mirrored"])


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_sizes_are_those_of_torchvisions_weights(pair: Pair, answers: Answers) -> None:
    """Shorter side, crop, interpolation and antialiasing of the preset, but where the project differs on purpose."""
    recipe = Recipe(backbone=pair.name)
    same = answers[pair.name].tolist() == [recipe.resize_to, recipe.size, True, True]
    assert same == (pair.family not in OTHER_PRESETS)


_NATIVE = """
for number, size in enumerate(given):
    pixels = np.random.default_rng(number).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    answers[str(number)] = wing.native.squash(pixels, size)
"""


def bilinear(pixels: NDArray[Any], size: int) -> NDArray[Any]:
    """Each new pixel from the four nearest around its centre, whatever lies between: no antialiasing."""
    for axis in (0, 1):
        length = pixels.shape[axis]
        centre = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        before = np.floor(centre).astype(int)
        part = (centre - before).reshape(-1, *(1 for _ in pixels.shape[axis + 1 :]))
        after = np.minimum(before + 1, length - 1)
        pixels = pixels.take(before, axis) * (1 - part) + pixels.take(after, axis) * part
    return pixels


@pytest.mark.parametrize("wing", ["torch_impl", "tf_impl"])
def test_what_a_framework_does_by_itself_is_not_antialiased(wing: str, tmp_path: Path) -> None:
    sizes = (13, 24, 64)
    found = ask(wing, _NATIVE, sizes, tmp_path)
    for number, size in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        # Half of a unit from rounding to whole numbers, and what float32 makes of a tie.
        assert away(found[str(number)], bilinear(pixels.astype(np.float64), size)) <= 0.5 + 255 * 8 * UNIT32
