"""A pair of the user's own: the map of names, the judge, and what explains a difference."""
