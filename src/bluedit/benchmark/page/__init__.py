"""Benchmarks as one HTML page that needs nothing else."""

from bluedit.benchmark.page._page import write_page

__all__ = ["write_page"]
