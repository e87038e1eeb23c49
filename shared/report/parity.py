"""The parity ladder on the terminal and as a Markdown table."""

from __future__ import annotations

import platform

from rich import box
from rich.table import Table

from transfer_parity.shared.contract import switches
from transfer_parity.shared.contract.rungs import RUNGS, Rung
from transfer_parity.shared.contract.wings import IDENTIFIERS, TENSORFLOW, TORCH
from transfer_parity.shared.parity.document import PairResult, Parity, RungResult
from transfer_parity.shared.report import markdown as tables
from transfer_parity.shared.report.console import WIDTH, Console, marked


def show(result: PairResult, console: Console) -> None:
    """One climb: a line if it passed, and what diverged first if it did not."""
    title = f"{result.backbone:16} {result.semantics:11} seed {result.seed}"
    if result.strategy is not None:
        head = f", {result.head} head" if result.head is not None else ""
        title += f" {result.recipe or ''} {result.strategy}{head}".replace("  ", " ")
    title += "".join(f" {each}" for each in result.switches)
    if result.passed:
        layers = result.rung("activations").max_rel_difference
        losses = _number(result.max_loss_difference)
        described = f"{title}, layers {_number(layers)}, losses {losses}"
        if result.steps == 0:
            described = f"{title}, layers {_number(layers)}, head {_number(result.rung('fit').max_rel_difference)}"
        console.print(marked("[green]passed[/] {}", described), highlight=False)
        return
    console.print(
        marked("[bold red]failed[/] {}" if result.first_failure else "[bold yellow]not told[/] {}", title),
        highlight=False,
    )
    console.print(table_of(result))
    failed = result.first_failure
    for line in divergence(failed) if failed else ():
        console.print(line, highlight=False)
    if result.uninformative:
        names = " and ".join(rung.name for rung in result.uninformative)
        console.print(
            f"Not informative: {names}. What rounding explains in {result.precision} is as large as what is compared; "
            "--precision float64 tells more.",
            highlight=False,
        )
    console.print()


def table_of(result: PairResult) -> Table:
    """A row for each rung."""
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    table.add_column("Rung")
    for column in ("Arrays", "Largest difference", "Tolerance", ""):
        table.add_column(column, justify="right")
    for rung in result.rungs:
        verdict = "passed" if rung.passed else marked("[red]FAILED[/]")
        if rung in result.uninformative:
            verdict = marked("[yellow]not informative[/]")
        table.add_row(rung.name, str(rung.arrays), _number(rung.max_abs_difference), _number(rung.tolerance), verdict)
    return table


def divergence(rung: RungResult) -> list[str]:
    """What diverged first at a rung that failed, line by line."""
    first = rung.first_divergence
    assert first is not None
    lines = [f"First divergence, at rung {rung.name!r}: {first.what}"]
    if first.neutral:
        lines.append(f"  in torchvision: {getattr(first, TORCH) or 'there is none'}")
        lines.append(f"  in Keras:       {getattr(first, TENSORFLOW) or 'there is none'}")
    if first.max_abs_difference is None:
        lines.append("  the two cannot be compared: one is missing, not finite, or of another shape")
    else:
        lines.append(f"  differs by {first.max_abs_difference:.2e}; rounding explains {first.tolerance:.1e}")
    return lines


def summarise(document: Parity, console: Console) -> None:
    """One last line."""
    passed = sum(result.passed for result in document.pairs)
    colour = "green" if document.passed else "red"
    total = len(document.pairs)
    counts = {len(result.rungs) if result.strategy else len(RUNGS) for result in document.pairs}
    rungs = f"all {min(counts)} rungs" if len(counts) == 1 else "all of their rungs"
    console.print(
        f"{passed} of {total} climbs passed {rungs}." if total else "Nothing was climbed.",
        style=f"bold {colour}" if total else "yellow",
        highlight=False,
    )


def markdown(document: Parity) -> str:
    """The table of all climbs, with the date and the versions."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(document.versions.items()))
    recipes = any(result.strategy for result in document.pairs)
    compared: list[Rung] = ["activations", "loss", "gradients", "trajectory"]
    if recipes:
        compared = ["activations", "engines", "loss", "gradients", "optimizer", "fit", "trajectory"]
    head = ["backbone", *(["recipe", "strategy", "head", "seed"] if recipes else []), "semantics", "px", "arrays"]
    head += [*compared, "losses", "passed"]
    rows = []
    for result in document.pairs:
        cells = [result.backbone]
        if recipes:
            cells += [result.recipe or "", result.strategy or "", result.head or "", str(result.seed)]
        cells += [result.semantics, str(result.image_size)]
        cells.append(str(sum(rung.arrays for rung in result.rungs)))
        for name in compared:
            found = [rung for rung in result.rungs if rung.name == name]
            cells.append(_number(found[0].max_rel_difference) if found else "")
        cells.append(_number(result.max_loss_difference))
        named = [result.first_failure] if result.first_failure else result.uninformative
        why = ", ".join(f"{rung.name}{'' if rung.informative else ' (not informative)'}" for rung in named)
        cells.append("yes" if result.passed else f"no: {why}")
        rows.append(cells)
    return f"{document.created[:10]}, {versions}; {platform.machine()}, CPU.\n\n{tables.table(head, rows)}"


def list_switches(console: Console) -> None:
    """All switches, with the rung that catches each."""
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    table.add_column("Switch", no_wrap=True)
    table.add_column("Wings", no_wrap=True)
    table.add_column("Caught at", no_wrap=True)
    table.add_column("The wing")
    for switch in switches.SWITCHES:
        wings = "both" if len(switch.caught) == len(IDENTIFIERS) else ", ".join(switch.caught)
        rung = next(iter(switch.caught.values())).rung
        table.add_row(switch.name, wings, rung, switch.summary)
    console.print(table)
    written = " or ".join(f"{wing}:NAME" for wing in IDENTIFIERS)
    console.print(f"Write {written} behind --switch.", highlight=False)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.1e}"
