"""How the terminal, ``attribution.md`` and a plot show the way from one official guide to the other."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from transfer_parity.shared.contract.wings import IDENTIFIERS, wing
from transfer_parity.shared.experiments.attribution_document import AttributionDocument, Guides, GuideStep
from transfer_parity.shared.report import looks
from transfer_parity.shared.report.console import WIDTH, Console, amount
from transfer_parity.shared.report.markdown import table
from transfer_parity.shared.report.study import percent


def show(document: AttributionDocument, console: Console) -> None:
    """Print what it comes to, a table of the steps, and what is left out."""
    guides = _guides(document)
    for line in summary(document):
        console.print(line, highlight=False)
    grid = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    frameworks = list(guides.steps[0].accuracy)
    grid.add_column("step", no_wrap=True)
    for name in (*(f"{wing(each).short}, %" for each in frameworks), *("change" for _ in frameworks)):
        grid.add_column(name, justify="right", no_wrap=True)
    for step in guides.steps:
        # Intervals of accuracies stand in attribution.md; here is no room for them.
        means = [f"{100 * step.accuracy[each].mean:.1f}" if each in step.accuracy else "" for each in frameworks]
        grid.add_row(step.name, *means, *_changes(step, frameworks))
    console.print(grid)
    for line in notes(document):
        console.print(line, highlight=False)


def _guides(document: AttributionDocument) -> Guides:
    assert document.guides is not None
    return document.guides


def _numbers(step: GuideStep, frameworks: list[str]) -> list[str]:
    after = [percent(step.accuracy[each]) if each in step.accuracy else "" for each in frameworks]
    return [*after, *_changes(step, frameworks)]


def _changes(step: GuideStep, frameworks: list[str]) -> list[str]:
    return [percent(step.change[each].accuracy, sign=True) if each in step.change else "" for each in frameworks]


def summary(document: AttributionDocument) -> Iterator[str]:
    """What the guides come to, and which steps make the difference, in sentences: the first thing to read."""
    guides = _guides(document)
    recipe = guides.steps[0].recipe
    shots, budgets = " and ".join(map(amount, list(recipe.shots))), [each.training_steps for each in guides.steps]
    yield (
        f"From {guides.first} to {guides.last}: {recipe.backbone}, {recipe.data}, {shots}, "
        f"{recipe.seeds} seed{'s' if recipe.seeds > 1 else ''}; {budgets[0]} steps of training become {budgets[-1]}."
    )
    if guides.whole is not None:
        first, last = guides.accuracy.values()
        yield (
            f"The first guide in its own framework reaches {percent(first)} %, the last in its own {percent(last)}: "
            f"{percent(guides.whole.accuracy, sign=True)} points, first minus last."
        )
    steps = guides.steps[1:]
    told = [step.name for step in steps if any(each.told_from_zero for each in step.change.values())]
    if steps and all(step.change for step in steps):
        yield (
            f"Steps that can be told from zero (Holm): {', '.join(told)}."
            if told
            else "No single step can be told from zero (Holm); more seeds would tell more."
        )
    for framework, own in guides.own_ways.items():
        yield (
            f"{wing(framework).short}'s own guide with what the framework draws and decodes by itself, against the "
            f"same step matched: {percent(own.accuracy, sign=True)} points."
        )


def notes(document: AttributionDocument) -> Iterator[str]:
    """What a reader must know."""
    yield (
        "Each step changes one thing and keeps all that came before it; in another order steps may weigh otherwise. "
        "Changes: points, mean over seeds ± half of the 95 % confidence interval, paired by seed."
    )
    for line in _guides(document).left_out:
        yield f"Not as in the guides: {line}."
    if document.finished < document.cells:
        yield f"{document.finished} of {document.cells} cells are finished; the same command goes on."


def markdown(document: AttributionDocument) -> str:
    """The same as a page."""
    guides = _guides(document)
    frameworks = list(guides.steps[0].accuracy)
    shorts = [wing(each).short for each in frameworks]
    head = ["step", "what changes", "steps of training", *(f"{each}, %" for each in shorts)]
    rows = [
        [f"`{step.name}`", step.what, str(step.training_steps), *_numbers(step, frameworks)] for step in guides.steps
    ]
    environment = document.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return "\n".join(
        [
            "# From one official guide to the other\n",
            *(f"{line}\n" for line in summary(document)),
            table([*head, *(f"change in {each}, points" for each in shorts)], rows),
            "\n".join(f"- {line}" for line in notes(document)) + "\n",
            f"{document.created}; {versions}; {environment.cpu}.\n",
        ]
    )


def plot(document: AttributionDocument) -> Figure:
    """Accuracy after each step with its 95 % interval, in every framework."""
    steps = _guides(document).steps
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    ax = figure.subplots()
    for framework in steps[0].accuracy:
        look = looks.FRAMEWORKS[IDENTIFIERS.index(framework) % len(looks.FRAMEWORKS)]
        known = [(place, step.accuracy[framework]) for place, step in enumerate(steps) if framework in step.accuracy]
        means = [100 * each.mean for _, each in known]
        bounds = [each.interval or (each.mean, each.mean) for _, each in known]
        ax.errorbar(
            [place for place, _ in known],
            means,
            yerr=[
                [mean - 100 * low for mean, (low, _) in zip(means, bounds, strict=True)],
                [100 * high - mean for mean, (_, high) in zip(means, bounds, strict=True)],
            ],
            color=look.colour,
            marker=look.marker,
            capsize=2,
            label=wing(framework).short,
        )
    ax.set_xticks(range(len(steps)), [step.name for step in steps], rotation=30, ha="right")
    ax.set_ylabel("accuracy, %")
    ax.grid(axis="y", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return figure
