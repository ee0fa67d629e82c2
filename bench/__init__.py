"""Benchmarks of the kernels against everybody's best honest form: cases, providers, clocks, rows, report."""
