"""Jobs of one run each, which one process of a wing carries out one after the other."""

from __future__ import annotations

from pathlib import Path

from tests.processes import python
from transfer_parity.shared.contract import jobs, plan
from transfer_parity.shared.contract.jobs import Execution, RunSpec
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.runtime import prepare, resolve_dataset
from transfer_parity.shared.runtime.prepare import RunInputs

RUN = "run"

WORK = """
import sys
from pathlib import Path
from transfer_parity.shared.contract import jobs
from transfer_parity.shared.core.clocks import Phases
from transfer_parity.shared.runtime.events import Events
from transfer_parity.shared.runtime.train import RunLoop
from transfer_parity.WING.wing import WING as wing
wing.device.configure(1, "float64", "cpu")
# What people compare speeds with takes longer than a tiny run.
wing.inference.matrix_product_rate = lambda network: 1e9
events = Events()
for job in sorted(Path(sys.argv[1]).iterdir()):
    phases = Phases(wing.device.synchronize)
    phases.add("start", 0.0)
    RunLoop(wing, jobs.read(job), job, events, phases).run()
"""


def quiet(what: str, done: int, total: int) -> None:
    """Nobody watches."""


def write_job(folder: Path, recipe: Recipe, cache: Cache, explain: int = 0) -> Path:
    """A job with the run of a recipe's first seed and most images, in a folder, and maps of so many test images.

    Returns:
        The folder of the run.
    """
    folder.mkdir(parents=True)
    loaded = prepare.with_unlabelled(recipe, resolve_dataset.load(recipe.data, cache))
    found, pixels = prepare.decoded(recipe, loaded, cache, quiet)
    shots, seed = recipe.shots[-1], recipe.first_seed
    drawn = plan.draw(recipe, found.labels, found.is_test, list(found.classes), seed, shots)
    explained = tuple(drawn.test[:explain].tolist())
    whole = recipe.image_features is None
    run = RunSpec(
        id=RUN, pretrained=False, shots=shots, seed=seed, plan="plan.npz", save_model=whole, explain=explained
    )
    inputs = RunInputs(recipe, found, pixels, None, {(shots, seed): drawn})
    jobs.write(prepare.train_job(folder, inputs, [run], Execution.of(recipe, 1), None), folder)
    return folder / RUN


def carry_out(wing: str, folder: Path, program: str = WORK, *arguments: str) -> None:
    """Let a process of a wing do all jobs in a folder; in float64, unless the program says otherwise."""
    python(program.replace("WING.wing", f"{wing}.wing"), folder, *arguments)
