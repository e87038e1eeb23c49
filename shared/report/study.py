"""What the terminal and ``report.md`` say of a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.table import Table

from transfer_parity.shared.contract.framework_defaults import Mode
from transfer_parity.shared.contract.recipe import Shots
from transfer_parity.shared.contract.wings import Framework, wing
from transfer_parity.shared.core.text import joined
from transfer_parity.shared.evaluation import chance
from transfer_parity.shared.evaluation.chance import Cause
from transfer_parity.shared.evaluation.ordering import MOST_SEEDS
from transfer_parity.shared.experiments import conditions
from transfer_parity.shared.experiments.comparison_document import AtChance
from transfer_parity.shared.experiments.study_document import (
    Cheapest,
    Estimate,
    Point,
    RoundingCheck,
    RunRate,
    StudyDocument,
    Tuning,
)
from transfer_parity.shared.report import order
from transfer_parity.shared.report.console import WIDTH, Console, amount, encoder, marked, show_verdict, transductive
from transfer_parity.shared.report.markdown import escaped, table

#: Of strategies that see the test images, where something is advised.
APART = "What is best and what takes least time is said of the others."

Shown = Callable[[Point], str]
#: So many that are tied with the best one are told one by one.
FEW = 3


def show(document: StudyDocument, console: Console) -> None:
    """Print the curves, what to use, and the verdict."""
    wide = is_wide(document)
    first = document.common
    console.print(
        marked("[bold]{}[/]{}; ", *encoder(first, first.weights))
        + f"{document.images} images of {len(document.classes)} classes "
        + marked("({}), ", first.data)
        + f"{first.seeds} seed{'s' if first.seeds > 1 else ''}",
        highlight=False,
    )
    for mode in document.modes:
        for framework in first.frameworks:
            console.print(_table(document, mode, framework))
    for line in notes(document, wide):
        console.print(line, highlight=False)
    show_verdict(document.verdict, document.verdict_sentence, console)


def view(document: StudyDocument, mode: Mode, framework: Framework) -> str:
    """What a table is about: a framework, and its mode if there are several or it is not the usual one."""
    title = wing(framework).title
    return f"{title}, {mode}" if len(document.modes) > 1 or mode != "matched" else title


def where(strategy: str, mode: Mode) -> str:
    """A strategy, and its mode unless that is the usual one."""
    return strategy if mode == "matched" else f"{strategy}, {mode}"


def _table(document: StudyDocument, mode: Mode, framework: Framework) -> Table:
    """Accuracy in per cent: strategies by shots."""
    first = document.common
    title = f"{view(document, mode, framework)}: accuracy, %, by labelled images a class"
    grid = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False, title=title, title_justify="left")
    shown = narrow if is_wide(document) else percent
    grid.add_column("", no_wrap=True)
    for shots in first.shots:
        grid.add_column(str(shots), justify="right", no_wrap=True)
    chosen = [point for point in document.points if (point.mode, point.framework) == (mode, framework)]
    by_key = {(point.strategy, point.shots): point for point in chosen}
    for strategy in document.recipes:
        row = [by_key.get((strategy, shots)) for shots in first.shots]
        grid.add_row(strategy, *(shown(point.accuracy) if point else "-" for point in row))
    return grid


def is_wide(document: StudyDocument) -> bool:
    """Whether the terminal has no room for means with half of their intervals."""
    cells = [len(percent(point.accuracy)) for point in document.points]
    columns = len(document.common.shots) * (max(cells, default=0) + 2)
    return max(map(len, document.recipes), default=0) + columns > WIDTH


def narrow(estimate: Estimate) -> str:
    """A mean with its interval in whole per cent: ``81.2 78-85``."""
    interval = estimate.new_images or estimate.interval
    mean = f"{100 * estimate.mean:.1f}"
    return mean if interval is None else f"{mean} {100 * interval[0]:.0f}-{100 * interval[1]:.0f}"


def percent(estimate: Estimate, sign: bool = False, digits: int = 1) -> str:
    """A mean with half the width of its interval, in per cent: ``81.2 ±3.4``; of that for new images, if it has one.

    Where that would reach beyond what an accuracy can be (0 to 100; a difference: -100 to 100), the interval itself
    stands in brackets: ``97.1 (89 to 99)``.

    Args:
        estimate: of accuracies, or of their differences.
        sign: whether it is of differences.
        digits: behind the point.
    """
    mean = f"{100 * estimate.mean:{'+' if sign else ''}.{digits}f}"
    interval = estimate.new_images or estimate.interval
    if interval is None:
        return mean
    low, high = interval
    half = (high - low) / 2
    if estimate.mean - half < (-1 if sign else 0) - 1e-9 or estimate.mean + half > 1 + 1e-9:
        form = "+.0f" if sign else ".0f"
        return f"{mean} ({100 * low:{form}} to {100 * high:{form}})"
    return f"{mean} ±{100 * half:.{digits}f}"


def notes(document: StudyDocument, narrowed: bool = False) -> list[str]:
    """What the curves mean, in sentences; ``narrowed`` if tables hold means as ``narrow`` writes them."""
    lines = []
    if len(document.results) < document.cells:
        lines.append(f"{len(document.results)} of {document.cells} cells are finished; the same command goes on.")
    lines += [line for line in (conditions_of(document), intervals_of(document, narrowed)) if line]
    if document.tuning:
        lines.append(tuning_of(document.tuning))
    if document.order:
        lines += order.sentences(document.order)
    if document.transductive:
        apart = f" {APART}" if document.cheapest else ""
        lines.append(f"{transductive(document.transductive)}{apart}")
    lines += tasks_of(document)
    lines += [advice(each) for each in document.cheapest]
    lines += at_chance(document.at_chance)
    if document.rounding:
        lines.append(_rounding(document.rounding))
    if document.shipped_sentence:
        lines.append(document.shipped_sentence)
    return lines


def tasks_of(document: StudyDocument) -> list[str]:
    """Task by task, what strategies with several tasks recognise: one sentence for a strategy and number of shots."""
    groups: dict[tuple[str, Shots], dict[str, dict[Framework, list[float]]]] = {}
    for each in document.results:
        for task in each.tasks if each.mode == document.modes[0] else ():
            tasks = groups.setdefault((each.strategy, each.shots), {})
            tasks.setdefault(task.task, {}).setdefault(each.framework, []).append(100 * task.accuracy)
    lines = []
    for (strategy, shots), tasks in groups.items():
        parts = [
            f"{name} {', '.join(f'{sum(own) / len(own):.1f} ({wing(key).short})' for key, own in by_framework.items())}"
            for name, by_framework in tasks.items()
        ]
        lines.append(f"{strategy}, {amount(shots)}, accuracy in % task by task: {'; '.join(parts)}.")
    return lines


def conditions_of(document: StudyDocument) -> str:
    """Under which conditions the strategies are compared; it stands at every plot."""
    alike = conditions.sentence(document.conditions) if document.conditions else ""
    seen = f"Sees the test images, without labels: {joined(document.transductive)}." if document.transductive else ""
    return " ".join(filter(None, (alike, seen)))


def tuning_of(found: Tuning) -> str:
    """How rates were chosen, which they are, and which runs have none of their own."""
    by_strategy: dict[str, list[RunRate]] = {}
    for each in found.rates:
        by_strategy.setdefault(each.strategy, []).append(each)
    parts = []
    for name, each_run in by_strategy.items():
        rates = [each.rate for each in each_run]
        edges = sum(each.edge is not None for each in each_run)
        span = f"{min(rates):g}" if min(rates) == max(rates) else f"{min(rates):g} to {max(rates):g}"
        parts.append(f"{name} {span}" + (f" ({edges} of {len(rates)} at an edge of the grid)" if edges else ""))
    text = f"Rates by {found.folds}-fold cross-validation inside each run's training images: {', '.join(parts)}."
    kept = "; ".join(f"{name}, {reason}" for name, reason in found.kept.items())
    return f"{text} At the recipe's rate: {kept}." if kept else text


def intervals_of(document: StudyDocument, narrowed: bool = False) -> str:
    """Which question the intervals of tables answer; ``narrowed`` as for ``notes``."""
    if not any(point.accuracy.interval for point in document.points):
        return ""
    brackets = any("(" in percent(point.accuracy) for point in document.points)
    also = " In brackets the interval, where it is lopsided." if brackets else ""
    about = document.new_images_sentence or "of the mean over all seeds, on these same images."
    if narrowed:
        return f"Mean over seeds, and the 95 % confidence interval, {about}"
    return f"Mean over seeds ± half of the 95 % confidence interval, {about}{also}"


def at_chance(found: Sequence[AtChance]) -> list[str]:
    """Which strategies are no better than a guess, where, and why: one sentence for what has the same cause."""
    together: dict[tuple[str, Cause, Framework], list[AtChance]] = {}
    for each in found:
        together.setdefault((each.strategy, each.cause, each.framework), []).append(each)
    # Where both frameworks say the same of the same numbers of shots, it is said once.
    sentences: dict[tuple[str, Cause, tuple[Shots, ...]], list[AtChance]] = {}
    for (strategy, cause, _), group in together.items():
        sentences.setdefault((strategy, cause, tuple(each.shots for each in group)), []).extend(group)
    lines = []
    for (strategy, cause, shots), group in sentences.items():
        frameworks = dict.fromkeys(each.framework for each in group)
        where = " and ".join(wing(each).short for each in frameworks)
        amounts = [str(each) for each in shots[:-1]]
        with_shots = (f"{', '.join(amounts)} and " if amounts else "") + amount(shots[-1])
        said = chance.verdict([each.accuracy for each in group], [each.chance for each in group], cause)
        lines.append(f"{where}, {with_shots}: {strategy} {said}")
    return lines


def advice(found: Cheapest) -> str:
    """Which strategy to use with so many labels, as far as can be told, and how many seeds would tell more."""
    head = f"With {amount(found.shots)}, "
    if len(found.tied) > FEW:
        names = [each.strategy for each in found.tied]
        head += f"{found.best} has the highest mean, from which {joined(names)} cannot be told; {_seeds_to_tell(found)}"
    elif found.tied:
        names = [found.best, *(each.strategy for each in found.tied)]
        head += f"{', '.join(names[:-1])} and {names[-1]} are tied for best ({found.best} has the highest mean)"
        head += f"; {_seeds_to_tell(found)}"
    else:
        head += f"{found.best} is best"
    if found.cheapest == found.best:
        return f"{head}."
    return f"{head}; {found.cheapest} comes within a point of {found.best if found.tied else 'it'} in the least time."


def _seeds_to_tell(found: Cheapest) -> str:
    """How many seeds would tell the best from those that are tied with it."""
    if found.seeds < 2:
        return "one seed cannot tell how many seeds would tell them apart, give 3 or more (--seeds)"
    if len(found.tied) > FEW:
        numbers = [each.seeds_to_tell_apart for each in found.tied if each.seeds_to_tell_apart is not None]
        if len(numbers) < len(found.tied):
            return f"about {min(numbers)} to more than {MOST_SEEDS} seeds would tell" if numbers else _never()
        return f"about {min(numbers)} to {max(numbers)} seeds would tell"
    by_number: dict[int, list[str]] = {}
    many = [each.strategy for each in found.tied if each.seeds_to_tell_apart is None]
    for each in found.tied:
        if each.seeds_to_tell_apart is not None:
            by_number.setdefault(each.seeds_to_tell_apart, []).append(each.strategy)
    parts = [
        f"about {number} seeds would tell it from {' and '.join(names)}" for number, names in sorted(by_number.items())
    ]
    if many:
        parts.append(f"more than {MOST_SEEDS} seeds would be needed to tell it from {' and '.join(many)}")
    return ", ".join(parts)


def _never() -> str:
    return f"more than {MOST_SEEDS} seeds would be needed"


def _rounding(found: RoundingCheck) -> str:
    """What became of a cell that was trained again in float64."""
    cell = f"{found.strategy}, {amount(found.shots)}, seed {found.seed}"
    logits = (
        f"largest logit difference {found.max_abs_logit_difference:.1e}, in float32 "
        f"{found.max_abs_logit_difference_before:.1e}"
    )
    if found.settled:
        return (
            f"Rounding grew: one cell ({cell}) trained again in float64 gives the same {found.predictions_compared} "
            f"predictions in both frameworks ({logits}). --precision float64 settles it."
        )
    parted = found.predictions_compared - found.predictions_identical
    return (
        f"It is not rounding alone: one cell ({cell}) trained again in float64 still parts in {parted} of "
        f"{found.predictions_compared} predictions ({logits}). compare.py parity names what differs first."
    )


def markdown(document: StudyDocument) -> str:
    """The report for a pull request."""
    first = document.common
    parts = [
        f"# Study: {first.name}\n",
        f"**{document.verdict_sentence}**\n",
        f"{''.join(encoder(first, first.weights))}; {document.images} images of {len(document.classes)} classes "
        f"({first.data}), {first.seeds} seeds.\n",
    ]
    head = ["strategy", *(str(shots) for shots in first.shots)]
    for mode, framework in ((mode, framework) for mode in document.modes for framework in first.frameworks):
        points = [point for point in document.points if (point.mode, point.framework) == (mode, framework)]
        parts.append(f"## {view(document, mode, framework)}\n")
        parts.append("Accuracy, %, by training images a class:\n")
        parts.append(_rows(document, points, head, lambda point: percent(point.accuracy)))
        if any(point.gain for point in points):
            parts.append("Gain over scratch, points, paired by seed:\n")
            parts.append(
                _rows(document, points, head, lambda point: percent(point.gain, sign=True) if point.gain else "")
            )
    if document.order:
        parts.append("## In which order?\n")
        parts.append(order.markdown(document.order))
    parts.append("## Do the frameworks agree?\n")
    parts.append(
        table(
            ["strategy", "shots", "verdict", "same predictions", "largest logit difference", "McNemar, Holm"],
            [
                [
                    where(each.strategy, each.mode),
                    str(each.shots),
                    each.verdict,
                    f"{each.agreement.predictions_identical} of {each.agreement.predictions_compared}",
                    _number(each.agreement.max_abs_logit_difference),
                    "" if each.p_value is None else f"{each.p_value:.2g}",
                ]
                for each in document.judgements
            ],
        )
    )
    # Anybody may have named a task.
    foreign = set(tasks_of(document))
    lines = [escaped(line) if line in foreign else line for line in notes(document)]
    parts.append("\n".join(f"- {line}" for line in lines) + "\n")
    for strategy, by_framework in document.own_ways.items():
        listed = "; ".join(f"{wing(key).title}: {', '.join(names) or 'nothing'}" for key, names in by_framework.items())
        parts.append(f"In its own way when as shipped, {strategy}: {listed}.\n")
    versions = ", ".join(f"{name} {version}" for name, version in document.environment.versions.items())
    parts.append(f"{document.created}; {versions}; {document.environment.cpu}.\n")
    return "\n".join(parts)


def _rows(document: StudyDocument, points: list[Point], head: list[str], shown: Shown) -> str:
    by_key = {(point.strategy, str(point.shots)): point for point in points}
    rows = []
    for strategy in document.recipes:
        found = [by_key.get((strategy, shots)) for shots in head[1:]]
        if any(found):
            rows.append([strategy, *(shown(point) if point else "" for point in found)])
    return table(head, rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"
