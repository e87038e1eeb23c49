"""What the terminal shows of a comparison: a table with a column for each framework, the agreement and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from rich import box
from rich.table import Table

from transfer_parity.shared.contract.recipe import Shots
from transfer_parity.shared.contract.results import PHASES, WorkerResult
from transfer_parity.shared.contract.wings import Framework, compared, wing
from transfer_parity.shared.experiments.comparison_document import Alternative, Comparison, Run, TaskMeasured
from transfer_parity.shared.report.console import WIDTH, Console, amount, encoder, marked, show_verdict, transductive


def show(comparison: Comparison, console: Console) -> None:
    """Print the table, the agreement and the verdict."""
    recipe = comparison.recipe
    shots = ", ".join(str(k) for k in recipe.shots)
    name, weights = encoder(recipe, recipe.weights if comparison.checkpoint else "random")
    size = f", {recipe.size} px" if recipe.image_features is None else ""
    seeds = f"{recipe.seeds} seed{'s' if recipe.seeds > 1 else ''}"
    console.print(
        marked("[bold]{}[/]{}", name, weights)
        + f", {recipe.strategy}, {recipe.head_kind} head{size}\n"
        + f"{comparison.images} images of {_of_what(comparison)} "
        + marked("({}), ", recipe.data)
        + f"shots {shots}, {seeds}",
        highlight=False,
    )
    if comparison.transductive:
        console.print(transductive([recipe.strategy]), style="yellow", highlight=False)
    if comparison.skipped_files:
        skipped = len(comparison.skipped_files)
        console.print(f"{skipped} unreadable files were left out", style="yellow", highlight=False)
    console.print(_table(comparison))
    for label, agreement in (("Test predictions", comparison.agreement), ("Control's", comparison.control_agreement)):
        if agreement is not None and agreement.predictions_compared:
            logits = agreement.max_abs_logit_difference
            console.print(
                f"{label}: {agreement.predictions_identical} of {agreement.predictions_compared} identical, "
                f"largest logit difference {'not finite' if logits is None else f'{logits:.1e}'}",
                highlight=False,
            )
    if comparison.check is not None:
        style = None if comparison.check.passed else "bold red"
        console.print(comparison.check.sentence, style=style, highlight=False)
    if comparison.agreement.predictions_compared and not comparison.agreement.initial_weights_identical:
        console.print("The two processes did not start from the same weights.", style="bold red")
    for alternative in comparison.alternatives:
        console.print(_alternative(comparison, alternative))
        for sentence in _beside(comparison, alternative):
            console.print(sentence, highlight=False)
    for name, worker in comparison.workers.items():
        # With everything kept no pass was made.
        if worker.engine and worker.multiply_adds:
            title = wing(name).title
            console.print(f"{title} ran its passes {worker.engine}: {worker.engine_reason}.", highlight=False)
    for note in _disturbances(comparison):
        console.print(note, style="yellow", highlight=False)
    two = compared(recipe.frameworks)
    if recipe.repeats > 1 and two:
        first, second = two
        for ratio in comparison.speed.ratios:
            console.print(
                f"{first.short}'s seconds by {second.short}'s, {ratio.what}: {ratio.median:.2f} "
                f"({ratio.interval[0]:.2f} to {ratio.interval[1]:.2f})",
                highlight=False,
            )
        console.print(comparison.speed.sentence, style="bold", highlight=False)
    for task in comparison.tasks:
        console.print(marked("{}: ", task.task) + task.verdict_sentence, highlight=False)
    for each in comparison.at_chance:
        where = f"{wing(each.framework).title}, {amount(each.shots)}"
        console.print(f"{where}: {each.strategy} {each.sentence}", style="yellow", highlight=False)
    show_verdict(comparison.verdict, comparison.verdict_sentence, console)


def _of_what(comparison: Comparison) -> str:
    """How many classes there are, and of how many tasks."""
    if not comparison.tasks:
        return f"{len(comparison.classes)} classes"
    return f"{len(comparison.tasks)} tasks ({', '.join(str(len(task.classes)) for task in comparison.tasks)} classes)"


def _table(comparison: Comparison) -> Table:
    recipe = comparison.recipe
    names = [name for name in recipe.frameworks if name in comparison.workers]
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(wing(name).title, justify="right")
    for shots in recipe.shots:
        main = [_chosen(comparison, name, shots, control=False) for name in names]
        control = [_chosen(comparison, name, shots, control=True) for name in names]
        table.add_row(f"Accuracy, {amount(shots)}", *(_spread(runs, "accuracy") for runs in main))
        for number, task in enumerate(comparison.tasks):
            own = [[run.tasks[number] for run in runs] for runs in main]
            table.add_row(marked("  {}", task.task), *(_spread(runs, "accuracy") for runs in own))
        table.add_row("  macro F1", *(_spread(runs, "macro_f1") for runs in main))
        table.add_row("  macro recall", *(_spread(runs, "macro_recall") for runs in main))
        table.add_row("  macro precision", *(_spread(runs, "macro_precision") for runs in main))
        table.add_row("  log loss", *(_spread(runs, "log_loss") for runs in main))
        table.add_row("  calibration error", *(_spread(runs, "calibration_error") for runs in main))
        if any(control):
            gains = [comparison.transfer_gain.get(name, {}).get(str(shots)) for name in names]
            table.add_row("  accuracy without transfer", *(_spread(runs, "accuracy") for runs in control))
            table.add_row(
                "  gain from transfer", *("-" if gain is None else f"{100 * gain:+.1f} points" for gain in gains)
            )
    table.add_section()
    workers = [comparison.workers[name] for name in names]
    for phase in PHASES:
        table.add_row(f"Seconds, {phase}", *(f"{worker.phases.get(phase, 0.0):.2f}" for worker in workers))
    for phase in ("features", "training"):
        times = [worker.steps.get(phase) for worker in workers]
        if any(times):
            table.add_row(
                f"Milliseconds, step of {phase}",
                *(f"{1e3 * each.median:.1f} (p95 {1e3 * each.p95:.1f})" if each else "stored" for each in times),
            )
            table.add_row("  first step", *(f"{1e3 * each.first:.1f}" if each else "stored" for each in times))
    rates = [worker.images_per_second for worker in workers]
    if any(rates):
        # A device's ceiling is the best that any framework reached on it with a product of matrices.
        ceilings = {each.device: max(w.ceiling or 0.0 for w in workers if w.device == each.device) for each in workers}
        efficiencies = [worker.efficiency(ceilings[worker.device]) for worker in workers]
        table.add_row("Images/s, inference", *(f"{rate:.0f}" if rate else "stored" for rate in rates))
        table.add_row("  of the matrix-product rate", *(f"{each:.0%}" if each else "-" for each in efficiencies))
    table.add_row("Peak memory", *(f"{worker.peak_memory_bytes / 2**20:.0f} MiB" for worker in workers))
    return table


def _execution(alternative: Alternative) -> str:
    return "as installed" if alternative.runtime == "stock" else f"in {alternative.precision}"


def _alternative(comparison: Comparison, alternative: Alternative) -> Table:
    """Seconds of the recipe's own runtime and precision beside those of another."""
    recipe = comparison.recipe
    other = "as installed" if alternative.runtime == "stock" else alternative.precision
    main = "tuned" if alternative.runtime == "stock" and recipe.runtime == "both" else recipe.precision
    names = [name for name in recipe.frameworks if name in comparison.workers and name in alternative.workers]
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    table.add_column(f"{main} | {other}")
    for name in names:
        table.add_column(wing(name).title, justify="right")

    def row(label: str, value: Callable[[WorkerResult], float | None], form: str) -> None:
        cells = []
        for name in names:
            values = [value(comparison.workers[name]), value(alternative.workers[name])]
            cells.append(" | ".join("-" if each is None else form.format(each) for each in values))
        table.add_row(label, *cells)

    row("Images/s, inference", lambda worker: worker.images_per_second, "{:.0f}")
    for phase in ("features", "training", "inference"):
        row(f"Seconds, {phase}", lambda worker, phase=phase: worker.phases.get(phase), "{:.2f}")  # type: ignore[misc]
    row("Seconds, whole process", lambda worker: worker.wall_seconds, "{:.2f}")
    if alternative.precision != recipe.precision:
        changes = [alternative.accuracy_change.get(name) for name in names]
        table.add_row(
            f"Accuracy, change from {other}",
            *("-" if each is None else f"{100 * each:+.2f} points" for each in changes),
        )
    return table


