"""Benchmarks, run by hand: they print ratios against plain transformers, measured in the same run."""
