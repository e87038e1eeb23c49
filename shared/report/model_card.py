"""A model card for people: ``model-card.md``, and what the terminal says."""

from __future__ import annotations

from collections.abc import Iterator

from transfer_parity.shared.contract.wings import wing
from transfer_parity.shared.experiments.model_card import Estimate, ModelCard
from transfer_parity.shared.report.console import Console, amount
from transfer_parity.shared.report.markdown import table


def show(card: ModelCard, console: Console) -> None:
    """Print what was made, and how good it can be expected to be."""
    total = sum(card.images.values())
    console.print(
        f"{card.recipe.backbone}, {card.recipe.strategy}, trained on all {total} images of {len(card.classes)} classes",
        highlight=False,
    )
    for line in _sentences(card):
        console.print(line, highlight=False)


def markdown(card: ModelCard) -> str:
    """The card, for the folder of the model."""
    recipe = card.recipe
    facts = [
        ("backbone", f"{recipe.backbone}, {_source(card)}"),
        ("strategy", ", ".join(dict.fromkeys(filter(None, (recipe.strategy, recipe.closed_form))))),
        ("images it takes", f"RGB, {recipe.size} x {recipe.size} pixels; predict prepares photographs as in training"),
        ("weights it began with (SHA-256)", card.checkpoint_sha256 or "none"),
        ("data", f"{card.data}, {sum(card.images.values())} images"),
        ("data (SHA-256 of the pixels)", card.data_sha256),
        ("made", card.created),
    ]
    files = [
        (
            wing(framework).title,
            each.file,
            each.sha256,
            ", ".join(f"{name} {version}" for name, version in each.versions.items()),
        )
        for framework, each in card.models.items()
    ]
    parts = [
        f"# {recipe.backbone} for {card.data}\n",
        "\n".join(_sentences(card)) + "\n",
        table(["what", ""], facts),
        "## Files\n",
        table(["framework", "file", "SHA-256", "versions"], files),
        "## Training images by class\n",
        table(["class", "images"], [(_cell(name), str(count)) for name, count in card.images.items()]),
        "The recipe stands in `recipe.toml`, everything here also in `model-card.json`.\n",
    ]
    return "\n".join(parts)


def _source(card: ModelCard) -> str:
    """Where its first weights came from."""
    return str(card.checkpoint["source"]) if card.checkpoint else "weights drawn at random"


def _sentences(card: ModelCard) -> Iterator[str]:
    """How good it is, as far as that is known."""
    if card.estimate is None:
        yield "How good it is was not estimated."
    else:
        yield from _estimate(card.estimate)
    if card.same_predictions is not None:
        total = sum(card.images.values())
        yield (
            f"The frameworks' models say the same of {card.same_predictions} of the {total} images that they were "
            "trained on."
        )
    if card.skipped_files:
        yield f"{len(card.skipped_files)} files could not be read and were left out."


def _estimate(found: Estimate) -> Iterator[str]:
    for framework, accuracy in found.accuracy.items():
        interval = found.interval[framework]
        within = f" (95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else ""
        yield (
            f"{wing(framework).title}: expect an accuracy of about {100 * accuracy:.1f} %{within}, measured on "
            f"{found.test_images} images that were held out, {found.seeds} time{'s' if found.seeds > 1 else ''}."
        )
    size = "all that were left" if found.shots == "all" else f"{amount(found.shots)} a class"
    yield (
        f"That is of models trained on {found.training_images} images ({size}; see {found.source}), fewer than this "
        "one has seen, and holds for images like these."
    )


def _cell(text: str) -> str:
    """Text from a file's name, as it is to stand in a table."""
    return "".join(f"\\{each}" if each in "\\`*_{}[]<>#|" else " " if each.isspace() else each for each in text)
