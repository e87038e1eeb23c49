"""The ladder names the cause: activations, gates, poolings and sums are entries of their own, in both wings alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.libraries.programs import Answers, ask
from transfer_parity.shared.contract.rungs import UNIT, Label
from transfer_parity.shared.parity import tolerance
from transfer_parity.shared.parity.tolerance import Difference
from transfer_parity.shared.runtime.entries import INPUT, Entries
from transfer_parity.shared.runtime.rounding import relative_changes
from transfer_parity.shared.zoo.pair import Semantics
from transfer_parity.shared.zoo.pairs import PAIRS

#: Names of what a forward pass puts out, of every network; ``given`` lists backbones.
STRUCTURE = """
from transfer_parity.shared.contract.climbs import ClimbSpec
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.parity.climb import recipe_for
for name, semantics in given:
    spec = ClimbSpec(backbone=name, semantics=semantics)
    metadata = Metadata(backbone=name, semantics=semantics)
    recipe = recipe_for(spec, "cpu", 1)
    # The heads of the project are no part of an architecture.
    for head in ("imagenet", *(("linear", "mlp", "conv") if name == given[0][0] else ())):
        model = model_spec(recipe, metadata, 10, head, frozenset())
        answers[f"{name} {semantics} {head}"] = np.array(wing.trace.structure(wing.network.build(model)))
"""
#: What stands for the rest: functions between modules, written-out arithmetic, a scale that is no layer, branches.
FEW: tuple[tuple[str, Semantics], ...] = (
    ("MobileNetV3Small", "keras"),
    ("ConvNeXtTiny", "torchvision"),
    ("DenseNet121", "keras"),
)


def check_structures(networks: Sequence[tuple[str, Semantics]], folder: Path) -> dict[str, list[str]]:
    found = {}
    ours, theirs = (ask(wing, STRUCTURE, list(networks), folder, "float32") for wing in ("tf_impl", "torch_impl"))
    assert ours.keys() == theirs.keys()
    assert len(ours) >= len(networks) + 3
    for network, entries in ours.items():
        found[network] = entries.tolist()
        assert len(set(found[network])) == len(found[network]), network
        assert set(found[network]) == set(theirs[network].tolist()), network
        for order in (found[network], theirs[network].tolist()):
            place = {name: number for number, name in enumerate(order)}
            for name in order:
                # What an entry works on comes before it, so that the cause is named before what follows from it. A
                # concatenation may be named after a value that was made of several operations.
                before = name.rpartition(" > ")[0]
                assert place.get(before, -1) < place[name], (network, name)
    return found


def test_both_wings_have_the_same_entries(tmp_path: Path) -> None:
    found = check_structures(FEW, tmp_path)
    names = found["MobileNetV3Small keras imagenet"]
    for gate in ("fc1 > activation", "fc2", "fc2 > activation", "fc2 > activation > product"):
        assert f"features.1.block.1.{gate}" in names
    assert "features.1.block.0.1 > activation > pooling" in names
    assert "features.3.block.2.1 > sum" in names
    assert "features.12.1 > activation > pooling" in names
    assert "features.1.0.block.3 > activation" in found["ConvNeXtTiny torchvision imagenet"]
    assert "features.1.0.layer_scale > sum" in found["ConvNeXtTiny torchvision imagenet"]
    assert "features.norm0 > activation > pooling" in found["DenseNet121 keras imagenet"]
    assert found["MobileNetV3Small keras mlp"][-3:] == ["head.hidden", "head.hidden > activation", "head.output"]
    assert found["MobileNetV3Small keras conv"][-2:] == ["head.conv > activation > pooling", "head.output"]


@pytest.mark.slow
def test_all_pairs_have_the_same_entries(tmp_path: Path) -> None:
    semantics: tuple[Semantics, ...] = ("torchvision", "keras")
    check_structures([(pair.name, each) for pair in PAIRS for each in semantics], tmp_path)


#: Outputs of every layer and entry, of one wing with nothing planted, then once for each mistake that is given.
#: A mistake is the path of a module and what becomes of it.
OUTPUTS = """
from transfer_parity.shared.checkpoints import initialisation
from transfer_parity.shared.contract.climbs import ClimbSpec
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.contract.spec import model_spec
from transfer_parity.shared.parity.climb import recipe_for
from transfer_parity.shared.runtime.rounding import perturbed
backbone, semantics, precision, seed, planted = given
spec = ClimbSpec(backbone=backbone, semantics=semantics)
recipe = recipe_for(spec, "cpu", 1)
model = model_spec(recipe, Metadata(backbone=backbone, semantics=semantics), 10, "imagenet", frozenset())
network = wing.network.build(model)
weights = initialisation.draw_trained_looking_weights(wing.weights.shapes(network), seed)
images = np.random.default_rng(seed).integers(0, 256, (4, recipe.size, recipe.size, 3), dtype=np.uint8)

