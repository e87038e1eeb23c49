"""The parity ladder: both wings carry out every rung, each in its own process, and what they wrote is compared."""

from __future__ import annotations

import datetime
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shared import checkpoint, differences, evaluation, images, launch, machine, plan, rungs, switches, zoo
from shared import recipe as recipes
from shared.contract import Array, Case, Job, WorkerResult
from shared.crew import Crew, Task
from shared.fetch import Progress
from shared.plan import generator
from shared.recipe import Framework, Recipe
from shared.report.parity import Divergence, PairResult, Parity, RungResult
from shared.rungs import RUNGS, Difference, Entry, Rung

#: Whose order of layers counts, and whose values differences are relative to.
REFERENCE: Framework = "torch"
OTHER: Framework = "tensorflow"
#: Pictures of each class, and how many of them train: 16 in batches of 4, and 8 that are never trained on.
LABELS, PER_LABEL, SHOTS = 4, 6, 4
#: Passes over the training images: 20 steps.
EPOCHS = 5
#: Parameters above which a process in float64 takes more than 10 GB: gradients, moments and copies of them all.
LARGE = 80_000_000


#: One climb, as each wing's case.
Parts = dict[Framework, Case]


@dataclass(frozen=True)
class Climb:
    """What to compare.

    Attributes:
        pair: the architecture.
        semantics: of random weights; a checkpoint brings its own.
        precision: "float64" or "float32".
        seed: of everything random.
        switches: as "wing:name".
        checkpoint: neutral checkpoint, or None for random weights that look trained.
        image_size: side of the input in pixels. None: what a checkpoint is made for; for random weights one that is
            small and yet tells paddings apart.
        until: last rung.
        skip: rungs to leave out, to save time; loss and gradients go together.
    """

    pair: zoo.Pair
    semantics: zoo.Semantics = "torchvision"
    precision: str = "float64"
    seed: int = 0
    switches: tuple[str, ...] = ()
    checkpoint: Path | None = None
    image_size: int | None = None
    until: Rung = "metrics"
    skip: frozenset[Rung] = frozenset()

    @property
    def size(self) -> int:
        """Side of the input in pixels.

        Halved again and again it is even and odd (44, 22, 11; 76, 38, 19), which tells paddings apart, and the last
        feature map has more than one place: architectures that round up at every halving have 2x2 of 44 pixels, those
        that round down need 76, and InceptionV3, which does not pad, 107. A normalisation over one place of each of
        four images would make training chaotic. ConvNeXt does with one place, since it does not normalise over them.
        """
        if self.checkpoint is not None:
            return self.image_size or self.pair.image_size
        smallest = {"VGG": 76, "DenseNet": 76, "InceptionV3": 107}.get(self.pair.family, 44)
        return self.image_size or max(smallest, self.pair.smallest_image)


def recipe_for(climb: Climb, device: str, threads: int) -> Recipe:
    """The trajectory: every parameter trains, normalisation too, with SGD under a warm-up and a cosine, and flips."""
    rate = 1e-4
    if climb.pair.family == "InceptionV3":
        # At 1e-4 rounding grows tenfold a step, in either framework alone: from 1e-13 to 0.3 in eleven steps. Nothing
        # could be told from such a trajectory.
        rate = 1e-6
    if not climb.pair.batch_norm and climb.pair.preprocessing[climb.semantics] == "caffe":
        # Inputs deviate by about 60, elsewhere by about 1; without normalisation, curvature grows by their square.
        rate /= 60**2
    return recipes.validated(
        {
            "name": "parity",
            "backbone": climb.pair.name,
            "weights": "random",
            "strategy": "finetune",
            "finetune_stages": "all",
            "freeze_batch_norm": False,
            "control": False,
            "image_size": climb.size,
            "flip": True,
            "shots": SHOTS,
            "seeds": 1,
            "first_seed": climb.seed,
            "label_smoothing": 0.1,
            "optimizer": "sgd",
            "momentum": 0.9,
            "weight_decay": 0.01,
            "learning_rate": rate,
            "schedule": "cosine",
            "warmup_epochs": 1,
            "epochs": EPOCHS,
            "batch_size": 4,
            "precision": climb.precision,
            "device": device,
            "threads": threads,
        },
        "the command line",
    )


