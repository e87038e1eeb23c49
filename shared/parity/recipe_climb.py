"""What the ladder of a recipe needs before it begins: its own images, weights and plans, cut to a short training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transfer_parity.shared.contract import artifacts, plan, recipe_files, switches
from transfer_parity.shared.contract.climbs import ClimbSpec
from transfer_parity.shared.contract.jobs import Execution, RecipeClimb, RunSpec
from transfer_parity.shared.contract.methods import METHODS, VARIANTS
from transfer_parity.shared.contract.plan import Plan
from transfer_parity.shared.contract.recipe import Recipe, Shots
from transfer_parity.shared.contract.wings import IDENTIFIERS, REFERENCE, Framework
from transfer_parity.shared.core.cache import Cache
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.core.random import generator
from transfer_parity.shared.data import folders, task_labels
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.parity.climb import LABELS, PER_LABEL, SHOTS, draw_pictures
from transfer_parity.shared.runtime import prepare, resolve_dataset, resolve_weights
from transfer_parity.shared.runtime.prepare import RunInputs
from transfer_parity.shared.zoo.pair import Pair, Semantics

#: Steps of the first run at least, and at most; of the second run, which is there for what is left of the first, at
#: least.
STEPS, MOST_STEPS, STEPS_AGAIN = 20, 40, 5
#: Test images that are predicted.
TESTED = 32
#: Images a step where nobody says otherwise: the last of three steps is smaller.
BATCH = 6
#: With several tasks: few images of each class, and batches in which no label of a task may be known.
OF_TASKS = {"shots": 2, "batch_size": 3}
#: Heads, and strategies as a study names them.
HEADS = tuple(recipe_files.literal_choices("head"))
STRATEGIES = tuple(VARIANTS)


@dataclass(frozen=True)
class RecipeSubject:
    """One climb of a recipe.

    Attributes:
        recipe: as it runs, but for its precision and its number of epochs.
        source: of the recipe: its name, or None if it was made for the ladder.
        seed: of the first run; the second run has the next one.
        inputs: images, checkpoint and the plans of both runs.
        semantics: of weights that look trained, in place of a checkpoint; None where the recipe says what weights.
        switches: as "wing:name".
        trusted: the wing that measures rounding; None for one in which nothing is switched.
    """

    recipe: Recipe
    source: str | None
    seed: int
    inputs: RunInputs
    semantics: Semantics | None = None
    switches: tuple[str, ...] = ()
    trusted: Framework | None = None

    @property
    def pretrained(self) -> bool:
        """Whether both runs share a backbone."""
        drawn = self.recipe.weights == "random" and self.semantics is None
        return not drawn and self.recipe.method.pretrained

    @property
    def strategy(self) -> str:
        """As a study names it."""
        return strategy_of(self.recipe)

    @property
    def head(self) -> str | None:
        """Which of the recipe's heads trains; None where something else does."""
        return self.recipe.head_kind

    @property
    def steps(self) -> int:
        """Of the first run."""
        first = self.runs[0]
        steps = len(self.inputs.plans[first.shots, first.seed].learning_rates)
        return 0 if self.recipe.closed_form is not None else steps

    def tested(self, run: int) -> NDArray[np.int64]:
        """Classes of what is predicted in the first run or the second one, in order, (n,)."""
        spec = self.runs[run - 1]
        labels: NDArray[np.int64] = self.inputs.data.labels[self.inputs.plans[spec.shots, spec.seed].test]
        return labels

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """The first seed's, and the next one's."""
        shots, kind = self.recipe.shots[0], self.pretrained
        return tuple(
            RunSpec(
                id=artifacts.run_id(kind, shots, seed),
                pretrained=kind,
                shots=shots,
                seed=seed,
                plan=artifacts.plan_file(shots, seed),
            )
            for seed in (self.seed, self.seed + 1)
        )

    @property
    def unswitched(self) -> Framework:
        """The wing whose rounding counts: one in which nothing is switched, better the reference."""
        if self.trusted is not None:
            return self.trusted
        mine = [each for each in IDENTIFIERS if not switches.of(each, self.switches)]
        return REFERENCE.identifier if REFERENCE.identifier in mine or not mine else mine[0]

    def climb(self, framework: Framework, number: int, folder: Path, execution: Execution, single: bool) -> RecipeClimb:
        """One wing's part of it; plans and labels are written into its folder.

        Args:
            framework: whose part.
            number: of the climb.
            folder: of the wing's job.
            execution: of its process.
            single: whether it is the part that only runs engines, in float32.
        """
        name = f"recipe-{number:03d}"
        (folder / name).mkdir(parents=True)
        recipe = self.recipe.model_copy(update={"precision": execution.precision})
        inputs, chosen = replace(self.inputs, recipe=recipe), switches.of(framework, self.switches)
        return RecipeClimb(
            id=name,
            job=prepare.train_job(folder / name, inputs, self.runs, execution, None, chosen),
            semantics=self.semantics if self.pretrained else None,
            engines_only=single,
            measures_rounding=not single and framework == self.unswitched,
        )


