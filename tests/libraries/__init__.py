"""The project against the libraries: what it computes, and what they say themselves."""
