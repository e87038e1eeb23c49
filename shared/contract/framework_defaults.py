"""How a framework carries out a recipe: matched, as it does by itself, or matched but for one of its defaults."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from transfer_parity.shared.contract import switches
from transfer_parity.shared.contract.recipe import Recipe
from transfer_parity.shared.contract.switches import Switch
from transfer_parity.shared.contract.wings import REFERENCE, WINGS, Framework, wing
from transfer_parity.shared.core.errors import BadInput, did_you_mean
from transfer_parity.shared.data.folders import Dataset
from transfer_parity.shared.data.images import is_jpeg
from transfer_parity.shared.data.storage import Files
from transfer_parity.shared.zoo.pair import Pair

Mode = Literal["matched", "as shipped", "one default", "two defaults"]
#: Switches that change which parameters a network has.
_OTHER_PARAMETERS = frozenset({"conv_bias", "bn_scale"})


@dataclass(frozen=True)
class Configuration:
    """How one framework carries out a recipe.

    Attributes:
        recipe: with the framework's own values, where it has some.
        switches: names, without the framework.
    """

    recipe: Recipe
    switches: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Default:
    """One thing that a framework does differently unless it is told what a matched run tells it.

    Attributes:
        name: of its switch, or "weights".
        summary: what the framework does, in a few words.
        switch: whether there is a switch of this name.
        changes: recipe keys that get another value.
        native: whether the framework does it by itself. If not, it is a mistake that is easily made when a model is
            moved from one framework to the other.
    """

    framework: Framework
    name: str
    summary: str
    switch: bool
    native: bool
    changes: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """As it is written on the command line."""
        return f"{self.framework}:{self.name}"


def check(labels: Iterable[str]) -> None:
    """Make sure that there are such defaults, whether or not they matter to some images.

    Args:
        labels: as they are written on the command line.

    Raises:
        BadInput: there is no such default.
    """
    known = [*(f"{each.identifier}:weights" for each in WINGS), *switches.all_names()]
    for given in labels:
        if given not in known:
            raise BadInput(f"--switches {given}: there is no such default; {did_you_mean(given, known)}")


def defaults(recipe: Recipe, data: Dataset) -> list[Default]:
    """What either framework may do differently, as far as it matters to a recipe and its images."""
    found = [default for framework in recipe.frameworks for default in _library_weights(framework, recipe)]
    for switch in switches.SWITCHES:
        for framework in recipe.frameworks:
            if framework in switch.caught and _matters(switch, recipe, data):
                native = framework in switch.native or _library_structure(framework, switch, recipe)
                changes = _epsilon(framework, recipe) if native and switch.name == "adam_epsilon" else {}
                summary = switch.summary
                if changes:
                    summary += f", {changes['epsilon']:g} unless told otherwise"
                found.append(Default(framework, switch.name, summary, True, native, changes))
    return found


def with_default(recipe: Recipe, default: Default) -> Configuration:
    """A matched run in which one framework has its way in one thing."""
    changed = recipe.model_copy(update=default.changes)
    return Configuration(changed, frozenset({default.name} if default.switch else ()))


def as_shipped(recipe: Recipe, framework: Framework, found: list[Default]) -> Configuration:
    """A run in which a framework has its way in everything that it does by itself."""
    native = [default for default in found if default.framework == framework and default.native]
    update = {key: value for default in native for key, value in default.changes.items()}
    return Configuration(
        recipe.model_copy(update=update), frozenset(default.name for default in native if default.switch)
    )


def _library_weights(framework: Framework, recipe: Recipe) -> list[Default]:
    library, libraries = wing(framework).library, {each.library for each in WINGS}
    if not recipe.method.pretrained or recipe.weights not in libraries or recipe.weights == library:
        return []
    what = "takes its own library's ImageNet weights, with the preprocessing, padding and epsilon that belong to them"
    return [Default(framework, "weights", what, False, True, {"weights": library})]


def _library_structure(framework: Framework, switch: Switch, recipe: Recipe) -> bool:
    """Whether a library builds an untrained network otherwise than the reference does, as matched networks are built.

    There are no weights that would tell how.
    """
    aspects: tuple[str, ...] = recipe.pair.aspects
    return wing(framework) is not REFERENCE and _drawn(recipe) and switch.name in aspects


def _drawn(recipe: Recipe) -> bool:
    """Whether the whole network starts from weights that are drawn."""
    return not recipe.pretrained


def _matters(switch: Switch, recipe: Recipe, data: Dataset) -> bool:
    pair: Pair = recipe.pair
    if not switch.concerns(pair) or not switch.counts(recipe):
        return False
    if switch.name in _OTHER_PARAMETERS and not _drawn(recipe):
        # Pretrained weights would not fit the network.
        return False
    if switch.only_float64 and recipe.precision != "float64":
        return False
    if switch.name == "jpeg_decoding":
        return _has_jpegs(data)
    return switch.name != "resizing" or isinstance(data.pictures, Files)


def _has_jpegs(data: Dataset) -> bool:
    return isinstance(data.pictures, Files) and any(map(is_jpeg, data.pictures.paths))


def _epsilon(framework: Framework, recipe: Recipe) -> dict[str, Any]:
    """The framework's epsilon, unless the recipe says which one."""
    return {"epsilon": wing(framework).epsilon} if recipe.epsilon == Recipe.model_fields["epsilon"].default else {}
