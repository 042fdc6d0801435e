"""Running a model on many prompts: from an edited layer and token on, again and again, or once to read activations."""

from bluedit.forward._budget import MOST_TOKENS, tokens_per_step
from bluedit.forward._observe import observe
from bluedit.forward._past import Past, past_of, shared_length
from bluedit.forward._runner import Runner, runners

__all__ = ["MOST_TOKENS", "Past", "Runner", "observe", "past_of", "runners", "shared_length", "tokens_per_step"]
