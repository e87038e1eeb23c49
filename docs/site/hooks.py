"""What MkDocs calls while it builds."""

from __future__ import annotations

from typing import Any


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """The page as it is written: what is in Chinese says so, for speech and hyphenation."""
    language = "zh" if page.file.src_uri.startswith("zh/") else "en"
    output = output.replace('<html lang="en"', f'<html lang="{language}"', 1)
    # What scrolls must be within reach of the keyboard.
    return output.replace("<pre><span></span><code>", '<pre><span></span><code tabindex="0">')
