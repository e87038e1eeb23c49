"""The arms of a sweep: what is carried out, by which framework, and in which configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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
        mode: "matched", "as shipped", "one default" or "two defaults".
        default: the one that the framework follows while all else is matched; None in the other modes.
        second: another that it follows besides; None but with two defaults.
        rate: the learning rate, if it is not the recipe's.
        held_out: whether it is judged on training images that are held out, so that its rate can be chosen.
    """

    framework: Framework
    strategy: str
    mode: Mode = "matched"
    default: Default | None = None
    second: Default | None = None
    rate: float | None = None
    held_out: bool = False

    @property
    def label(self) -> str:
        """For people, as a part of a folder's name. No strategy has a "+" in its name."""
        parts = [each.name for each in (self.default, self.second) if each is not None]
        if not parts and self.mode != "matched":
            parts = [self.mode.replace(" ", "-")]
        if self.rate is not None:
            parts.append(f"rate-{self.rate:g}")
        if self.held_out:
            parts.append("held-out")
        return "+".join([self.strategy, *parts])


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


def two_defaults(strategy: str, recipe: Recipe, first: Default, second: Default) -> Arm:
    """A strategy in the framework of two defaults, which follows both."""
    one = framework_defaults.with_default(recipe, first)
    both = framework_defaults.with_default(one.recipe, second)
    key = ArmKey(first.framework, strategy, "two defaults", first, second)
    return Arm(key, Configuration(both.recipe, one.switches | both.switches))


def at_rate(arm: Arm, rate: float, *, held_out: bool = False) -> Arm:
    """The arm with another learning rate; itself if it is the one that it has, and its test images judge it."""
    recipe = arm.configuration.recipe
    if rate == recipe.learning_rate and not held_out:
        return arm
    changed = replace(arm.configuration, recipe=recipe.model_copy(update={"learning_rate": rate}))
    return Arm(replace(arm.key, rate=rate, held_out=held_out), changed)
