"""``rank.json`` as a table for the terminal."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.table import Table

from transfer_parity.shared.contract.recipe import WEIGHT_ORIGINS
from transfer_parity.shared.experiments.ranking_document import Prediction, Ranking
from transfer_parity.shared.report.console import WIDTH, Console, marked


def show(document: Ranking, console: Console) -> None:
    """Print what was skipped, the table, and how well the scores predicted the trained accuracy."""
    console.print(
        f"{document.training_images} training and {document.test_images} test images of {len(document.classes)} "
        f"classes ({document.data}), {document.framework}",
        highlight=False,
    )
    # There may be many, with long reasons: the table is what one wants to see last.
    for skipped in document.skipped:
        console.print(marked("[yellow]Skipped {}:[/] {}", skipped.backbone, skipped.reason), highlight=False)
    console.print(_table(document))
    for sentence in sentences(document.predictions):
        console.print(sentence, highlight=False)


def _table(document: Ranking) -> Table:
    trained = bool(document.predictions)
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, padding=0, pad_edge=False)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("Backbone", no_wrap=True)
    table.add_column("Weights", overflow="fold")
    for title in ("Params", "Features", "LogME", "NCM", *(["Trained"] if trained else []), "Seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in document.ranking:
        known = "-" if row.trained_accuracy is None else f"{row.trained_accuracy:.3f}"
        table.add_row(
            str(row.rank),
            row.backbone,
            row.weights if row.weights in WEIGHT_ORIGINS else Path(row.weights).name,
            f"{row.parameters / 1e6:.1f} M",
            str(row.features),
            f"{row.logme:.3f}",
            f"{row.ncm_accuracy:.3f}",
            *([known] if trained else []),
            f"{row.seconds:.1f}",
        )
    return table


def sentences(predictions: list[Prediction]) -> list[str]:
    """How well each score ordered the backbones, or why nothing can be said about it."""
    found = []
    for each in predictions:
        if each.tau is None or each.weighted_tau is None:
            why = "their accuracies or scores are all equal" if each.backbones >= 3 else "it takes 3 or more"
            found.append(
                f"{each.score}: nothing can be said about how well it predicts trained accuracy, which is known of "
                f"{each.backbones} backbone{'' if each.backbones == 1 else 's'}; {why}."
            )
        else:
            found.append(
                f"{each.score} against trained accuracy, {each.backbones} backbones: Kendall's tau {each.tau:+.2f}, "
                f"weighted {each.weighted_tau:+.2f}."
            )
    return found
