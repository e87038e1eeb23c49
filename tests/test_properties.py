"""What holds for all recipes, names and layouts, tried on those that hypothesis thinks of."""

from __future__ import annotations

import os
import string
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from transfer_parity.shared.contract import plan, recipe_files, study_recipe
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.core.text import brief, is_name, printable
from transfer_parity.shared.data.folders import from_folder
from transfer_parity.shared.zoo.pairs import PAIRS

#: The machine may be busy; examples are drawn alike every time.
PATIENT = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

#: Everything that Python's text can hold, halves of surrogate pairs too.
TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
NUMBERS = st.integers(-5, 2**40) | st.floats() | st.sampled_from([10**30, 2**31, 0, 1])
#: What TOML can say.
VALUES = st.recursive(
    st.booleans() | NUMBERS | TEXT | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(recipe_files.field_names()) | TEXT


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Recipes that can be carried out."""
    values: dict[str, Any] = {
        "name": draw(st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=20)),
        "data": draw(st.text(min_size=1, max_size=20).filter(is_name)),
        "shots": draw(st.lists(st.integers(1, 1000) | st.just("all"), min_size=1, max_size=4)),
        "seeds": draw(st.integers(1, 10_000)),
        "first_seed": draw(st.integers(0, 2**31 - 1)),
        "backbone": draw(st.sampled_from([pair.name for pair in PAIRS])),
        "weights": draw(st.sampled_from(["torchvision", "keras", "random", "a b/ü.pth"])),
        "strategy": draw(st.sampled_from(["linear_probe", "finetune", "scratch"])),
        "finetune_stages": draw(st.sampled_from([1, "all"])),
        "head": draw(st.sampled_from(["linear", "mlp", "conv"])),
        "learning_rate": draw(st.floats(1e-8, 10)),
        "weight_decay": draw(st.floats(0, 1)),
        "momentum": draw(st.floats(0, 0.999)),
        "epochs": draw(st.integers(1, 10**6)),
        "batch_size": draw(st.integers(1, 2**16)),
        "threads": draw(st.none() | st.integers(1, 1024)),
        "margin": draw(st.floats(0.001, 0.5)),
        "control": False,
    }
    return recipe_files.validated(values, "r.toml")


@PATIENT
@given(recipes())
def test_a_recipe_that_is_written_is_read_again(recipe: Recipe) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(recipe.as_toml(), encoding="utf-8")
        assert recipe_files.read(str(path), {}) == recipe


@PATIENT
@given(st.dictionaries(KEYS, VALUES, max_size=3))
def test_any_values_make_a_recipe_or_one_sentence(values: dict[str, Any]) -> None:
    try:
        recipe = recipe_files.validated(values, "r.toml")
    except BadInput as error:
        said = str(error)
        assert "\n" not in said
        assert len(said) < 1500
        assert said == printable(said)
    else:
        # Nothing was taken for something else: True is no 1, and "5" is no 5.
        for key in values:
            assert not isinstance(values[key], bool) or isinstance(getattr(recipe, key), bool)
            assert not isinstance(values[key], str) or isinstance(getattr(recipe, key), str | tuple)


@PATIENT
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.booleans())
def test_any_bytes_are_a_recipe_or_one_sentence(content: bytes, study: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_bytes(content)
        try:
            (study_recipe if study else recipe_files).read(str(path), {})
        except BadInput as error:
            assert "\n" not in str(error)


@PATIENT
@given(st.dictionaries(KEYS.filter(is_name), st.booleans() | st.integers(-5, 5) | st.just("a"), max_size=3))
def test_any_toml_is_a_recipe_or_one_sentence(values: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(tomli_w.dumps(values), encoding="utf-8")
        try:
            recipe_files.read(str(path), {})
        except BadInput as error:
            assert str(path) in str(error)


@PATIENT
@given(st.sampled_from(recipe_files.field_names()), TEXT)
def test_any_word_on_the_command_line_is_a_value_or_one_sentence(key: str, word: str) -> None:
    given_words: Any = [word] if key in ("shots", "frameworks") else word
    try:
        recipe_files.read(None, {key: given_words})
    except BadInput as error:
        assert "Traceback" not in str(error)


@PATIENT
@given(TEXT)
def test_printable_text_can_be_shown_anywhere(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert printable(shown) == shown
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    if text.isprintable() and is_name(text):
        assert shown == text


@PATIENT
@given(st.binary(max_size=20))
def test_names_of_any_bytes_can_be_shown(name: bytes) -> None:
    text = os.fsdecode(name)
    shown = printable(text)
    shown.encode()
    try:
        assert is_name(text) == ("\0" not in name.decode())
    except UnicodeDecodeError:
        assert not is_name(text)


@PATIENT
@given(VALUES | st.integers(10**4000, 10**4001) | st.just(10**6000))
def test_values_are_quoted_in_a_few_words(value: Any) -> None:
    assert len(brief(value)) < 100
    brief(value).encode()


@PATIENT
@given(TEXT, st.lists(st.text(string.ascii_lowercase + "_:", min_size=1, max_size=12), min_size=1, max_size=5))
def test_a_suggestion_is_one_of_the_valid_words(word: str, valid: list[str]) -> None:
    said = did_you_mean(word, valid)
    assert any(each in said for each in valid)


#: Names that a file system takes: no slash, no NUL, not too long, and none that leads elsewhere.
NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: is_name(name) and name.strip(".") and len(name.encode()) < 100
)


@settings(PATIENT, max_examples=60)
@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=4), max_size=4), st.sampled_from(["", "train", "test", "val"]))
def test_any_layout_is_a_data_set_or_one_sentence(classes: dict[str, list[str]], part: str) -> None:
    assume(sys.platform.startswith("linux"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, files in classes.items():
            place = root / part / name
            place.mkdir(parents=True, exist_ok=True)
            for file in files:
                (place / f"{file}.png").touch()
        try:
            data = from_folder(root)
        except BadInput as error:
            assert str(root) in str(error)
            return
        assert list(data.classes) == sorted(data.classes)
        assert len(data.labels) == len(data)
        assert set(data.labels.tolist()) <= set(range(len(data.classes)))
        # Every image lies in the folder of its class.
        for path, label in zip(data.pictures.files(range(len(data)), root), data.labels, strict=True):
            assert data.classes[label] in path.relative_to(root).parts


@settings(PATIENT, max_examples=60)
@given(
    st.lists(st.integers(2, 12), min_size=2, max_size=4),
    st.integers(0, 2**31 - 1),
    st.integers(1, 8) | st.just("all"),
    st.floats(0.05, 0.9),
)
def test_a_plan_divides_the_images_or_says_why_not(counts: list[int], seed: int, shots: Any, fraction: float) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    recipe = Recipe(shots=(shots,), test_fraction=fraction, epochs=2)
    try:
        drawn = plan.draw(recipe, labels, None, [f"c{index}" for index in range(len(counts))], seed, shots)
    except BadInput as error:
        assert "\n" not in str(error)
        return
    assert not set(drawn.train) & set(drawn.test)
    assert set(labels[drawn.train]) == set(range(len(counts)))
    if shots != "all":
        assert np.bincount(labels[drawn.train]).tolist() == [shots] * len(counts)
    assert all(sorted(epoch) == list(range(len(drawn.train))) for epoch in drawn.order)
