"""The words every stage speaks: grids, images, transforms, and how they are read and written."""
