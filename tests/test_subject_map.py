"""The map of names: proposed, written, edited, read, and what it makes of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.subjects import attention, conv, dense, inventory, layer, layer_norm, norm, pairs_of, relu, weights
from transfer_parity.shared.contract.inventory import Inventory, LayerRecord
from transfer_parity.shared.core.errors import BadInput
from transfer_parity.shared.subjects import likeness, map_file, mapping
from transfer_parity.shared.subjects.name_map import NameMap

NOTHING: tuple[dict[str, Any], dict[str, Any]] = ({}, {})


def cnn() -> tuple[Inventory, Inventory]:
    first = [
        conv("stem.conv", 8, 3),
        norm("stem.bn", 8),
        relu("stem.act"),
        conv("layer1.conv1", 8, 8),
        norm("layer1.bn1", 8),
        relu("layer1.act1"),
        conv("layer1.conv2", 8, 8),
        norm("layer1.bn2", 8),
        layer("layer1.bn2 > sum", "merge"),
        relu("layer1.bn2 > sum > relu"),
        layer("pool", "pooling", config={"mode": "average"}),
        dense("head", 5, 8),
    ]
    second = [
        conv("conv2d", 8, 3),
        norm("batch_normalization", 8),
        relu("re_lu"),
        conv("conv2d_1", 8, 8),
        norm("batch_normalization_1", 8),
        relu("re_lu_1"),
        conv("conv2d_2", 8, 8),
        norm("batch_normalization_2", 8),
        layer("add", "merge"),
        relu("re_lu_2", function="relu6"),
        layer("global_average_pooling2d", "pooling", config={"mode": "average"}),
        dense("dense", 5, 8),
    ]
    return inventory(first), inventory(second)


def test_a_cnn_with_other_names() -> None:
    one, two = cnn()
    names = mapping.propose(one, two, NOTHING)
    expected = {a.name: b.name for a, b in zip(one.layers, two.layers, strict=True)}
    assert pairs_of(names) == {a: b for a, b in expected.items() if one.layer(a).parameters}
    assert {pair.reference: pair.candidate for pair in names.entries} == {
        a: b for a, b in expected.items() if not one.layer(a).parameters
    }
    certainties = {pair.reference: pair.certainty for pair in names.pairs}
    assert certainties["stem.conv"] == certainties["head"] == "certain"
    # Two of the same kind and shape: the order says which is which, and may be wrong.
    assert certainties["layer1.conv1"] == certainties["layer1.conv2"] == "likely"
    assert not names.left_over_reference and not names.left_over_candidate


def test_equal_weights_make_certain_whatever_the_order() -> None:
    one, two = cnn()
    names = mapping.propose(one, two, NOTHING)
    arrays = weights(one)
    swapped = {"conv2d_1": "conv2d_2", "conv2d_2": "conv2d_1"}
    given = {}
    for name, array in names.to_candidate(arrays).items():
        owner, _, role = name.rpartition(".")
        given[f"{swapped.get(owner, owner)}.{role}"] = array.astype(np.float32)
    found = mapping.propose(one, two, (arrays, given))
    assert pairs_of(found)["layer1.conv1"] == "conv2d_2"
    assert {pair.certainty for pair in found.pairs} == {"certain"}


def test_zeros_ones_and_copies_confirm_nothing() -> None:
    one, two = inventory([dense("a", 3, 3), dense("b", 3, 3)]), inventory([dense("c", 3, 3), dense("d", 3, 3)])
    for value in (np.zeros, np.ones):
        arrays = [{f"{each.name}.weight": value((3, 3)) for each in side.layers} for side in (one, two)]
        assert {p.certainty for p in mapping.propose(one, two, (arrays[0], arrays[1])).pairs} == {"likely"}
    tied = np.arange(9.0).reshape(3, 3)
    arrays = [{f"{each.name}.weight": tied for each in side.layers} for side in (one, two)]
    assert {p.certainty for p in mapping.propose(one, two, (arrays[0], arrays[1])).pairs} == {"likely"}


def branch(name: str, size: int) -> list[LayerRecord]:
    return [conv(f"{name}.conv", 8, 8, size), norm(f"{name}.bn", 8)]


def test_branches_that_run_in_another_order() -> None:
    end = [layer("add", "merge"), dense("head", 5, 8)]
    one = inventory([conv("stem", 8, 3), *branch("main", 3), *branch("skip", 1), *end])
    two = inventory([conv("s", 8, 3), *branch("x", 1), *branch("y", 3), layer("plus", "merge"), dense("d", 5, 8)])
    names = mapping.propose(one, two, NOTHING)
    found = pairs_of(names)
    assert (found["main.conv"], found["skip.conv"]) == ("y.conv", "x.conv")
    assert (found["main.bn"], found["skip.bn"]) == ("y.bn", "x.bn")
    assert {pair.reference: pair.candidate for pair in names.entries} == {"add": "plus"}
    assert not names.left_over_reference and not names.left_over_candidate


def test_branches_of_equal_shapes_are_told_apart_by_names_with_a_warning() -> None:
    one = inventory([conv("stem", 8, 3), *branch("left", 3), *branch("right", 3)])
    two = inventory([conv("stem", 8, 3), *branch("b_right", 3), *branch("b_left", 3)])
    names = mapping.propose(one, two, NOTHING)
    assert pairs_of(names)["left.conv"] == "b_left.conv"
    assert pairs_of(names)["left.bn"] == "b_left.bn"
    moved = next(pair for pair in names.pairs if pair.reference == "left.conv")
    assert moved.certainty == "ambiguous" and moved.alternatives == ["b_right.conv"]


def test_numbers_of_a_library_do_not_shift_layers() -> None:
    one = inventory(dense(f"fc{number}", 6, 6) for number in (1, 2, 3))
    two = inventory(dense(name, 6, 6) for name in ("dense", "dense_1", "dense_2"))
    assert list(pairs_of(mapping.propose(one, two, NOTHING)).values()) == ["dense", "dense_1", "dense_2"]


def test_a_layer_of_one_side_shifts_nothing() -> None:
    one, two = cnn()
    for place in (0, 1, 4, 6, 11):
        if not two.layers[place].parameters:
            continue
        less = inventory(each for number, each in enumerate(two.layers) if number != place)
        names = mapping.propose(one, less, NOTHING)
        expected = {
            a.name: b.name
            for number, (a, b) in enumerate(zip(one.layers, two.layers, strict=True))
            if a.parameters and number != place
        }
        missing = one.layers[place]
        same = [each for each in one.layers if likeness.signature(each) == likeness.signature(missing)]
        if len(same) == 1:
            assert pairs_of(names) == expected
        # Which of several is missing may be wrong, but is never called certain.
        wrong = [p for p in names.pairs if expected.get(p.reference) != p.candidate]
        assert not [p for p in wrong if p.certainty == "certain"]
        assert len(names.left_over_reference) == len(missing.parameters)


def blocks(prefix: str, number: int, norms: bool = True) -> list[LayerRecord]:
    found = []
    for block in range(number):
        found.append(conv(f"{prefix}{block}.conv", 8, 8))
        if norms:
            found.append(norm(f"{prefix}{block}.norm", 8))
    return found


def test_repeated_blocks() -> None:
    names = mapping.propose(inventory(blocks("block", 6)), inventory(blocks("stage_", 6)), NOTHING)
    assert all(a.removeprefix("block") == b.removeprefix("stage_") for a, b in pairs_of(names).items())
    assert {pair.certainty for pair in names.pairs} == {"likely"}
    shorter = mapping.propose(inventory(blocks("block", 6)), inventory(blocks("stage_", 5)), NOTHING)
    assert len(shorter.pairs) == 10 and len(shorter.left_over_reference) == 5
    assert "certain" not in {pair.certainty for pair in shorter.pairs}


def test_many_layers_are_quick() -> None:
    names = mapping.propose(inventory(blocks("a", 150)), inventory(blocks("b", 150)), NOTHING)
    assert len(names.pairs) == 300


def transformer(prefix: str, own: bool) -> list[LayerRecord]:
    found = [conv(f"{prefix}patches", 8, 3, 4, bias=True)]
    for block in range(2):
        at = f"{prefix}{block}."
        inner = (
            [attention(f"{at}attention", 8)]
            if own
            else [dense(f"{at}{part}", 8, 8) for part in ("k", "q", "v", "project")]
        )
        found += [layer_norm(f"{at}n1", 8), *inner, layer_norm(f"{at}n2", 8)]
        found += [dense(f"{at}up", 32, 8), relu(f"{at}gelu", function="gelu"), dense(f"{at}down", 8, 32)]
    return [*found, layer_norm(f"{prefix}final", 8), dense(f"{prefix}head", 5, 8)]


def test_a_transformer() -> None:
    one, two = inventory(transformer("a.", True)), inventory(transformer("z", True))
    names = mapping.propose(one, two, NOTHING)
    assert list(pairs_of(names)) == [each.name for each in one.with_parameters]
    assert list(pairs_of(names).values()) == [each.name for each in two.with_parameters]
    assert "ambiguous" not in {pair.certainty for pair in names.pairs}


@pytest.mark.parametrize("turned", [False, True])
def test_attention_as_a_layer_and_as_four(turned: bool) -> None:
    sides = [inventory(transformer("a.", True)), inventory(transformer("z", False))]
    names = mapping.propose(sides[turned], sides[not turned], NOTHING)
    assert not names.left_over_reference and not names.left_over_candidate
    arrays = weights(sides[0])
    others = names.to_reference(arrays) if turned else names.to_candidate(arrays)
    for role in ("weight", "bias"):
        for part, letter in zip(("query", "key", "value", "output"), ("q", "k", "v", "project"), strict=True):
            assert (others[f"z1.{letter}.{role}"] == arrays[f"a.1.attention.{part}_{role}"]).all()
    back = names.to_candidate(others) if turned else names.to_reference(others)
    assert back.keys() == arrays.keys() and all((back[name] == arrays[name]).all() for name in arrays)


@pytest.mark.parametrize("turned", [False, True])
def test_packed_queries_keys_and_values(turned: bool) -> None:
    whole = inventory([dense("qkv", 12, 4), dense("out", 4, 4)])
    parts = inventory([dense("value", 4, 4), dense("query", 4, 4), dense("key", 4, 4), dense("out", 4, 4)])
    sides = (parts, whole) if turned else (whole, parts)
    names = mapping.propose(*sides, NOTHING)
    arrays = weights(whole)
    found = names.to_reference(arrays) if turned else names.to_candidate(arrays)
    assert (found["query.weight"] == arrays["qkv.weight"][:4]).all()
    assert (found["value.bias"] == arrays["qkv.bias"][8:]).all()
    back = names.to_candidate(found) if turned else names.to_reference(found)
    assert all((back[name] == arrays[name]).all() for name in arrays)
    if not turned:
        assert names.reference_parameter("qkv.weight") == ("query.weight", "key.weight", "value.weight")
        assert names.candidate_output("qkv") is None and names.candidate_output("out") == "out"


def test_what_only_one_side_has_does_nothing_or_is_left_over() -> None:
    one = inventory([conv("c", 8, 3, bias=False), norm("n", 8), dense("d", 5, 8)])
    two = inventory([conv("c", 8, 3, bias=True), norm("n", 8, affine=False), dense("d", 5, 8, bias=False)])
    names = mapping.propose(one, two, NOTHING)
    assert names.left_over_reference == ["n.weight", "n.bias", "d.bias"]
    assert names.left_over_candidate == ["c.bias"]
    given = names.to_candidate(weights(one))
    assert (given["c.bias"] == 0).all() and "d.bias" not in given and "n.weight" not in given
    back = names.to_reference(weights(two))
    assert (back["n.weight"] == 1).all() and (back["n.bias"] == 0).all() and (back["d.bias"] == 0).all()


def test_gru_with_one_bias_and_a_layer_of_ones_own() -> None:
    shapes = {"input_weight": (12, 3), "recurrent_weight": (12, 4), "bias": (12,)}
    one = inventory([layer("g", "gru", **shapes), layer("mine", "custom", gamma=(3,))])
    two = inventory([layer("h", "gru", **shapes, recurrent_bias=(12,)), layer("other", "custom", scale=(3,))])
    names = mapping.propose(one, two, NOTHING)
    assert (names.to_candidate(weights(one))["h.recurrent_bias"] == 0).all()
    # Roles of custom layers are their own names: nothing is guessed.
    assert names.left_over_reference == ["mine.gamma"]
    assert names.left_over_candidate == ["h.recurrent_bias", "other.scale"]


def written(tmp_path: Path, sides: tuple[Inventory, Inventory], names: NameMap) -> Path:
    path = tmp_path / "maps" / "names.toml"
    map_file.write(path, names, *sides, names=("torch", "keras"))
    return path


def test_a_written_map_is_read_back(tmp_path: Path) -> None:
    for number, sides in enumerate(
        (
            cnn(),
            (inventory(transformer("a.", True)), inventory(transformer('z"\\', False))),
            (inventory([dense("qkv", 12, 4)]), inventory([dense(part, 4, 4) for part in "qkv"])),
        )
    ):
        names = mapping.propose(*sides, NOTHING)
        found = map_file.read(written(tmp_path / str(number), sides, names), *sides)
        assert found.parameters == names.parameters and found.packed == names.packed
        assert found.outputs == names.outputs
        assert {pair.certainty for pair in found.pairs} == {"given"}


def test_a_map_says_what_is_sure(tmp_path: Path) -> None:
    one = inventory([conv("stem", 8, 3), *branch("left", 3), *branch("right", 3), layer("own", "custom", gamma=(3,))])
    two = inventory([conv("stem", 8, 3), *branch("b_right", 3), *branch("b_left", 3)])
    text = written(tmp_path, (one, two), mapping.propose(one, two, NOTHING)).read_text()
    assert "# Map of names: torch on the left, keras on the right." in text
    assert '["stem", "stem"],  # conv weight (8, 3, 3, 3); certain: the only one of its kind' in text
    assert (
        '# ambiguous: names say so, and the order in which layers run says otherwise; it may be "b_right.conv"' in text
    )
    assert '# Left over in torch:\n#   "own.gamma"  (3)' in text and "# Left over in keras: nothing." in text


def test_an_edited_map(tmp_path: Path) -> None:
    one = inventory([dense("a", 3, 3), layer("own", "custom", gamma=(3, 1), beta=(3,))])
    two = inventory([dense("b", 3, 3), dense("c", 3, 3), layer("other", "custom", scale=(3,), beta=(3,))])
    path = tmp_path / "m.toml"
    path.write_text('layers = [["a", "c"]]\nparameters = [["own.gamma", "other.scale"], ["own.beta", "other.beta"]]')
    names = map_file.read(path, one, two)
    assert pairs_of(names) == {"a": "c", "own": "other"}
    assert names.left_over_candidate == ["b.weight", "b.bias"]
    assert names.to_candidate(weights(one))["other.scale"].shape == (3,)
    assert names.to_reference(weights(two))["own.gamma"].shape == (3, 1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('layers = [["stem.cov", "conv2d"]]', "left has no layer with weights 'stem.cov'; did you mean 'stem.conv'?"),
        ('layers = [["stem.conv", "conv2"]]', "the model on the right has no layer with weights 'conv2'"),
        ('layers = [["pool", "conv2d"]]', "the model on the left has no layer with weights 'pool'"),
        ('entries = [["pol", "re_lu"]]', "no activation, pooling or sum 'pol'; did you mean 'pool'?"),
        (
            'layers = [["stem.conv", "conv2d"], ["stem.conv", "conv2d_1"]]',
            "layer with weights 'stem.conv' on the left has two counterparts; take one out.",
        ),
        (
            'layers = [["stem.conv", "conv2d"], ["layer1.conv1", "conv2d"]]',
            "'conv2d' on the right has two counterparts",
        ),
        (
            'layers = [["stem.conv", "conv2d"]]\nparameters = [["stem.conv.weight", "conv2d_1.weight"]]',
            "parameter 'stem.conv.weight' on the left has two counterparts",
        ),
        ('layers = [["stem.conv", "conv2d_1"]]', "(conv with weight (8, 3, 3, 3)) and 'conv2d_1' (conv with"),
        ('layers = [["stem.conv", "dense"]]', "fit no rule"),
        ('parameters = [["stem.conv.weight", "dense.weight"]]', "shapes (8, 3, 3, 3) and (5, 8), which fit no rule"),
        ('parameters = [["head.weight", ["dense.weight", "dense.bias"]]]', "which fit no rule"),
        ('parameters = [[["head.weight", "head.bias"], ["dense.weight", "dense.bias"]]]', "several names on both"),
        ('layers = "x"', "layers is no list"),
        ('layers = [["a"]]', "give two names"),
        ("layers = [[1, 2]]", "give two names"),
        ("layer = []", "unknown key 'layer'; did you mean 'layers'?"),
        ("layers = [", "is not readable TOML"),
    ],
)
def test_a_wrong_map_is_refused_in_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        map_file.read(path, *cnn())
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_wrong_map_cannot_come_out_certain() -> None:
    """Models of few shapes, shuffled and cut: what is called certain is right, whether weights are equal or not."""
    for seed in range(60):
        random = np.random.default_rng(seed)
        one = inventory(
            dense(f"a{number}", int(random.integers(2, 5)), int(random.integers(2, 4))) for number in range(8)
        )
        order = random.permutation(8)[: int(random.integers(6, 9))] if seed % 2 else np.arange(8)
        two = inventory(
            one.layers[number].model_copy(update={"name": f"b{place}"}) for place, number in enumerate(order)
        )
        truth = {f"a{number}": f"b{place}" for place, number in enumerate(order)}
        arrays = weights(one, seed)
        given = {
            f"{truth[owner]}.{role}": array
            for (owner, _, role), array in ((name.rpartition("."), array) for name, array in arrays.items())
            if owner in truth
        }
        for values in (NOTHING, (arrays, given), (arrays, weights(two, seed + 1000))):
            found = mapping.propose(one, two, values)
            for pair in found.pairs:
                assert pair.certainty != "certain" or truth.get(pair.reference) == pair.candidate
        certain = [pair for pair in mapping.propose(one, two, (arrays, given)).pairs if pair.certainty == "certain"]
        assert len(certain) == len(order)
