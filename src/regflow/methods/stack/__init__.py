"""Sections of one block: how neighbors lie to one another, what the block's shape is, and how each is bent."""
