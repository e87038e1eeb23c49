"""How often a speed verdict is right: on two identical workers, on a planted slowdown, beside a busy neighbour."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import pictures
from benchmarks.records import TRIALS, Row
from benchmarks.turns import Setting
from transfer_parity.shared.contract import artifacts, wings
from transfer_parity.shared.contract.jobs import Execution, RunSpec
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.contract.wings import TORCHVISION
from transfer_parity.shared.core import machine
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.evaluation import speed
from transfer_parity.shared.evaluation.speed import Repeat
from transfer_parity.shared.runtime import launch, prepare, resolve_dataset
from transfer_parity.shared.runtime.prepare import RunInputs

#: Trials of a slowed worker, of two equal ones, and of a busy neighbour.
SLOWED_TRIALS, EQUAL_TRIALS, NEIGHBOURS = 10, 20, 5
#: Pairs in a trial. A false alarm must be rare with the fewest pairs that give a verdict at all. To find a difference
#: of a tenth takes more of them on a machine that others use, too: 11 where pairs scatter by 9 %
#: (``significance.repeats_to_find``), and some more for nine trials of ten to come out right almost surely.
FEW, ENOUGH = speed.FEWEST, 15
#: Modules that stand for the two wings: torch's own, and the same a tenth slower.
ALIKE, SLOWED = TORCHVISION.package, "benchmarks.slowed"


def verdicts(setting: Setting) -> list[Row]:
    """Torch's worker against itself, and against itself slowed down, taking turns as frameworks do."""
    equal: list[tuple[Repeat, Repeat]] = []
    slower: list[tuple[Repeat, Repeat]] = []
    for number in range(rounds := SLOWED_TRIALS * ENOUGH):
        one = _repeat("torch", _worker(setting, ALIKE), number)
        if len(equal) < EQUAL_TRIALS * FEW:
            equal.append((one, _repeat("tensorflow", _worker(setting, ALIKE), number)))
        slower.append((one, _repeat("tensorflow", _worker(setting, SLOWED), number)))
        seconds = [f"{pairs[-1][1].worker.wall_seconds:.2f}" for pairs in (equal, slower)]
        setting.say(
            f"verdicts {number + 1}/{rounds}: {one.worker.wall_seconds:.2f}, equal {seconds[0]}, slower {seconds[1]}"
        )
    alike, slowed = _trials(equal, FEW), _trials(slower, ENOUGH)
    noticed = sum(_beside_a_neighbour(setting) for _ in range(NEIGHBOURS))
    found = [trial.ratios[0].median for trial in slowed if trial.ratios] or [math.nan]
    return [
        _share(
            "a slowdown of 10 % is reported as such",
            sum(each.verdict == "torch" for each in slowed),
            len(slowed),
            0.9,
            f"{ENOUGH} pairs in a trial; the slower one took {min(found):.3f} to {max(found):.3f} times as long",
        ),
        _share(
            "two identical workers are declared different",
            sum(each.verdict in ("torch", "tensorflow") for each in alike),
            len(alike),
            0.05,
            f"{FEW} pairs in a trial",
            at_most=True,
        ),
        _share("a busy neighbour is noticed", noticed, NEIGHBOURS, 1.0, "a process that does nothing but count"),
    ]


def _trials(pairs: list[tuple[Repeat, Repeat]], size: int) -> list[speed.Speed]:
    """Verdicts on so many pairs at a time."""
    return [
        speed.compare([repeat for pair in pairs[start : start + size] for repeat in pair])
        for start in range(0, len(pairs), size)
    ]


def _share(what: str, count: int, total: int, target: float, note: str, at_most: bool = False) -> Row:
    return Row(
        what=what,
        framework="torch",
        quantity=TRIALS,
        reference=f"{total} trials",
        ours=[count],
        theirs=[total],
        ratios=[count / total],
        target=target,
        bound="at most" if at_most else "at least",
        others_share=[0.0],
        notes=[note],
    )


def _repeat(framework: Framework, worker: WorkerResult, number: int) -> Repeat:
    return Repeat.of(framework, "tuned", "float32", number, worker)


def _worker(setting: Setting, module: str) -> WorkerResult:
    """One process: features of a few images, and a head."""
    recipe = Recipe(shots=(5,), seeds=1, epochs=20, weights="random", control=False, image_size=128)
    cache = Cache(setting.cache)
    loaded = resolve_dataset.load(str(pictures.sample(setting.data, setting.folder)), cache)
    data, pixels = prepare.decoded(recipe, loaded, cache, lambda what, done, total: None)
    inputs = RunInputs(recipe, data, pixels, None, prepare.drawn(recipe, data))
    shots, seed = next(iter(inputs.plans))
    name, file = artifacts.run_id(False, shots, seed), artifacts.plan_file(shots, seed)
    run = RunSpec(id=name, pretrained=False, shots=shots, seed=seed, plan=file)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, _standing_for_torch(module):
        execution = Execution.of(recipe, machine.available_cores())
        job = prepare.train_job(Path(folder), inputs, [run], execution, None)
        return launch.run("torch", job, Path(folder))


@contextlib.contextmanager
def _standing_for_torch(module: str) -> Iterator[None]:
    before = wings.WINGS
    wings.WINGS = tuple(replace(wing, package=module) if wing.identifier == "torch" else wing for wing in before)
    try:
        yield
    finally:
        wings.WINGS = before


def _beside_a_neighbour(setting: Setting) -> bool:
    """Whether a worker that has to share a core says so."""
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        return speed.disturbance(_worker(setting, ALIKE)) is not None
    finally:
        neighbour.kill()
        neighbour.wait()
