"""The glossary of dimension names used in signatures such as `Float[Tensor, "d_key n"]`.

Tests import the package through jaxtyping's import hook, which checks these shapes at run time; users pay nothing.

| name    | meaning                                                                                         |
|---------|-------------------------------------------------------------------------------------------------|
| n       | facts in a batch (columns of K and R)                                                           |
| m       | keys in memory: those of facts edited in earlier batches                                        |
| d_model | width of the residual stream                                                                    |
| d_key   | input width of the MLP output projection W, the width of keys                                   |
| d_value | output width of W, the width of values (= d_model)                                              |
| rank    | dimension of a subspace of key space                                                            |
| rows    | token rows: tokenised prompts, several for each fact (see `text.rows.RowKind`)                  |
| tokens  | positions in a padded batch                                                                     |
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "Tensor"]