def put_out(case, arrays):
    wing.weights.load(network, arrays)
    for name, array in wing.trace.activations(network, images).items():
        answers[f"{case}/{name}"] = array

put_out("", weights)
if planted is None:
    put_out("moved", perturbed(weights, seed, precision))
for path, what in planted or ():
    import torch
    from torch import nn
    parent, _, last = ("model." + path).rpartition(".")
    parent = network.features[0].get_submodule(parent)
    module = getattr(parent, last)
    if what == "epsilon":
        module.eps *= 1.1
    elif what == "padding":
        hook = module.register_forward_pre_hook(lambda module, inputs: nn.functional.pad(inputs[0], (1, -1)))
    else:
        setattr(parent, last, getattr(nn, what)())
    put_out(f"{path} {what}", weights)
    if what == "epsilon":
        module.eps /= 1.1
    elif what == "padding":
        hook.remove()
    else:
        setattr(parent, last, module)
"""


def rung(answers: Answers, case: str) -> dict[Label, np.ndarray]:
    """One case's arrays, in the order of the forward pass."""
    return {
        Label("activation", name.partition("/")[2]): array
        for name, array in answers.items()
        if name.partition("/")[0] == case
    }


#: Networks and precisions of the slow tests.
FURTHER = (("MobileNetV2", "float64"), ("MobileNetV3Small", "float32"), ("MobileNetV3Small", "float64"))
#: Mistakes in torch's networks: the module, what becomes of it, and the entry that is to be named.
PLANTED = {
    "MobileNetV2": (
        ("features.2.conv.0.2", "ReLU", "features.2.conv.0.1 > activation"),
        ("features.9.conv.1.2", "ReLU", "features.9.conv.1.1 > activation"),
        ("features.17.conv.0.2", "ReLU", "features.17.conv.0.1 > activation"),
        ("features.3.conv.1.1", "epsilon", "features.3.conv.1.1"),
        ("features.10.conv.3", "epsilon", "features.10.conv.3"),
        ("features.16.conv.1.0", "padding", "features.16.conv.1.0"),
    ),
    "MobileNetV3Small": (
        ("features.1.block.1.scale_activation", "Sigmoid", "features.1.block.1.fc2 > activation"),
        ("features.6.block.2.scale_activation", "Sigmoid", "features.6.block.2.fc2 > activation"),
        ("features.11.block.2.activation", "SiLU", "features.11.block.2.fc1 > activation"),
        ("features.9.block.0.2", "SiLU", "features.9.block.0.1 > activation"),
        ("features.5.block.1.1", "epsilon", "features.5.block.1.1"),
        ("features.2.block.1.0", "padding", "features.2.block.1.0"),
    ),
}


@pytest.mark.parametrize(
    ("backbone", "precision"),
    [
        ("MobileNetV2", "float32"),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in FURTHER),
    ],
)
def test_a_planted_mistake_is_named_itself(backbone: str, precision: str, tmp_path: Path) -> None:
    planted = [(path, what) for path, what, _ in PLANTED[backbone]]
    theirs = ask("torch_impl", OUTPUTS, (backbone, "keras", precision, 5, planted), tmp_path, precision)
    ours = ask("tf_impl", OUTPUTS, (backbone, "keras", precision, 5, None), tmp_path, precision)
    reference = rung(ours, "")
    changes = relative_changes(reference, rung(ours, "moved"))

    def named(case: str) -> str | None:
        found = tolerance.differences(reference, rung(theirs, case), lambda label: 0.0)
        first = tolerance.out_of_line(found, changes, UNIT[precision])
        return None if first is None else first.label.name

    assert named("") is None
    got = {case: named(f"{case[0]} {case[1]}") for case in planted}
    assert got == {(path, what): entry for path, what, entry in PLANTED[backbone]}


