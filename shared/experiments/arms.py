"""The arms of a sweep: what is carried out, by which framework, and in which configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from transfer_parity.shared.contract import framework_defaults
from transfer_parity.shared.contract.framework_defaults import Configuration, Default, Mode
from transfer_parity.shared.contract.recipe import Framework, Recipe
from transfer_parity.shared.data.folders import Dataset


@dataclass(frozen=True)
class ArmKey:
    """What tells an arm from all others.

    Attributes:
        framework: which carries it out.
        strategy: its name in the study.
        mode: "matched", "as shipped", or "one default".
        default: the one that the framework follows while all else is matched; None in the other modes.
    """

    framework: Framework
    strategy: str
    mode: Mode = "matched"
    default: Default | None = None

    @property
    def label(self) -> str:
        """For people, as a part of a folder's name. No strategy has a "+" in its name."""
        if self.default is not None:
            return f"{self.strategy}+{self.default.name}"
        return self.strategy if self.mode == "matched" else f"{self.strategy}+{self.mode.replace(' ', '-')}"


@dataclass(frozen=True)
class Arm:
    """One strategy in one framework, in one configuration."""

    key: ArmKey
    configuration: Configuration


#: The arms of all strategies, once the images are known.
MakeArms = Callable[[Mapping[str, Recipe], Dataset], Sequence[Arm]]


def matched(recipes: Mapping[str, Recipe], data: Dataset) -> list[Arm]:
    """Every strategy in all its frameworks, alike."""
    return [
        Arm(ArmKey(framework, strategy), Configuration(recipe))
        for strategy, recipe in recipes.items()
        for framework in recipe.frameworks
    ]


def shipped(recipes: Mapping[str, Recipe], data: Dataset) -> list[Arm]:
    """Every strategy in all its frameworks, each as it does by itself."""
    return [
        arm
        for strategy, recipe in recipes.items()
        for arm in shipped_arms(strategy, recipe, framework_defaults.defaults(recipe, data))
    ]


def shipped_arms(strategy: str, recipe: Recipe, defaults: list[Default]) -> list[Arm]:
    """A strategy in all its frameworks, each of which follows those of the defaults that are its own."""
    return [
        Arm(
            ArmKey(framework, strategy, "as shipped"),
            framework_defaults.as_shipped(recipe, framework, defaults),
        )
        for framework in recipe.frameworks
    ]


def single_default(strategy: str, recipe: Recipe, default: Default) -> Arm:
    """A strategy in one framework, which follows one of its defaults."""
    return Arm(
        ArmKey(default.framework, strategy, "one default", default), framework_defaults.with_default(recipe, default)
    )
