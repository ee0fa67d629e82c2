"""The kernels as machine code: compiled for a named card without having it, and read."""
