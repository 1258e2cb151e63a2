"""What all divergences share: parameters that begin a measure, and a measure of two samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn


class Measure(nn.Module, ABC):
    """A divergence in use: a number for two samples, differentiable in them."""

    #: Where it draws from while it is used, on the CPU, if it draws.
    generator: torch.Generator | None = None

    @abstractmethod
    def forward(self, codes: Tensor, draws: Tensor) -> Tensor:
        """How far the codes are from draws from the prior.

        Parameters
        ----------
        codes : Tensor of shape (n, r), from the encoder
        draws : Tensor of shape (m, r), from the prior

        Returns
        -------
        Tensor, scalar
        """

    def critic_loss(self, codes: Tensor, draws: Tensor) -> Tensor | None:
        """What the measure's own parameters minimise, without gradient to the samples; None where it has no parameters."""
        return None


class Divergence(ABC):
    """A divergence as the user chooses it: parameters only."""

    #: Rows that a minibatch must have.
    fewest_rows: ClassVar[int] = 1

    @abstractmethod
    def begin(self, n_coordinates: int, generator: torch.Generator) -> Measure:
        """A measure to start training with.

        Parameters
        ----------
        n_coordinates : int, width r of the samples
        generator : torch.Generator on the CPU, source of initial weights and of random directions; the measure keeps it
        """
