"""What stops a build."""

from __future__ import annotations


class SiteError(Exception):
    """The site cannot be made; one sentence says what is wrong and what to do."""
