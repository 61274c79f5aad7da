"""Sections of one block: how neighbors lie to one another, the block's shape, and how each is bent."""
