"""Errors that others have published for Omniglot's 20 runs of one-shot classification."""

from __future__ import annotations

from transfer_parity.shared.experiments.episodes_document import PublishedError

_SCIENCE = "Lake, Salakhutdinov and Tenenbaum, Science 350 (2015) 1332-1338"
_BACKGROUND = "30 background alphabets"

#: The best first; all from one paragraph of that paper, beside its figure 6A.
OMNIGLOT = tuple(
    PublishedError(who=who, error=error, source=_SCIENCE, trained_on=trained_on)
    for who, error, trained_on in (
        ("Bayesian program learning", 0.033, f"{_BACKGROUND}, with strokes"),
        ("people", 0.045, "their lives"),
        ("Siamese convolutional network", 0.080, _BACKGROUND),
        ("convolutional network", 0.135, _BACKGROUND),
        ("hierarchical deep model", 0.348, _BACKGROUND),
        ("modified Hausdorff distance", 0.388, "nothing"),
    )
)
#: Runs, classes of each, and test images of each, by which an archive of these runs is recognised.
SHAPE = (20, 20, 20)
