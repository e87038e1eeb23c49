"""The document and the plot, from what the benchmarks found."""

from __future__ import annotations

import statistics
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.records import TRIALS, Record, Records, Row
from transfer_parity.shared.report.markdown import table

#: From the colour-blind safe palette of Okabe and Ito (2008).
COLOURS = {"torch": "#0072B2", "tensorflow": "#E69F00", None: "#999999"}
LABELS = {"torch": "PyTorch", "tensorflow": "TensorFlow", None: "both"}

HEAD = """# Benchmarks

This project against the loops that a user would otherwise write (`benchmarks/`), and against itself where something is
computed once and kept. `make benchmark` makes this page; every number is from one machine, the one named below.

Ours and the reference take turns, each in a process started fresh, and a ratio is formed for every pair. The median of
the ratios is compared with the target. **At least**: how many times better ours is. **At most**: ours divided by the
reference (1.03: 3 % more). Rows counted in trials are shares: how many of them came out so. A pair during which other
processes took more than 5 % of the machine is measured again, up to twice; if none was quiet, the quietest counts, and
the pair is marked as disturbed.
"""


def write(records: Records, order: list[str], path: Path) -> None:
    """Write the Markdown document, and the plot beside it.

    Args:
        records: at least one of them.
        order: names of the benchmarks as they are to appear.
        path: of the document; the plot gets the suffix .png.
    """
    chosen = {name: records.benchmarks[name] for name in order if name in records.benchmarks}
    rows = [row for record in chosen.values() for row in record.rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    # How often a verdict is right is a count, and no ratio of times.
    plot([row for row in rows if row.quantity != TRIALS]).savefig(path.with_suffix(".png"), dpi=150)
    parts = [HEAD, f"![Ratios and targets]({path.with_suffix('.png').name})\n", _ratios(rows), *_remarks(rows)]
    path.write_text("\n".join([*parts, _machines(chosen)]), encoding="utf-8")


def _ratios(rows: list[Row]) -> str:
    head = ["measured", "framework", "against", "ours", "reference", "ratio", "range", "target", "reached"]
    return table(head, [_cells(row, number) for number, row in enumerate(rows, start=1)])


def _cells(row: Row, number: int) -> list[str]:
    ours, theirs = (f"{_number(statistics.median(values))} {row.quantity}" for values in (row.ours, row.theirs))
    span = f"{_ratio(row, min(row.ratios))} to {_ratio(row, max(row.ratios))}"
    return [
        f"{number}. {row.what}",
        LABELS[row.framework],
        row.reference,
        ours,
        theirs,
        f"**{_ratio(row, row.median)}**",
        span,
        f"{row.bound} {_ratio(row, row.target)}",
        "yes" if row.reached else "**no**",
    ]


def _ratio(row: Row, value: float) -> str:
    return f"{value:.2f}" if row.bound == "at least" else f"{value:.3f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _remarks(rows: list[Row]) -> list[str]:
    """What else is to be known, by the number of the row."""
    lines = []
    for number, row in enumerate(rows, start=1):
        held = [text if good else f"**not held**: {text}" for text, good in row.requirements.items()]
        disturbed = [f"**disturbed** pairs: {row.disturbed} of {len(row.ratios)}"] if row.disturbed else []
        remarks = [*row.notes, *held, *disturbed]
        if remarks:
            lines.append(f"- {number} ({LABELS[row.framework]}): {'; '.join(remarks)}")
    return ["\n".join([*lines, ""])] if lines else []


def _machines(records: dict[str, Record]) -> str:
    """When and where; one list of facts for each machine and set of versions."""
    lines = [
        [
            f"`{name}`",
            record.date,
            str(len(record.rows[0].ratios)),
            f"{record.seconds / 60:.0f} min",
            "unknown" if record.load_average_before is None else f"{record.load_average_before:.2f}",
        ]
        for name, record in records.items()
    ]
    parts = ["## When and where\n", table(["benchmark", "date (UTC)", "pairs", "took", "load before"], lines)]
    by_facts: dict[str, list[str]] = {}
    for name, record in records.items():
        where = record.machine
        versions = ", ".join(f"{package} {version}" for package, version in where.versions.items())
        facts = (
            f"{where.cores} cores of {where.cpu}, {where.memory_bytes / 2**30:.0f} GiB of memory, {where.platform}, "
            f"Python {where.python}, {versions}."
        )
        by_facts.setdefault(facts, []).append(name)
    for facts, names in by_facts.items():
        parts.append(facts + "\n" if len(by_facts) == 1 else f"{', '.join(f'`{name}`' for name in names)}: {facts}\n")
    return "\n".join(parts)


def plot(rows: list[Row]) -> Figure:
    """Median ratios as bars from 1 on a logarithmic axis, every pair as a dot, targets as ticks across the bars."""
    panels = [
        (title, [row for row in rows if row.bound == bound])
        for bound, title in (
            ("at least", "How many times better (longer is better)"),
            ("at most", "What it costs for each one of the reference (shorter is better)"),
        )
    ]
    panels = [(title, chosen) for title, chosen in panels if chosen]
    heights = [len(chosen) + 1 for _, chosen in panels]
    figure = Figure(figsize=(10, 0.42 * sum(heights) + 1.1 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, (title, chosen) in zip(axes, panels, strict=True):
        values = [value for row in chosen for value in (*row.ratios, row.target, 1.0)]
        for y, row in enumerate(chosen):
            ax.barh(y, row.median - 1, left=1, height=0.6, color=COLOURS[row.framework])
            ax.plot(row.ratios, [y] * len(row.ratios), "o", markersize=3, color="black", alpha=0.5)
            ax.plot([row.target, row.target], [y - 0.42, y + 0.42], color="black", linewidth=2.5)
        ax.set_xscale("log")
        ax.set_xlim(min(values) / 1.08, max(values) * 1.08)
        ticks = (0.5, 1, 2, 3, 4, 6, 8, 10, 15, 20, 30) if max(values) > 3 else (0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 2.5)
        ax.xaxis.set_major_locator(FixedLocator(ticks))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.set_yticks(range(len(chosen)), [_label(row) for row in chosen])
        ax.set_ylim(len(chosen) - 0.4, -0.6)
        ax.axvline(1, color="black", linewidth=0.8)
        ax.set_title(title, loc="left", fontsize="medium")
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
    frameworks = [framework for framework in COLOURS if any(row.framework == framework for row in rows)]
    legend: list[Patch | Line2D] = [Patch(color=COLOURS[each], label=LABELS[each]) for each in frameworks]
    legend.append(Line2D([], [], color="black", linewidth=2.5, label="target"))
    legend.append(Line2D([], [], color="black", alpha=0.5, marker="o", markersize=3, linewidth=0, label="one pair"))
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False)
    return figure


def _label(row: Row) -> str:
    return f"{row.what}\nagainst {row.reference}"
