"""Many images at once: graphs of pairwise transforms, made consistent."""
