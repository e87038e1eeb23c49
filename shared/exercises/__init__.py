"""Exercises: faults that are planted in a copy of a wing, and their judge."""
