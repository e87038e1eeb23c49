"""Lessons: cells of a notebook, each in the process of its framework, and the files that lessons are kept in."""