def strategy_of(recipe: Recipe) -> str:
    """The strategy of a recipe as a study names it."""
    return recipe.method.variant(recipe)


def in_precision(recipe: Recipe, precision: str) -> Recipe:
    """A recipe in another precision.

    Raises:
        BadInput: its epsilon is nothing in this one.
    """
    return recipe_files.validated({**recipe.given(), "precision": precision}, f"--precision {precision}")


def from_recipe(
    recipe: Recipe, seeds: Sequence[int], given: Sequence[str], cache: Cache, threads: int, progress: Progress
) -> Iterator[RecipeSubject]:
    """Climbs of a recipe with its own images, first number of shots and weights, one for each seed.

    Args:
        recipe: in the precision of the ladder.
        seeds: of the climbs.
        given: switches.
        cache: of images and weights.
        threads: of a process that brings weights.
        progress: hears how far it is.

    Raises:
        BadInput: the recipe cannot be carried out with what was given.
    """
    data, pixels = prepare.decoded(recipe, prepare.loaded(recipe, cache, progress), cache, progress)
    checkpoint = resolve_weights.resolve(recipe, cache, threads, progress)
    for seed in seeds:
        yield _subject(recipe, recipe.name, seed, (data, pixels, checkpoint), given)


def of_defaults(
    pair: Pair,
    heads: Sequence[str],
    strategies: Sequence[str],
    semantics: Sequence[Semantics],
    checkpoint: Path | None,
    work: Path,
    base: Mapping[str, object],
    given: Sequence[str],
    seeds: Sequence[int],
    progress: Progress,
) -> Iterator[RecipeSubject]:
    """Climbs of recipes made of heads and strategies with their defaults, over drawn pictures.

    Args:
        pair: the backbone.
        heads, strategies: of the recipes; a closed form is for linear heads and is climbed with them alone.
        semantics: of weights that look trained; those of a checkpoint are its own.
        checkpoint: neutral checkpoint, or None for weights that look trained.
        work: keeps the pictures as long as the climbs last.
        base: values of the recipes that do not depend on the strategy.
        given: switches.
        seeds: of the climbs.
        progress: hears how far it is.
    """
    for seed in seeds:
        folder = work / f"pictures-{seed}"
        if not folder.is_dir():
            draw_classes(folder, seed, LABELS)
            label_tasks(folder)
        # As long as this backbone's features are.
        text = work / f"text-{seed}-{pair.channels}.npy"
        if not text.is_file():
            np.save(text, generator(seed, "text").standard_normal((LABELS, pair.channels)))
        cache = Cache(str(work / "cache"))
        for strategy in strategies:
            for head in heads:
                if head != "linear" and _has_its_own_head(strategy):
                    continue
                recipe = recipe_of(pair, head, strategy, {**base, "data": str(folder), "text_features": str(text)})
                data, pixels = prepare.decoded(recipe, resolve_dataset.of_recipe(recipe, cache), cache, progress)
                scratch = not recipe.method.pretrained
                # From scratch, no weights have a meaning.
                for meaning in semantics[:1] if scratch else semantics:
                    found = _subject(recipe, None, seed, (data, pixels, None if scratch else checkpoint), given)
                    yield replace(found, semantics=meaning if checkpoint is None and not scratch else None)


def _has_its_own_head(strategy: str) -> bool:
    """Whether it goes with one kind of head alone."""
    kind = VARIANTS[strategy]
    return kind.get("solver") == "ridge" or METHODS[kind["strategy"]].head is not None


def recipe_of(pair: Pair, head: str, strategy: str, base: Mapping[str, object]) -> Recipe:
    """A recipe of a strategy's defaults; where images go through the network in every step they are augmented."""
    kind = VARIANTS[strategy]
    method = METHODS[kind["strategy"]]
    whole = method.stages == "all" or {**method.defaults, **kind}.get("finetune_stages") == "all"
    size = ClimbSpec(backbone=pair.name).size
    values = {
        "name": f"{strategy}-{head}",
        "backbone": pair.name,
        "weights": "random",
        "control": False,
        "image_size": size,
        # Beyond the shots, and the test images, some are left without labels.
        "shots": [SHOTS, "all"] if method.takes_unlabelled else SHOTS,
        # So that some views count and some do not, from the first batch on; and labels a gradient could flow through.
        "threshold": 0.3 if pair.family.startswith("MobileNetV3") else 0.5,
        "label_temperature": 0.5 if method.objective == "pseudo_label" else 0.0,
        "batch_size": BATCH,
        **(OF_TASKS if method.takes_tasks else {}),
        "head": head,
        "head_units": 32,
        "first_head": "ridge" if head == "linear" else "probe",
        "flip": whole,
        "crop": whole,
        **kind,
    }
    return recipe_files.validated({**values, **base}, "the command line")


