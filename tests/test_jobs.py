"""Jobs are written and read as what they are, and arms are told apart by their fields."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from transfer_parity.shared.contract import artifacts, framework_defaults, jobs
from transfer_parity.shared.contract.jobs import (
    DataFiles,
    DataSetJob,
    DownloadJob,
    Execution,
    ExportJob,
    FeaturesJob,
    ImportJob,
    Job,
    ProbeJob,
    RunSpec,
    TraceJob,
    TrainJob,
)
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.data.folders import from_folder
from transfer_parity.shared.experiments import arms

RECIPE = Recipe(precision="float64", device="cpu")
EXECUTION = Execution.of(RECIPE, threads=3, runtime="stock")
FILE = Path("/somewhere/weights.safetensors")
DATA = DataFiles(images=Path("/i.npy"), labels=Path("/l.npy"), classes=("a", "b"), digest="d", pictures=(Path("/p"),))
RUN = RunSpec(id="run", pretrained=True, shots="all", seed=1, plan="plan.npz", explain=(3, 1))
JOBS: list[Job] = [
    TrainJob(execution=EXECUTION, recipe=RECIPE, data=DATA, checkpoint=FILE, store=None, runs=(RUN,)),
    FeaturesJob(execution=EXECUTION, recipe=RECIPE, data=DATA, checkpoint=None, store=Path("/store"), runs=(RUN,)),
    DownloadJob(execution=EXECUTION, backbone="VGG16"),
    ImportJob(execution=EXECUTION, recipe=RECIPE, checkpoint=FILE, semantics="keras", classifier="required"),
    ExportJob(execution=EXECUTION, recipe=RECIPE, checkpoint=FILE, suffix=".keras", probe=True),
    ProbeJob(execution=EXECUTION, recipe=RECIPE, checkpoint=FILE),
    TraceJob(execution=EXECUTION, climbs=()),
    DataSetJob(execution=EXECUTION, name="Flowers102"),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.kind)
def test_a_job_is_read_as_it_was_written(job: Job, tmp_path: Path) -> None:
    jobs.write(job, tmp_path)
    again = jobs.read(tmp_path)
    assert type(again) is type(job)
    assert again == job
    assert (again.execution.threads, again.execution.precision, again.execution.runtime) == (3, "float64", "stock")


def test_every_kind_has_its_own_name() -> None:
    assert len({job.kind for job in JOBS}) == len({type(job) for job in JOBS}) == len(JOBS)


@pytest.mark.parametrize(
    "change",
    [{"kind": "compare"}, {"kind": "run"}, {"name": None}, {"threads": 1}],
    ids=["old", "other", "none", "more"],
)
def test_what_belongs_to_another_kind_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    jobs.write(DataSetJob(execution=EXECUTION, name="Flowers102"), tmp_path)
    path = tmp_path / artifacts.JOB
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValidationError):
        jobs.read(tmp_path)


def test_arms_are_told_apart_by_their_fields(photos: Path) -> None:
    """Also where strategies have names like what a label says of a configuration."""
    recipe, data = Recipe(weights="random", control=False, image_size=32), from_folder(photos)
    recipes = {"linear_probe": recipe, "as-shipped": recipe, "data_order": recipe}
    defaults = framework_defaults.defaults(recipe, data)
    found = [*arms.matched(recipes, data), *arms.shipped(recipes, data)]
    found += [arms.single_default(name, recipe, default) for name in recipes for default in defaults]
    assert len({arm.key for arm in found}) == len({(arm.key.framework, arm.key.label) for arm in found}) == len(found)
    for arm in found:
        assert bool(arm.configuration.switches) == (arm.key.mode != "matched")
        if arm.key.default is not None:
            assert arm.key.framework == arm.key.default.framework
            assert arm.configuration == framework_defaults.with_default(recipe, arm.key.default)
    assert {arm.key.label for arm in found} >= {"linear_probe", "linear_probe+as-shipped", "linear_probe+data_order"}
