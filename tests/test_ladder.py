"""The parity ladder: matched wings pass every rung, and every known difference is caught where it should be."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from tests.conftest import Command
from transfer_parity import compare
from transfer_parity.shared.contract import switches
from transfer_parity.shared.contract.climbs import ClimbSpec
from transfer_parity.shared.contract.rungs import RUNGS, Rung, describe
from transfer_parity.shared.contract.wings import TENSORFLOW
from transfer_parity.shared.core.errors import BadInput, WorkerFailed
from transfer_parity.shared.parity.document import PairResult, Parity
from transfer_parity.shared.parity.ladder import Ladder
from transfer_parity.shared.report import parity as report
from transfer_parity.shared.report.console import Console
from transfer_parity.shared.runtime import launch
from transfer_parity.shared.zoo.pair import Semantics
from transfer_parity.shared.zoo.pairs import PAIRS

Precision = Literal["float64", "float32"]

#: One architecture of every family, under the semantics that takes the larger adaptation in one of the wings.
#: MobileNetV2 climbs the whole ladder below, EfficientNetV2S (the largest to build) in `make parity`. The slow tests
#: compare every layer of larger ones, whose logits tests/libraries/test_logits.py compares in any case.
FAMILIES: dict[str, Semantics] = {"ResNet50": "torchvision", "MobileNetV3Small": "torchvision", "ConvNeXtTiny": "keras"}
LARGER: dict[str, Semantics] = {
    "VGG16": "keras",
    "InceptionV3": "keras",
    "DenseNet121": "torchvision",
    "EfficientNetB0": "keras",
}
#: Those that go on to gradients; the others stop at activations, and do more in `make parity`.
DEEP = {"MobileNetV3Small"}
PASSES: tuple[Rung, ...] = ("loss", "gradients")
#: Effects that float32's rounding hides.
SMALL = {switch.name for switch in switches.SWITCHES if switch.only_float64}


def climb_all(folder: Path, specs: list[ClimbSpec]) -> list[PairResult]:
    # One thread: with more, many tiny parallel sections wait for one another beside a busy process.
    return Ladder(folder, threads=1, device="cpu", progress=lambda what, done, total: None).climb(specs)


def check_families(families: dict[str, Semantics], folder: Path) -> None:
    """The lower rungs in float64, all families in one process for each framework."""
    specs = [
        ClimbSpec(backbone=name, semantics=semantics, until="gradients" if name in DEEP else "activations")
        for name, semantics in families.items()
    ]
    results = climb_all(folder, specs)
    assert [(result.backbone, result.semantics) for result in results] == list(families.items())
    for result in results:
        assert result.passed, (result.backbone, result.first_failure)
        assert [rung.name for rung in result.rungs] == list(RUNGS[: 5 if result.backbone in DEEP else 3])
        # More than a handful of arrays: a ladder without steps would pass as well.
        assert result.rung("activations").arrays > 15, result.backbone
        assert (result.rung("activations").max_rel_difference or 0) <= 1e-10, result.backbone


def test_families(tmp_path: Path) -> None:
    check_families(FAMILIES, tmp_path)


@pytest.mark.slow
def test_larger_families(tmp_path: Path) -> None:
    check_families(LARGER, tmp_path)


#: One wing of each switch, torch's where both have it; the slow tests try all.
ONE_WING = [
    next(each for each in reversed(switches.all_names()) if each.endswith(":" + name)) for name in switches.BY_NAME
]


def switched(folder: Path, precision: Precision, chosen: Callable[[str], bool]) -> dict[str, PairResult]:
    given = [each for each in ONE_WING if chosen(each.partition(":")[2])]
    specs = []
    for each in given:
        framework, switch = switches.find(each)
        name, semantics = switch.example
        until = switch.caught[framework].rung
        # What takes time and is not asked for; the slow tests climb rung by rung.
        skip = frozenset(PASSES if until in ("optimizer", "trajectory") else ())
        if until == "trajectory":
            skip |= {"optimizer"}
        specs.append(
            ClimbSpec(backbone=name, semantics=semantics, precision=precision, switches=(each,), until=until, skip=skip)
        )
    return dict(zip(given, climb_all(folder, specs), strict=True))


@pytest.fixture(scope="module")
def all_switched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PairResult]:
    """Every switch up to its rung, in the precision that shows it and takes less time."""
    large = switched(tmp_path_factory.mktemp("large"), "float32", lambda name: name not in SMALL)
    return large | switched(tmp_path_factory.mktemp("small"), "float64", lambda name: name in SMALL)


@pytest.mark.parametrize("given", ONE_WING)
def test_every_switch_is_caught(given: str, all_switched: dict[str, PairResult]) -> None:
    check_caught(given, all_switched[given])


def check_caught(given: str, result: PairResult) -> None:
    framework, switch = switches.find(given)
    expected = switch.caught[framework]
    failed = result.first_failure
    assert failed is not None
    assert failed.name == expected.rung
    first = failed.first_divergence
    assert first is not None
    assert first.label is not None
    assert expected.matches(first.label), first.label
    assert first.what == describe(expected.label)
    if not expected.name:
        assert first.neutral is None
        return
    assert first.neutral == first.label.name
    # In both frameworks' names; Keras has other names than torchvision, which are the neutral ones.
    assert first.torch == first.neutral
    assert first.tensorflow is not None
    assert first.tensorflow != first.torch


@pytest.mark.slow
@pytest.mark.parametrize("given", switches.all_names())
def test_every_switch_is_caught_in_float64(given: str, tmp_path: Path) -> None:
    framework, switch = switches.find(given)
    name, semantics = switch.example
    until = switch.caught[framework].rung
    spec = ClimbSpec(backbone=name, semantics=semantics, switches=(given,), until=until)
    (result,) = climb_all(tmp_path, [spec])
    check_caught(given, result)


def test_the_whole_ladder(command: Command) -> None:
    outcome = command(
        *("parity", "--backbone", "mobilenet_v2", "--semantics", "torchvision", "--threads", 1, "--first-seed", 3)
    )
    assert outcome.status == 0, outcome.output + outcome.errors
    document = json.loads((outcome.folder / "parity.json").read_text())
    assert document["passed"]
    (pair,) = document["pairs"]
    assert (pair["backbone"], pair["semantics"], pair["precision"]) == ("MobileNetV2", "torchvision", "float64")
    assert [rung["name"] for rung in pair["rungs"]] == list(RUNGS)
    for rung in pair["rungs"]:
        assert rung["passed"]
        assert rung["first_divergence"] is None
        assert rung["max_abs_difference"] <= rung["tolerance"]
    # 20 steps; without training, or with all of it in one array, agreement would mean little.
    assert pair["rungs"][6]["arrays"] > 300
    assert 0 < pair["max_loss_difference"] <= 1e-8
    assert "1 of 1 climbs passed all 9 rungs" in outcome.output
    assert "| MobileNetV2 | torchvision |" in (outcome.folder / "parity.md").read_text()
    assert max(map(len, outcome.output.splitlines())) <= 80


@pytest.mark.slow
def test_a_switch_on_the_command_line(command: Command) -> None:
    outcome = command(
        *("parity", "--semantics", "torchvision", "--precision", "float32", "--switch", "torch:bn_epsilon")
    )
    assert outcome.status == 1
    text = " ".join(outcome.output.split())
    assert "First divergence, at rung 'activations': activation in torchvision: features.0.1 in Keras: bn_Conv1" in text
    document = json.loads((outcome.folder / "parity.json").read_text())
    assert not document["passed"]
    assert document["pairs"][0]["switches"] == ["torch:bn_epsilon"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--switch", "torch:bn_epsilom"], "--switch torch:bn_epsilom: there is no such switch; did you mean"),
        (["--switch", "torch:gelu"], "--switch torch:gelu: there is no such switch; did you mean 'tensorflow:gelu'?"),
        (["--backbone", "VGG16", "--switch", "torch:bn_epsilon"], "makes no difference to VGG16; try it on ResNet50"),
        (
            ["--backbone", "ConvNeXtTiny", "--precision", "float32", "--switch", "tensorflow:gelu"],
            "smaller than float32's rounding; add --precision float64",
        ),
        (["--backbone", "resnet51"], "unknown backbone 'resnet51'; did you mean 'ResNet50'?"),
        (["--weights", "nowhere.safetensors"], "there is no such file"),
        (["--weights", "kears"], "did you mean 'keras'?"),
        (["--image-size", "16"], "image_size = 16 is not valid"),
        (["--seeds", "0"], "--seeds 0 is too small; give 1 or more"),
        (["--precision", "float16"], "invalid choice: 'float16'"),
        (["--swich", "torch:bn_epsilon"], "unknown option '--swich'; did you mean '--switch'?"),
    ],
)
def test_bad_input(arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["parity", *arguments, "--output-dir", str(tmp_path)]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_the_list_of_switches(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["parity", "--switch", "list"]) == 0
    output = capsys.readouterr().out
    for switch in switches.SWITCHES:
        assert switch.name in output


def test_the_zoo(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["zoo"]) == 0
    output = capsys.readouterr().out
    assert all(pair.name in output for pair in PAIRS)
    assert max(map(len, output.splitlines())) <= 80
    assert compare.main(["zoo", "resnet50"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "23,561,152 parameters, 2048 features" in output
    assert "preprocessing caffe imagenet" in output
    assert compare.main(["zoo", "resnet5"]) == 2


def test_a_failure_is_printed(all_switched: dict[str, PairResult]) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    document = Parity(created="", versions={}, pairs=[all_switched["torch:bn_epsilon"]], passed=False)
    report.show(document.pairs[0], console)
    report.summarise(document, console)
    text = " ".join(stream.getvalue().split())
    assert "First divergence, at rung 'activations': activation in torchvision: features.0.1 in Keras: bn_Conv1" in text
    assert "0 of 1 climbs passed all 9 rungs" in text
    assert "| no: activations |" in report.markdown(document)


def test_a_wing_that_dies_does_not_keep_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, begun = subprocess.Popen(["sleep", "60"]), threading.Event()

    def run(framework: str, job: object, folder: Path, listen: launch.Listener) -> None:
        listen("started", {"pid": other.pid})
        if framework == TENSORFLOW:
            begun.set()
            raise WorkerFailed(f"status {other.wait()}.", framework)
        begun.wait()
        raise WorkerFailed("the torch worker was killed by SIGKILL.", framework)

    monkeypatch.setattr(launch, "run", run)
    with pytest.raises(WorkerFailed, match="the torch worker"):
        climb_all(tmp_path, [ClimbSpec(backbone="MobileNetV2")])
    assert other.wait() == -signal.SIGKILL
    assert not list(tmp_path.glob(".parity-*"))


def test_switches_of_one_wing() -> None:
    given = ["torch:bn_epsilon", "tensorflow:same_padding", "torch:dropout"]
    assert switches.of("torch", given) == {"bn_epsilon", "dropout"}
    with pytest.raises(BadInput, match="no such switch"):
        switches.find("jax:bn_epsilon")
