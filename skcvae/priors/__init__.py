"""Prior distributions of the latent variable: a small abstract class and its final classes."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor
from torch.distributions import Distribution

from skcvae._checks import check_number, shown
from skcvae.priors._base import Prior, QuantilePrior
from skcvae.priors._continuous import DirichletPrior, GaussianPrior, MixturePrior, UniformPrior, axes_mixture
from skcvae.priors._discrete import CategoricalPrior
from skcvae.priors._given import SamplerPrior, TorchPrior, drawn_width, in_double


def flat_dirichlet(n_components: int) -> Prior:
    """The Dirichlet prior of concentration 1; with one component the first coordinate of two, uniform on [0, 1].

    Examples
    --------
    >>> from skcvae.priors import flat_dirichlet
    >>> flat_dirichlet(3).n_components
    3
    """
    return DirichletPrior(np.ones(n_components)) if n_components > 1 else UniformPrior(1)


def equal_atoms(n_components: int) -> CategoricalPrior:
    """Equally likely one-hot atoms; with one component the first coordinate of two, the atoms 0 and 1.

    Examples
    --------
    >>> from skcvae.priors import equal_atoms
    >>> equal_atoms(1).positions().tolist()
    [[1.0], [0.0]]
    """
    n_atoms = max(2, n_components)
    return CategoricalPrior(np.full(n_atoms, 1 / n_atoms), np.eye(n_atoms)[:, :n_components])


#: Components of a prior that is named where no number of them is given.
DEFAULT_COMPONENTS = 2
#: torch gives values that are impossible a weight of about 2e-16.
SMALLEST_WEIGHT = 1e-15
#: Priors that have a name, by the number of components.
PRIORS: dict[str, Callable[[int], Prior]] = {
    "gaussian": GaussianPrior,
    "uniform": UniformPrior,
    "dirichlet": flat_dirichlet,
    "categorical": equal_atoms,
    "mixture": axes_mixture,
}


def as_prior(value: Any, n_components: int | None = None) -> Prior:
    """The prior that a user's value stands for.

    Parameters
    ----------
    value : str, Prior, torch.distributions.Distribution, callable, array of atoms, or tuple (atoms, weights)
    n_components : int or None, default=None
        The dimension that it must have. None is the dimension of the value, of a function that of its draws; of a name it is 2.

    Returns
    -------
    Prior

    Raises
    ------
    TypeError, ValueError
        When the value is none of these, or has another dimension.

    Examples
    --------
    >>> from skcvae.priors import as_prior
    >>> as_prior("uniform", 2)
    UniformPrior(n_components=2, low=0.0, high=1.0)
    >>> as_prior([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]).n_components
    3
    """
    if n_components is not None:
        n_components = check_number("n_components", n_components, numbers.Integral, 1)
    prior = _interpreted(value, n_components)
    if n_components is not None and prior.n_components != n_components:
        raise ValueError(f"prior has {prior.n_components} components and n_components is {n_components}. Make them equal.")
    return prior


def _interpreted(value: Any, n_components: int | None) -> Prior:
    if isinstance(value, Prior):
        return value
    if isinstance(value, str) and value in PRIORS:
        return PRIORS[value](DEFAULT_COMPONENTS if n_components is None else n_components)
    if isinstance(value, Distribution):
        return _from_torch(value)
    if isinstance(value, tuple) and len(value) == 2:
        return CategoricalPrior(value[1], value[0])
    if isinstance(value, (np.ndarray, list)):
        return _equal(value)
    if callable(value) and not isinstance(value, type):
        return SamplerPrior(value, drawn_width(value) if n_components is None else n_components)
    error = ValueError if isinstance(value, str) else TypeError
    names = ", ".join(map(repr, PRIORS))
    raise error(
        f"prior must be one of {names}, a skcvae.priors.Prior, a torch distribution, an array of atoms, a tuple (atoms, weights) "
        f"or a function sampler(n_samples, random_state), got {shown(value)}."
    )


def _equal(atoms: Any) -> Prior:
    if np.ndim(atoms) != 2 or len(atoms) < 2:
        raise ValueError(
            f"prior as an array must be two or more atoms, one in each row, got shape {np.shape(atoms)}. Give an array of shape "
            "(n_atoms, n_components)."
        )
    return CategoricalPrior(np.full(len(atoms), 1 / len(atoms)), atoms)


def _from_torch(given: Distribution) -> Prior:
    if not _lists_atoms(given):
        return TorchPrior(given)
    given = in_double(given)
    atoms = given.enumerate_support()
    weights = given.log_prob(atoms).exp().double().numpy()
    is_possible, probs = weights > SMALLEST_WEIGHT, getattr(given, "probs", None)
    if isinstance(probs, Tensor) and probs.shape == weights.shape:
        is_possible &= probs.numpy() > 0
    weights = weights[is_possible]
    return CategoricalPrior(weights / weights.sum(), atoms.double().numpy().reshape(len(is_possible), -1)[is_possible])


def _lists_atoms(given: Distribution) -> bool:
    """Whether a distribution over a number or a vector has finitely many values."""
    return bool(given.has_enumerate_support) and len(given.event_shape) <= 1 and not given.batch_shape


def is_discrete(value: Any) -> bool:
    """Whether a user's value stands for a prior on finitely many atoms; nothing is drawn.

    Examples
    --------
    >>> from skcvae.priors import is_discrete
    >>> is_discrete("gaussian"), is_discrete("categorical")
    (False, True)
    """
    if isinstance(value, Prior):
        return value.is_atomic
    if isinstance(value, Distribution):
        return _lists_atoms(value)
    return isinstance(value, (tuple, list, np.ndarray)) or (isinstance(value, str) and value == "categorical")


__all__ = [
    "PRIORS",
    "CategoricalPrior",
    "DirichletPrior",
    "GaussianPrior",
    "MixturePrior",
    "Prior",
    "QuantilePrior",
    "SamplerPrior",
    "TorchPrior",
    "UniformPrior",
    "as_prior",
    "axes_mixture",
    "equal_atoms",
    "flat_dirichlet",
    "is_discrete",
]