def test_arithmetic_behind_a_layer_is_one_activation() -> None:
    entries = Entries()
    x = entries.layer("a", [INPUT])
    gate = entries.function([entries.function([entries.function([x], scales=True)])], scales=True)
    swish = entries.function([x, gate], multiplies=True)
    assert {gate.entry, swish.entry} == {"a > activation"}
    pooled = entries.pooling(swish)
    # A mean over real cells, written as one over all cells divided by a constant.
    assert entries.function([pooled], scales=True).entry == pooled.entry == "a > activation > pooling"
    # One that works on the pooling is an activation of its own.
    assert entries.function([pooled]).entry == "a > activation > pooling > activation"


def test_where_values_meet_the_furthest_gives_the_name() -> None:
    entries = Entries()
    x = entries.function([entries.layer("z", [INPUT])])
    gate = entries.function([entries.layer("fc2", [entries.layer("fc1", [entries.pooling(x)])])])
    # In whatever order they are given.
    scaled = entries.function([x, gate], multiplies=True)
    assert scaled.entry == "fc2 > activation > product"
    block, shortcut = entries.layer("b", [entries.layer("c", [scaled])]), entries.layer("y", [scaled])
    total = entries.function([shortcut, block])
    assert total.entry == "b > sum"
    assert entries.function([total]).entry == "b > sum > activation"


def test_concatenations_of_concatenations_are_one() -> None:
    def all_at_once(entries: Entries) -> str:
        a = entries.layer("a", [INPUT])
        b = entries.layer("b", [a])
        return entries.concatenation([a, b, entries.layer("c", [entries.concatenation([a, b])])]).entry

    def one_by_one(entries: Entries) -> str:
        a = entries.layer("a", [INPUT])
        both = entries.concatenation([a, entries.layer("b", [a])])
        return entries.concatenation([both, entries.layer("c", [both])]).entry

    assert all_at_once(Entries()) == one_by_one(Entries()) == "c > concatenation"
    entries = Entries()
    a, b = entries.layer("a", [INPUT]), entries.layer("b", [entries.layer("c", [INPUT])])
    # The same furthest value again, and not something that was done to a concatenation.
    assert entries.concatenation([entries.concatenation([a, b]), a]).entry == "b > concatenation 2"


def errors(*values: tuple[float, float]) -> str | None:
    """Which array is out of line, by its place. Given: the wings' difference and what moved weights changed."""
    labels = [Label("activation", str(place)) for place in range(len(values))]
    found = [Difference(label, each, each, 0.0, scale=1.0) for label, (each, _) in zip(labels, values, strict=True)]
    changes = {label: change for label, (_, change) in zip(labels, values, strict=True)}
    first = tolerance.out_of_line(found, changes, UNIT["float32"])
    # What is said to be explained by rounding is less than the difference.
    assert first is None or first.excess > 1
    return None if first is None else first.label.name


def test_out_of_line_is_what_grows_more_than_rounding() -> None:
    assert errors((1e-6, 1e-6), (1e-5, 1e-5), (1e-3, 1e-3), (1e-6, 1e-6)) is None
    # A small mistake in front, which a bound that suits the last array would let pass there.
    assert errors((1e-6, 1e-6), (2e-5, 2e-6), (1e-4, 1e-5), (1e-1, 1e-4)) == "1"
    # Kernels that round more than others do so everywhere.
    assert errors((5e-6, 1e-6), (6e-5, 1e-5), (9e-5, 1e-5)) is None
    assert errors((5e-6, 1e-6), (5e-5, 1e-5), (9e-4, 1e-5)) == "2"
    # A few units of rounding say nothing, however little moved weights changed.
    assert errors((5e-7, 0.0), (1e-2, 0.0)) == "1"
