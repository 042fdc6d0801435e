"""The forward engine: repeated forward passes that start at an edited layer and token, and single passes that read activations.

`runners` chooses the fastest layout that agrees with the reference forward (whole sequences, all layers); `observe` reads keys and
values, and `RisingKeys` the keys of layers that are written one after another; `longest_units` bounds what counts as the length of a
state; `Restorer` puts clean activations back into passes with noise.
Everything else in this package is private.
"""

from bluedit.forward._budget import LEAST_TOKENS, MOST_TOKENS, bytes_per_token, tokens_per_step
from bluedit.forward._cache import Past
from bluedit.forward._lengths import longest_units, shortened
from bluedit.forward._observe import observe
from bluedit.forward._past import past_of, shared_length
from bluedit.forward._restore import Restorer
from bluedit.forward._rising import RisingKeys
from bluedit.forward._runner import Runner, runners
from bluedit.forward._said import says_targets

__all__ = [
    "LEAST_TOKENS",
    "MOST_TOKENS",
    "Past",
    "Restorer",
    "RisingKeys",
    "Runner",
    "bytes_per_token",
    "longest_units",
    "observe",
    "past_of",
    "runners",
    "says_targets",
    "shared_length",
    "shortened",
    "tokens_per_step",
]