class Ladder:
    """Climbs, pair by pair; results are kept as they come.

    Attributes:
        results: of every climb so far.
    """

    def __init__(self, folder: Path, threads: int | None, device: str, progress: Progress) -> None:
        self.folder, self.progress, self.device = folder, progress, device
        # The two processes run at the same time and share the cores: nothing is timed here.
        self.threads = threads or max(1, machine.available_cores() // 2)
        self.results: list[PairResult] = []
        self.versions: dict[str, str] = {}

    def climb(self, climbs: Sequence[Climb]) -> list[PairResult]:
        """Carry out climbs in one process for each framework, compare, and write ``parity.json``.

        Raises:
            BadInput: a wing found something wrong with what it was given.
            WorkerFailed: a process ended early; earlier results have been written.
        """
        work = Path(tempfile.mkdtemp(prefix=".parity-", dir=self.folder.absolute()))
        try:
            parts = [self._prepare(climb, work) for climb in climbs]
            for result in self._run(_shared(parts), work).values():
                self.versions |= result.versions
            found = [self._judge(climb, part, work) for climb, part in zip(climbs, parts, strict=True)]
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self.results += found
        self.document().save(self.folder / "parity.json")
        return found

    def document(self) -> Parity:
        """Everything so far."""
        return Parity(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=self.versions | {"numpy": np.__version__},
            pairs=self.results,
            passed=all(result.passed for result in self.results),
        )

    def _prepare(self, climb: Climb, work: Path) -> Parts:
        """Draw pictures, labels and plan, and write them down for both wings."""
        recipe = recipe_for(climb, self.device, self.threads)
        folder = work / f"data-{climb.seed}-{climb.size}"
        labels = np.arange(LABELS * PER_LABEL) % LABELS
        if not folder.is_dir():
            folder.mkdir()
            paths = list(draw_pictures(folder, len(labels), climb.seed))
            np.save(folder / "images.npy", np.stack([images.read(p, recipe.resize_to, recipe.size) for p in paths]))
            np.save(folder / "labels.npy", labels)
            drawn = plan.draw(recipe, labels, None, [str(n) for n in range(LABELS)], climb.seed, SHOTS)
            drawn.save(folder / "plan.npz")
        own_classifier, classes = True, 10
        if climb.checkpoint is not None:
            own_classifier, classes = _classifier(climb.checkpoint, climb.pair)
        parts: Parts = {}
        for framework in switches.FRAMEWORKS:
            switched = tuple(sorted(switches.of(framework, climb.switches)))
            what = (climb.pair.name, climb.semantics, climb.precision, str(climb.size), str(climb.seed), *switched)
            parts[framework] = Case(
                id="-".join(what),
                recipe=recipe,
                semantics=climb.semantics,
                own_classifier=own_classifier,
                classes=classes,
                seed=climb.seed,
                switches=switched,
                checkpoint=climb.checkpoint,
                images=folder / "images.npy",
                labels=folder / "labels.npy",
                plan=folder / "plan.npz",
                pictures=tuple(sorted(folder.glob("*.jpg"))),
                until=climb.until,
                skip=climb.skip,
            )
        measuring = _measuring(parts)
        parts[measuring] = parts[measuring].model_copy(update={"measures_rounding": True})
        return parts

    def _run(self, cases: dict[Framework, list[Case]], work: Path) -> dict[Framework, WorkerResult]:
        """Both processes at the same time, but for the largest models, which take most of the memory each."""

        tasks = []
        for framework, mine in cases.items():
            job = Job(kind="trace", recipe=mine[0].recipe, threads=self.threads, cases=tuple(mine))
            tasks.append(Task(framework, job, work / framework, self._listener(framework, mine)))
        largest = max(case.recipe.pair.parameters for mine in cases.values() for case in mine)
        results = Crew(1 if largest > LARGE else len(tasks)).run(tasks)
        return dict(zip(cases, results, strict=True))

    def _listener(self, framework: Framework, cases: list[Case]) -> launch.Listener:
        """Turns a worker's events into progress."""
        done = 0

        def listen(event: str, details: dict[str, Any]) -> None:
            nonlocal done
            if event == "rung":
                name = cases[min(done, len(cases) - 1)].recipe.backbone
                self.progress(f"{name}: {framework} {details['name']}", done, len(cases))
            done += event == "case"

        return listen

    def _judge(self, climb: Climb, parts: Parts, work: Path) -> PairResult:
        """Compare what both wings wrote for one climb."""
        comparison = Comparison(work, parts)
        found = list(comparison.rungs())
        weights = "random"
        if climb.checkpoint is not None:
            weights = checkpoint.read_metadata(climb.checkpoint).source or climb.checkpoint.name
        return PairResult(
            backbone=climb.pair.name,
            semantics=climb.semantics,
            precision=climb.precision,
            weights=weights,
            switches=list(climb.switches),
            seed=climb.seed,
            image_size=climb.size,
            rungs=found,
            max_loss_difference=comparison.largest_loss_difference(),
            passed=all(rung.passed for rung in found),
        )


def _measuring(parts: Parts) -> Framework:
    """The wing whose rounding counts: one in which nothing is switched, better the reference."""
    return OTHER if parts[REFERENCE].switches and not parts[OTHER].switches else REFERENCE


def _shared(parts: Sequence[Parts]) -> dict[Framework, list[Case]]:
    """What each wing has to do. Climbs that differ in the other wing only share a case."""
    shared: dict[Framework, dict[str, Case]] = {framework: {} for framework in switches.FRAMEWORKS}
    for part in parts:
        for framework, case in part.items():
            known = shared[framework].setdefault(case.id, case)
            shared[framework][case.id] = known.model_copy(
                update={
                    "until": max(known.until, case.until, key=RUNGS.index),
                    "skip": known.skip & case.skip,
                    "measures_rounding": known.measures_rounding or case.measures_rounding,
                }
            )
    return {framework: list(cases.values()) for framework, cases in shared.items()}


class Comparison:
    """The rungs of one climb, as both wings wrote them."""

    def __init__(self, work: Path, parts: Parts) -> None:
        self.case = parts[REFERENCE]
        self.folders = {framework: work / framework / case.id for framework, case in parts.items()}
        self.names: dict[Framework, dict[str, str]] = {
            framework: json.loads((folder / "names.json").read_text(encoding="utf-8"))
            for framework, folder in self.folders.items()
        }
        measured = self.folders[_measuring(parts)] / "rounding.json"
        self.rounding: dict[Rung, dict[str, float]] = json.loads(measured.read_text(encoding="utf-8"))

    def rungs(self) -> Iterator[RungResult]:
        """From the lowest to the highest."""
        for rung in RUNGS[: RUNGS.index(self.case.until) + 1]:
            if rung in self.case.skip:
                continue
            if rung == "predictions":
                yield self._predictions()
            elif rung == "metrics":
                yield self._metrics()
            else:
                ours, theirs = self._read(REFERENCE, rung), self._read(OTHER, rung)
                found = rungs.differences(ours, theirs, partial(self._relative, rung))
                yield self._result(rung, list(found))

    def _read(self, framework: Framework, rung: Rung) -> dict[str, Entry]:
        return rungs.read(self.folders[framework] / f"{rung}.safetensors")

    def largest_loss_difference(self) -> float | None:
        """Over all steps of the trajectory; None if it was not climbed or is not finite."""
        if RUNGS.index(self.case.until) < RUNGS.index("trajectory") or "trajectory" in self.case.skip:
            return None
        ours, theirs = (self._read(framework, "trajectory")["losses|"].array for framework in (REFERENCE, OTHER))
        return _finite(differences.largest_difference(ours, theirs))

    def _relative(self, rung: Rung, entry: Entry | None = None) -> float:
        recipe = self.case.recipe
        changes = self.rounding.get(rung, {})
        # What is not measured (inputs, frozen statistics, optimizer states) does not depend on the weights' rounding.
        change = changes.get(entry.what if entry else "logits")
        return rungs.tolerance(rung, recipe.precision, change, entry, recipe)

    def _result(self, rung: Rung, found: list[Difference]) -> RungResult:
        worst = max(found, key=lambda each: (each.excess, each.relative))
        diverged = next((each for each in found if each.excess > 1), None)
        return RungResult(
            name=rung,
            arrays=len(found),
            max_abs_difference=_finite(worst.absolute),
            tolerance=worst.tolerance,
            max_rel_difference=_finite(max(each.relative for each in found)),
            passed=diverged is None,
            first_divergence=self._named(diverged) if diverged else None,
        )

    def _named(self, difference: Difference) -> Divergence:
        name = difference.entry.name
        return Divergence(
            what=difference.entry.what,
            neutral=name or None,
            tensorflow=self.names["tensorflow"].get(name),
            torch=self.names["torch"].get(name),
            max_abs_difference=_finite(difference.absolute),
            tolerance=difference.tolerance,
        )

    def _logits(self) -> tuple[Array, Array, float]:
        """Logits of the images that were not trained on, and how far rounding may move them."""
        ours, theirs = (self._read(framework, "predictions")["logits|"].array for framework in (REFERENCE, OTHER))
        size = float(np.abs(ours).max()) if np.isfinite(ours).all() else 1.0
        return ours, theirs, self._relative("predictions") * size

    def _predictions(self) -> RungResult:
        """Classes that differ, but for ties: where the two best logits are nearer than rounding may move each."""
        ours, theirs, tolerance = self._logits()
        best = np.sort(ours, axis=1)[:, -2:]
        clear = best[:, 1] - best[:, 0] > 2 * tolerance
        differ = (evaluation.predictions(ours) != evaluation.predictions(theirs)) & clear
        entry = Entry("predicted classes", "", np.zeros(0))
        return self._result("predictions", [Difference(entry, float(differ.sum()), float(differ.mean()), 0.0)])

    def _metrics(self) -> RungResult:
        """Metrics of the same logits. The log loss moves by at most twice what the logits move by."""
        ours, theirs, tolerance = self._logits()
        labels = np.load(self.case.labels, allow_pickle=False)[plan.Plan.load(self.case.plan).test]
        differ = evaluation.predictions(ours) != evaluation.predictions(theirs)
        # Each prediction that flips at a tie moves an average over images or classes by at most its share.
        ties = float(differ.sum()) / min(len(labels), LABELS) if self._predictions().passed else 0.0
        found = []
        mine, other = evaluation.evaluate(ours, labels), evaluation.evaluate(theirs, labels)
        for name, most in (
            ("accuracy", ties),
            ("macro_f1", ties),
            ("macro_recall", ties),
            ("log_loss", 2 * tolerance),
        ):
            values = [getattr(metrics, name) for metrics in (mine, other)]
            absolute = math.inf if None in values else abs(values[0] - values[1])
            found.append(Difference(Entry(name.replace("_", " "), "", np.zeros(0)), absolute, absolute, most))
        return self._result("metrics", found)


def draw_pictures(folder: Path, count: int, seed: int) -> Iterator[Path]:
    """Write smooth coloured JPEG textures of several shapes, as photographs have them: decoders and resizers differ."""
    for number in range(count):
        random = generator(seed, "picture", number)
        width, height = 160 + 8 * (number % 3), 120 + 8 * (number % 5)
        y, x = np.mgrid[0:height, 0:width] / 100
        pixels = np.zeros((height, width, 3))
        for _ in range(12):
            fx, fy = random.normal(0, 12, 2)
            pixels += np.cos(fx * x + fy * y + random.uniform(0, 6.3))[..., None] * random.uniform(0, 30, 3)
        path = folder / f"{number:02d}.jpg"
        Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8)).save(path, quality=90)
        yield path


def _classifier(path: Path, pair: zoo.Pair) -> tuple[bool, int]:
    """Whether a checkpoint brings the architecture's own classifier, and the number of its classes."""
    shapes = checkpoint.shapes(path)
    behind = [shape for name, shape in shapes.items() if pair.in_classifier(name) and name.endswith(".bias")]
    return (True, behind[-1][0]) if behind else (False, 10)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
