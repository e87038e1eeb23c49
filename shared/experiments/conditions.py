"""Are strategies compared under equal conditions? From what their recipes say, not from what they are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from transfer_parity.shared.contract.recipe import OPTIONS, Recipe
from transfer_parity.shared.experiments.study_document import Conditions, ConditionValue

Value = str | int | float | bool | None

#: What a strategy is, and how it takes its steps: rates are chosen for each one.
OWN = frozenset(
    {
        *("strategy", "finetune_stages", "freeze_batch_norm", "solver", "ridge_penalty"),
        *("text_features", "logit_scale", "cache_alpha", "cache_beta"),
        *("optimizer", "learning_rate", "momentum", "beta1", "beta2", "epsilon", "weight_decay"),
        *("schedule", "warmup_epochs"),
    }
)
#: What changes no result.
NOTHING = frozenset({"inference_batch_size"})
#: What there is only where a network takes steps.
OF_STEPS = frozenset({"epochs", "batch_size", "loss", "label_smoothing"})
#: What there is only where images go through a backbone.
OF_IMAGES = frozenset({"image_size", "resize", "preprocessing"})
#: What is told even where it is alike.
TOLD = ("image_size", "batch_size", "epochs", "precision")
#: All others: a new key of the recipe is among them until somebody says that it makes no difference.
KEYS = tuple(
    key for key in Recipe.model_fields if key not in {*OPTIONS.common, *OPTIONS.fixed, *OWN, *NOTHING} | set(TOLD)
)


def conditions(recipes: Mapping[str, Recipe]) -> Conditions:
    """What the strategies of a study have in common, and what not.

    Args:
        recipes: by strategy.
    """
    closed = [name for name, recipe in recipes.items() if not in_steps(recipe)]
    alike: dict[str, Value] = {}
    differing: dict[str, list[ConditionValue]] = {}
    for key in (*TOLD, *KEYS):
        names = [name for name, recipe in recipes.items() if _counts(key, recipe)]
        values = {name: _value(recipes[name], key) for name in names}
        distinct = list(dict.fromkeys(values.values()))
        if len(distinct) > 1:
            differing[key] = [
                ConditionValue(value=value, strategies=[name for name in names if values[name] == value])
                for value in distinct
            ]
        elif distinct and key in TOLD:
            alike[key] = distinct[0]
    return Conditions(alike=alike, differing=differing, closed_form=closed)


def _counts(key: str, recipe: Recipe) -> bool:
    """Whether there is anything in a recipe that a key could change."""
    if key in OF_STEPS:
        return in_steps(recipe)
    if key == "head_units":
        return recipe.head_kind in ("mlp", "conv")
    return key not in OF_IMAGES or recipe.image_features is None


def in_steps(recipe: Recipe) -> bool:
    """Whether anything is trained in steps, so that there are batches, passes and a rate."""
    return recipe.closed_form is None


def _value(recipe: Recipe, key: str) -> Value:
    value: Value = recipe.size if key == "image_size" else getattr(recipe, key)
    return value


def sentence(found: Conditions) -> str:
    """What stands at the plots: alike in what, different in what."""
    parts = [_worded(key, value) for key, value in found.alike.items()]
    head = f"Alike: {', '.join(parts)}." if parts else ""
    differences = [_difference(key, values) for key, values in found.differing.items()]
    unequal = f"Not alike: {'; '.join(differences)}." if differences else ""
    closed = (
        f"In closed form, so with one pass and no steps: {_listed(found.closed_form)}." if found.closed_form else ""
    )
    return " ".join(part for part in (head, unequal, closed) if part)


def _difference(key: str, values: Sequence[ConditionValue]) -> str:
    """Every value with those that have it; the largest group, if it is one, is "the others"."""
    ordered = sorted(values, key=lambda each: len(each.strategies))
    largest = ordered[-1] if len(ordered[-1].strategies) > len(ordered[-2].strategies) else None
    parts = []
    for number, each in enumerate(ordered):
        worded = str(each.value) if number and key == "epochs" else _worded(key, each.value)
        parts.append(f"{worded} ({'the others' if each is largest else _listed(each.strategies)})")
    return ", ".join(parts)


def _worded(key: str, value: Value) -> str:
    if key == "image_size":
        return f"{value} px"
    if key == "batch_size":
        return f"batches of {value}"
    if key == "epochs":
        return f"{value} pass{'' if value == 1 else 'es'} over the training images"
    if key == "precision":
        return str(value)
    if isinstance(value, bool):
        return key.replace("_", " ") if value else f"no {key.replace('_', ' ')}"
    return f"{key.replace('_', ' ')} {'unset' if value is None else value}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
