"""Benchmarks as one self-contained HTML page."""

from bluedit.benchmark.page._page import write_page

__all__ = ["write_page"]
