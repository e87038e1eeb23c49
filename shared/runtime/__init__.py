"""Processes: starting a wing's worker, following it, and what runs inside it."""
