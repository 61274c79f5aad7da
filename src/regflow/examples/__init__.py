"""The demos, and the compilation of the kernels."""
