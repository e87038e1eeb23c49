"""What each strategy is: what it plans, what trains, how it is solved, which loss it has, where its head comes from.

One registry, keyed by the recipe's ``strategy``. The harness asks a ``Method`` and compares no names, so that a new
strategy is an entry here, and an ``Objective`` in both wings (``objectives.py``) where its loss is a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from transfer_parity.shared.zoo.pair import HEAD

if TYPE_CHECKING:
    from transfer_parity.shared.contract.recipe import Recipe

#: What the plan hands out in every step: labelled images; a weak, and a strong view of unlabelled ones; a
#: partner for each labelled image.
Stream = Literal["labelled", "weak", "strong", "partners"]
#: Which stages train: none, so that the head trains alone; the last ones, as many as ``finetune_stages`` says; all.
Stages = Literal["none", "last", "all"]
#: What happens to the running statistics of normalisations: they stay, they stay unless the recipe lets them go
#: (``freeze_batch_norm``), or they learn.
Statistics = Literal["stay", "chosen", "learn"]
#: What a head is fitted by where there are no steps.
ClosedForm = Literal["ridge", "nearest_mean", "prototypes", "zero_shot", "tip_adapter"]
#: The classifiers that wings build: those of a recipe, those of strategies with a head of their own, and "imagenet",
#: the architecture's own.
HeadKind = Literal["linear", "mlp", "conv", "cosine", "cache", "imagenet"]
#: What a head is before anything trains: drawn in the plan, or fitted to the features of the training images.
FirstHead = Literal["drawn", "ridge", "probe"]
#: The loss of a step, as the wings' ``objectives.py`` name it.
ObjectiveName = Literal["supervised", "pseudo_label", "fixmatch", "mean_teacher", "siamese", "multi_task"]
#: In the state of an objective, the name of how near the surest probabilities came to the threshold.
CLOSEST = "threshold.closest"
#: Added to squared distances and lengths: at 0 a root has no gradient.
EPSILON = 1e-9


@dataclass(frozen=True)
class Method:
    """One strategy.

    Attributes:
        name: the recipe's ``strategy``.
        summary: what trains, for --help.
        stages: which stages train besides the head.
        least_stages: how many of the last ones train at least.
        pretrained: whether it begins on the recipe's weights; if not, every weight is drawn.
        only_normalisations: whether of those stages only scales and shifts of normalisations train.
        statistics: what happens to running statistics.
        streams: what the plan hands out in every step.
        objective: its loss.
        embeds: whether the head's outputs are an embedding, in which a class is where the mean of its images is.
        averages: whether what is trained in the end is what the objective keeps, an average of weights.
        fits_head: whether the head is fitted before the first step, as the recipe's ``first_head`` says.
        head: its own; None where the recipe chooses one.
        solution: what fits that head; there are no steps.
        takes_tasks: whether images have labels of several tasks, each with classes of its own.
        text: whether it compares with vectors of the classes that a text encoder made.
        transductive: whether it sees the images that it is tested on, without their labels.
        solvable: whether the recipe may ask for the head in closed form (``solver``) in place of steps.
        defaults: recipe keys and values, where they are not the recipe's own; they stand in for what is not given.
        variants: what a study calls it, by the recipe keys and values that make the difference; the first one is the
            method's own name.
    """

    name: str
    summary: str
    stages: Stages = "none"
    least_stages: int = 1
    pretrained: bool = True
    only_normalisations: bool = False
    statistics: Statistics = "stay"
    streams: tuple[Stream, ...] = ("labelled",)
    objective: ObjectiveName = "supervised"
    embeds: bool = False
    averages: bool = False
    fits_head: bool = False
    head: HeadKind | None = None
    solution: ClosedForm | None = None
    takes_tasks: bool = False
    text: bool = False
    transductive: bool = False
    solvable: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict, hash=False)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)

    @property
    def any_images_will_do(self) -> bool:
        """Whether any set of images of one class each will do, with unlabelled ones beside them where it takes such."""
        return not (self.text or self.takes_tasks)

    @property
    def takes_pairs(self) -> bool:
        """Whether each labelled image of a step has a partner."""
        return "partners" in self.streams

    @property
    def takes_unlabelled(self) -> bool:
        """Whether a step is given unlabelled images, too."""
        return "weak" in self.streams

    def first_trained_stage(self, recipe: Recipe) -> int:
        """Index of the first stage that trains; the number of stages if only the head does."""
        total = len(recipe.pair.stages)
        if self.stages == "none":
            return total
        if self.stages == "all" or recipe.finetune_stages == "all":
            return 0
        return total - recipe.finetune_stages

    def batch_norm_trains(self, recipe: Recipe) -> bool:
        """Whether normalisation uses and learns the statistics of the batch. If not, all of it stays as it is."""
        return self.statistics == "learn" or (self.statistics == "chosen" and not recipe.freeze_batch_norm)

    def closed_form(self, recipe: Recipe) -> ClosedForm | None:
        """What fits the head in place of steps; None where there are steps."""
        return self.solution or ("ridge" if recipe.solver == "ridge" else None)

    def first_head(self, recipe: Recipe) -> FirstHead:
        """What the head is before the first step."""
        return recipe.first_head if self.fits_head else "drawn"

    def trained(self, recipe: Recipe, backbone: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
        """Neutral names of what trains of the backbone; the head always does.

        Args:
            recipe: of this strategy.
            backbone: shapes of all its parameters and statistics, by neutral name, in torch's layout.
        """
        first = self.first_trained_stage(recipe)
        chosen = {name for name in backbone if (recipe.pair.stage_of(name) or 0) >= first}
        if self.only_normalisations:
            # Those of one channel each: kernels have more dimensions, and so has ConvNeXt's layer scale.
            scaled = {_module(name) for name, shape in backbone.items() if name.endswith("weight") and len(shape) == 1}
            scaled |= {_module(name) for name in backbone if name.endswith("running_mean")}
            chosen = {name for name in chosen if _module(name) in scaled and not _is_statistic(name)}
        elif not self.batch_norm_trains(recipe):
            chosen = {name for name in chosen if f"{_module(name)}.running_mean" not in backbone}
        return frozenset(chosen)

    def rate_factor(self, recipe: Recipe, name: str) -> float:
        """Of the learning rate, for a parameter: 1 for the head, and one factor more for each stage away from it.

        Howard and Ruder (2018) call such rates discriminative.
        """
        if recipe.stage_rate_decay == 1 or name.startswith(HEAD):
            return 1.0
        return float(recipe.stage_rate_decay ** (len(recipe.pair.stages) - (recipe.pair.stage_of(name) or 0)))

    def variant(self, recipe: Recipe) -> str:
        """The strategy of a recipe as a study names it."""
        for name, values in self.variants.items():
            if name != self.name and all(_has(recipe, key, value) for key, value in values.items()):
                return name
        return self.name


def _module(name: str) -> str:
    """Whose parameter it is."""
    return name.rpartition(".")[0]


def _is_statistic(name: str) -> bool:
    """Whether it is a running statistic, which no gradient moves."""
    return name.rpartition(".")[2].startswith("running_")


def _has(recipe: Recipe, key: str, value: Any) -> bool:
    """Whether a recipe has a value, or one that comes to the same."""
    if key == "finetune_stages" and value == "all":
        return recipe.first_trained_stage == 0
    return bool(getattr(recipe, key) == value)


_ALL = (
    Method(
        "linear_probe",
        "the head alone",
        solvable=True,
        variants={"linear_probe": {}, "ridge": {"solver": "ridge"}},
    ),
    Method(
        "finetune",
        "the last stages, too",
        stages="last",
        statistics="chosen",
        # What trains was trained before, so the rate is smaller than a probe's and falls to nothing; with few images an
        # epoch is one or two steps, so there are more of them than the 20 (or 10) at 1e-4 that the study had.
        defaults={"learning_rate": 3e-4, "schedule": "cosine", "epochs": 50},
        variants={"finetune": {"finetune_stages": 1}, "finetune_all": {"finetune_stages": "all"}},
    ),
    Method(
        "lp_ft",
        "the last stages, from a head that is fitted first",
        stages="last",
        statistics="chosen",
        fits_head=True,
        # Small rates: the head is right already, and what it stands on is to stay nearly as it is.
        defaults={"learning_rate": 1e-4, "schedule": "cosine", "epochs": 50},
        variants={"lp_ft": {"finetune_stages": 1}, "lp_ft_all": {"finetune_stages": "all"}},
    ),
    Method(
        "norm_only",
        "scales and shifts of normalisations",
        stages="last",
        only_normalisations=True,
        # Few numbers train, one scale and one shift for each channel, wherever they are.
        defaults={"finetune_stages": "all", "learning_rate": 1e-3, "schedule": "cosine", "epochs": 50},
        variants={"norm_only": {}},
    ),
    Method(
        "nearest_mean",
        "nothing; compares with the mean of each class",
        head="cosine",
        solution="nearest_mean",
        variants={"nearest_mean": {}},
    ),
    Method(
        "prototypes",
        "nothing; the means follow test images without labels",
        head="cosine",
        solution="prototypes",
        transductive=True,
        variants={"prototypes": {}},
    ),
    Method(
        "zero_shot",
        "nothing; compares with text features",
        head="cosine",
        solution="zero_shot",
        text=True,
        # As sharp as CLIP's softmax.
        defaults={"logit_scale": 100.0},
        variants={"zero_shot": {}},
    ),
    Method(
        "tip_adapter",
        "nothing; text features, and a cache of the labelled images",
        head="cache",
        solution="tip_adapter",
        text=True,
        defaults={"logit_scale": 100.0, "head_units": 1024},
        variants={"tip_adapter": {}},
    ),
    Method(
        "pseudo_label",
        "also on classes that it is sure of in unlabelled images",
        stages="last",
        least_stages=0,
        streams=("labelled", "weak"),
        objective="pseudo_label",
        defaults={"finetune_stages": 0},
        variants={"pseudo_label": {}},
    ),
    Method(
        "fixmatch",
        "the same, from weak views for strong ones",
        stages="last",
        least_stages=0,
        streams=("labelled", "weak", "strong"),
        objective="fixmatch",
        defaults={"finetune_stages": 0},
        variants={"fixmatch": {}},
    ),
    Method(
        "mean_teacher",
        "also to agree with an average of its weights",
        stages="last",
        least_stages=0,
        streams=("labelled", "weak", "strong"),
        objective="mean_teacher",
        averages=True,
        defaults={"finetune_stages": 0, "unlabeled_weight": 10.0},
        variants={"mean_teacher": {}},
    ),
    Method(
        "siamese",
        "an embedding in which classes are apart",
        stages="last",
        least_stages=0,
        streams=("labelled", "partners"),
        objective="siamese",
        embeds=True,
        defaults={"finetune_stages": 0},
        variants={"siamese": {}},
    ),
    Method(
        "multi_task",
        "one head for several tasks, whose labels may be unknown",
        stages="last",
        least_stages=0,
        objective="multi_task",
        takes_tasks=True,
        defaults={"finetune_stages": 0},
        variants={"multi_task": {}},
    ),
    Method(
        "scratch",
        "everything, from random weights",
        stages="all",
        pretrained=False,
        statistics="learn",
        # Everything is drawn, batches are few: a large rate that falls, and small images, since every step runs the
        # whole network.
        defaults={"optimizer": "sgd", "learning_rate": 0.05, "schedule": "cosine", "epochs": 20, "image_size": 96},
        variants={"scratch": {}},
    ),
)
#: By the recipe's ``strategy``.
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
#: Recipe keys and values by what a study calls a strategy.
VARIANTS: dict[str, dict[str, Any]] = {
    name: {"strategy": method.name, **values} for method in _ALL for name, values in method.variants.items()
}
#: For --help.
SUMMARY = "what trains: " + ", ".join(f"{method.name} ({method.summary})" for method in _ALL)

# A type checker takes names of strategies for words; pydantic accepts those of the registry and nothing else.
if TYPE_CHECKING:
    Strategy = str
else:
    Strategy = Literal[tuple(METHODS)]
