"""Recipes side by side on one data set: facts written in sequential batches, measured as they come. A run is a folder; killed at any
moment it goes on after the last finished batch, and gives what an uninterrupted run gives.

    RUN/config.json             what is run; a folder holds one benchmark only
    RUN/targets/                optimised targets, shared by recipes where they are the same
    RUN/RECIPE/patch/           all edits so far
    RUN/RECIPE/batches.json     after each batch: seconds, reach, norms, and the metrics over all facts so far and over those of each batch
    RUN/RECIPE/facts.json       fact by fact, after the last batch
    RUN/RECIPE/hidden.json      hidden states of known facts before and after all edits
    RUN/RECIPE/finetuned.json   with `then_finetune`: the metrics before and after a short further fine-tuning
    RUN/RECIPE/failed.json      why a recipe was given up, if it was
    RUN/results.csv, .md        the table
"""

from bluedit.benchmark.folder import place_of
from bluedit.benchmark.plan import UNEDITED, Benchmark, parse_run
from bluedit.benchmark.run import run_benchmark

__all__ = ["UNEDITED", "Benchmark", "parse_run", "place_of", "run_benchmark"]
