"""Many images at once: graphs of pairwise transforms made consistent, and means of transforms."""