def chosen(option: str, names: Sequence[str] | None, known: Sequence[str], default: str) -> list[str]:
    """What ``--heads`` or ``--strategies`` mean; all of them for "all".

    Raises:
        BadInput: one is not known.
    """
    for name in names or ():
        if name != "all" and name not in known:
            raise BadInput(f"{option} {name}: there is no such name; {did_you_mean(name, [*known, 'all'])}")
    return list(known) if names and "all" in names else list(dict.fromkeys(names or [default]))


def draw_classes(folder: Path, seed: int, classes: int) -> None:
    """Write drawn pictures, one folder for each class."""
    folder.mkdir(parents=True)
    paths = list(draw_pictures(folder, classes * PER_LABEL, seed))
    for number, path in enumerate(paths):
        home = folder / f"class{number % classes}"
        home.mkdir(exist_ok=True)
        path.rename(home / path.name)


def label_tasks(folder: Path) -> None:
    """Write labels of three tasks beside pictures: all are known of the first, some of the second and third."""
    lines = [f"{task_labels.FILE},class,thirds,halves"]
    for number, path in enumerate(sorted(folder.glob("*/*.*"))):
        thirds = f"a{number % 2}" if number % 3 else ""
        halves = f"b{number // 2 % 2}" if number % 2 else ""
        lines.append(",".join((path.relative_to(folder).as_posix(), path.parent.name, thirds, halves)))
    (folder / folders.TASK_LABELS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _subject(
    recipe: Recipe,
    source: str | None,
    seed: int,
    found: tuple[Dataset, Path, Path | None],
    given: Sequence[str],
) -> RecipeSubject:
    data, pixels, checkpoint = found
    shots = recipe.shots[0]
    drawn, short = _plan(recipe, data, seed, STEPS, MOST_STEPS)
    again, _ = _plan(recipe, data, seed + 1, STEPS_AGAIN, STEPS)
    plans: dict[tuple[Shots, int], Plan] = {(shots, seed): drawn, (shots, seed + 1): again}
    return RecipeSubject(short, source, seed, RunInputs(short, data, pixels, checkpoint, plans), None, tuple(given))


def _plan(recipe: Recipe, data: Dataset, seed: int, least: int, most: int) -> tuple[Plan, Recipe]:
    """A plan of at least, and as a rule at most, so many steps; and the recipe with its number of epochs."""
    split = (data.labels, data.is_test, list(data.classes), seed, recipe.shots[0])
    first = plan.draw(recipe.model_copy(update={"epochs": 1}), *split)
    size, images = recipe.batch_size, len(first.train)
    steps = math.ceil(images / size)
    epochs = 1 if recipe.closed_form is not None else math.ceil(least / steps)
    short = recipe.model_copy(update={"epochs": epochs})
    found = cut(plan.draw(short, *split), size, most)
    # Spread over all of them: they are sorted, often by class.
    every = math.ceil(len(found.test) / TESTED)
    return replace(found, test=found.test[::every]), short


def cut(drawn: Plan, batch_size: int, most: int) -> Plan:
    """A plan of one epoch without steps beyond so many; the small last batch stays. Others are returned as they are."""
    images = len(drawn.train)
    if len(drawn.order) > 1 or math.ceil(images / batch_size) <= most:
        return drawn
    kept = (most - 1) * batch_size + (images % batch_size or batch_size)
    train = drawn.train[drawn.order[0, :kept]]
    partners = drawn.partners[:, :kept]
    if len(partners):
        # Those beyond the cut are replaced by images within it.
        partners = np.where(np.isin(partners, train), partners, train[::-1])
    return replace(
        drawn,
        train=train,
        partners=partners,
        order=np.arange(kept)[None],
        learning_rates=drawn.learning_rates[:most],
        flips=drawn.flips[:, :kept],
        crops=drawn.crops[:, :kept],
        unlabelled_order=drawn.unlabelled_order[:most],
        unlabelled_views=drawn.unlabelled_views[:most],
    )
