"""Priors on finitely many atoms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from skcvae._checks import check_probabilities
from skcvae.priors._base import Array, Prior, checked_array, moments, whitening


@dataclass(frozen=True, eq=False)
class CategoricalPrior(Prior):
    r"""Finitely many atoms with weights, :math:`p = \sum_j b_j \delta_{z_j}`: the prior of a balanced mixture model.

    Parameters
    ----------
    probs : array-like of shape (K,), the weights b: positive, with sum 1
    atoms : array-like of shape (K, k), default one-hot vectors, k = K

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.priors import CategoricalPrior
    >>> CategoricalPrior([0.5, 0.3, 0.2]).sample(2, np.random.default_rng(0)).shape
    (2, 3)
    """

    probs: ArrayLike
    atoms: ArrayLike | None = None

    def __post_init__(self) -> None:
        weights, positions = self.weights(), self.positions()
        if not (weights > 0).all():
            raise ValueError(f"probs must be above 0, got {weights}. Leave out the atoms that have no weight.")
        if len(positions) != len(weights):
            raise ValueError(f"There must be as many atoms as probs, got {len(positions)} atoms and {len(weights)} probs.")
        if len(np.unique(positions, axis=0)) != len(positions):
            raise ValueError("The atoms must differ from each other. Add up the probs of equal ones.")

    @property
    def n_components(self) -> int:  # type: ignore[override]
        """Dimension k of the atoms; for one-hot atoms their number."""
        return self.positions().shape[1]

    def weights(self) -> Array:
        """The weights b, (K,)."""
        return check_probabilities("probs", self.probs)

    def positions(self) -> Array:
        """The atoms z, (K, k)."""
        return np.eye(len(self.weights())) if self.atoms is None else checked_array("atoms", self.atoms, 2)

    @property
    def is_atomic(self) -> bool:
        return True

    def sample(self, n_samples: int, rng: np.random.Generator) -> Array:
        return self.positions()[rng.choice(len(self.weights()), size=n_samples, p=self.weights())]

    def weighted(self, n_samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
        return self.positions(), np.log(self.weights())

    def standardisation(self) -> tuple[Array, Array]:
        return whitening(*moments(self.positions(), self.weights()))
