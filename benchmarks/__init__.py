"""This project against the loops that a user would otherwise write."""
