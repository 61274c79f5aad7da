"""Keypoints, descriptors and their matches: initializers for rasters."""
