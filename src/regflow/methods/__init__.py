"""The algorithms, one function in one file each, found by name in the tables."""
