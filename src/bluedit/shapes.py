"""The glossary of dimension names used in signatures such as `Float[Tensor, "d_key n"]`.

Tests import the package through jaxtyping's import hook, which checks these shapes at run time; users pay nothing.

| name    | meaning                                                                                         |
|---------|-------------------------------------------------------------------------------------------------|
| n       | facts in a batch                                                                                |
| m       | keys in memory: facts edited in earlier batches                                                 |
| d_model | width of the residual stream                                                                    |
| d_key   | input width of the MLP output projection W: where keys live                                     |
| d_value | output width of W (= d_model): where values live                                                |
| rank    | dimension of a subspace of key space                                                            |
| rows    | tokenised prompts in a batch (each fact has several: bare, prefixed, drift)                     |
| tokens  | positions in a padded batch                                                                     |
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "Tensor"]
