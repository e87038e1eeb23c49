"""Makes the site out of README, documents and source: ``python -m docs.site`` (``make docs``). No framework needed."""