def _beside(comparison: Comparison, alternative: Alternative) -> Iterator[str]:
    """What another runtime or precision changes, in sentences."""
    for name, ratio in alternative.against.items():
        yield (
            f"{wing(name).title} {_execution(alternative)} takes {ratio.median:.2f} times as long "
            f"({ratio.interval[0]:.2f} to {ratio.interval[1]:.2f})."
        )
    if comparison.recipe.repeats > 1 and compared(comparison.recipe.frameworks):
        yield alternative.speed.sentence.replace("Speed:", f"Speed {_execution(alternative)}:", 1)
    yield (
        f"Both ways predict the same for {alternative.predictions_identical} of "
        f"{alternative.predictions_compared} test images."
    )


def _chosen(comparison: Comparison, framework: Framework, shots: Shots, control: bool) -> list[Run]:
    """Runs of one column and row; the control's are those on an untrained backbone beside pretrained ones."""
    given = comparison.recipe.image_features is not None
    pretrained = (comparison.checkpoint is not None or given) != control
    runs = comparison.runs
    return [run for run in runs if (run.framework, run.shots, run.pretrained) == (framework, shots, pretrained)]


def _spread(runs: Sequence[Run | TaskMeasured], metric: str) -> str:
    values = [getattr(run, metric) for run in runs]
    if not values or any(value is None for value in values):
        return "-"
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _disturbances(comparison: Comparison) -> Iterator[str]:
    """Reasons not to trust the seconds."""
    environment = comparison.environment
    devices = set(environment.devices.values())
    if len(devices) > 1:
        yield f"The frameworks ran on different devices ({', '.join(sorted(devices))}): do not compare the seconds."
    for repeat in comparison.repeats:
        if repeat.taken_up:
            yield f"{repeat.framework} went on after an interruption: its seconds are those of the remaining runs."
    disturbed = [repeat for repeat in comparison.repeats if repeat.disturbed]
    if disturbed:
        worst = max(disturbed, key=lambda repeat: repeat.worker.others_share)
        what = "this run" if len(comparison.repeats) <= 2 else f"{len(disturbed)} of {len(comparison.repeats)} runs"
        yield f"The machine was busy during {what} ({worst.disturbed}): take the seconds with care."
    elif environment.load_average_before is not None and environment.load_average_before > environment.cores / 2:
        yield (
            f"The machine was busy before the start (load {environment.load_average_before:.1f} on "
            f"{environment.cores} cores): take the seconds with care."
        )
