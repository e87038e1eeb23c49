"""Mistakes that are planted one at a time, to see who notices them (make mutate). Pytest collects nothing here."""
