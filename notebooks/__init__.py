"""A package, so that no other module named `notebooks` can stand in for it."""
