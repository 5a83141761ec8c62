"""Measurements, run by hand: python benchmarks/compare.py."""
