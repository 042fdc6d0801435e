"""Recipes side by side on one data set: facts are written in sequential batches and measured along the way. A benchmark is a folder
(`bluedit.benchmark.record` says what is in it). Killed at any moment, it goes on after the last finished batch and gives what an
uninterrupted benchmark gives."""

from bluedit.benchmark.entry import UNEDITED, Entry
from bluedit.benchmark.plan import Benchmark
from bluedit.benchmark.run import run_benchmark
from bluedit.benchmark.trace import BenchmarkTrace

__all__ = ["UNEDITED", "Benchmark", "BenchmarkTrace", "Entry", "run_benchmark"]
