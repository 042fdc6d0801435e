"""The interface of layouts: how the rows of a forward pass are arranged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from bluedit.forward._cache import Past
from bluedit.model.editable import EditableModel
from bluedit.shapes import Int, Tensor
from bluedit.text.rows import Row

Places = tuple[Int[Tensor, "n"], Int[Tensor, "n"]]  # (sequence, token) in hidden states, sequences x tokens x width


class Layout(ABC):
    """Suffixes of rows as a model's input.

    Attributes:
        sequences: how many sequences the input has.
    """

    sequences: int

    @staticmethod
    @abstractmethod
    def passes(lengths: Sequence[int]) -> list[list[int]]:
        """Groups of rows that share a forward pass, from the ascending lengths of their suffixes."""

    @classmethod
    @abstractmethod
    def of(cls, lm: EditableModel, rows: Sequence[Row], past: Past) -> Layout:
        """The suffixes of these rows after `past`."""

    @abstractmethod
    def places(self, rows: Int[Tensor, "n"], offsets: Int[Tensor, "n"]) -> Places:
        """Places in hidden states of the tokens at these offsets of these rows' suffixes."""

    @abstractmethod
    def keep(self, rows: Int[Tensor, "n"], hidden: Sequence[Tensor]) -> tuple[Layout, list[Tensor]]:
        """The layout, and hidden states in it, with these rows only."""

    @abstractmethod
    def run(self) -> Any:
        """The model's output."""
