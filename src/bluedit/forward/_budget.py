"""How many tokens fit into one optimisation step, from the memory that is free."""

from __future__ import annotations

import torch

from bluedit.model.editable import EditableModel
from bluedit.model.memory import free_memory

_SHARE = 0.25  # of free memory
LEAST_TOKENS, MOST_TOKENS = 64, 2048  # below, batching is pointless; above, matrix products gain nothing more


def tokens_per_step(lm: EditableModel, kept: int = 0) -> int:
    """Tokens whose activations, kept for the backward pass through all layers, take at most a quarter of the free memory.

    Of several devices the one with the least free memory counts.

    Args:
        lm: the model.
        kept: bytes of the free memory that something else will take.
    """
    spare = max(0, min(map(free_memory, lm.devices)) - kept)
    return max(LEAST_TOKENS, min(MOST_TOKENS, int(_SHARE * spare / bytes_per_token(lm))))


def bytes_per_token(lm: EditableModel) -> int:
    """Bytes of activations that a token keeps for the backward pass.

    These are about a dozen vectors as wide as the residual stream and four as wide as a key in each layer, and, at a few of its
    positions, the logits and three arrays of their size.
    """
    config = lm.model.config.get_text_config()
    width, size = config.hidden_size, torch.finfo(lm.dtype).bits // 8
    return lm.anatomy.n_layers * (12 * width + 4 * lm.d_key) * size + 4 * 4 * config.vocab_size // 3
