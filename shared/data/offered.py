"""What the frameworks offer for download by a name: how the name is looked up, and what is said if it cannot be had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from transfer_parity.shared.core.errors import BadInput, did_you_mean, normalised
from transfer_parity.shared.data.download import impatient

_Offer = TypeVar("_Offer")


def find(name: str, offers: Mapping[str, _Offer], complaint: str) -> _Offer:
    """What is offered under a name, in any spelling of it.

    Args:
        name: as the user wrote it.
        offers: by their proper names.
        complaint: that there is no such thing, for the message.

    Raises:
        BadInput: there is none of this name; the nearest one is suggested.
    """
    known = {normalised(each): offer for each, offer in offers.items()}
    if normalised(name) not in known:
        raise BadInput(f"{complaint}; {did_you_mean(name, offers)}")
    return known[normalised(name)]


@contextmanager
def downloading() -> Iterator[None]:
    """A block in which a framework downloads something: it does not wait for ever, and fails in one way only.

    A server may be out of reach, hang up half-way, or send something else. Each framework tells it in its own way, some
    with a plain Exception.

    Raises:
        OSError: whatever went wrong, on one line; what the framework raised is its cause.
    """
    try:
        with impatient():
            yield
    except Exception as error:
        raise OSError(" ".join(str(error).split()) or type(error).__name__) from error
