"""Comparisons, sweeps, attribution, ranking and conversion, and the documents that they write."""
