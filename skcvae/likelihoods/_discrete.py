"""Categories and counts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skcvae.likelihoods._family import Array, Likelihood, Part, mean_of_rows, x_log_x
from skcvae.likelihoods._given import DiscreteGiven, columns_at

#: Natural parameters are at most this far from 0, so that no category that may be there has probability 0.
LARGEST_LOGIT = 15.0
#: Rows that each category, and each count of one, has beside those that were seen.
PSEUDO_ROWS = 0.5
#: The probability that is moved inside before its logarithm is taken.
PROBABILITY_MARGIN = 0.01
#: Categories of a column, at most.
MOST_CATEGORIES = 1000


class Discrete(Part):
    """Columns of whole numbers, independent given z."""

    @abstractmethod
    def marginal(self, X: Array) -> Array:
        """Log-probability of rows of data (n, d) if nothing depended on anything, (n,)."""

    @abstractmethod
    def independent(self, n_samples: int, rng: np.random.Generator) -> Array:
        """Rows (n_samples, d) of which this is the law."""

    @abstractmethod
    def marginal_cells(self) -> Array:
        """Means of their cells, (c,)."""

    def statistics(self, x: Tensor) -> Tensor:
        return x

    def tempered(self, epsilon: float) -> Discrete:
        return self

    @abstractmethod
    def widths(self) -> list[int]:
        """How many of the decoder's outputs each column has."""

    @abstractmethod
    def chosen(self, observed: NDArray[np.bool_]) -> Discrete:
        """The likelihood of some of the columns (d,)."""

    def given(self, observed: NDArray[np.bool_]) -> DiscreteGiven:
        is_known = torch.as_tensor(np.repeat(observed, self.widths()))
        selected = columns_at(torch.eye(self.n_outputs, dtype=torch.float64)[is_known])
        return DiscreteGiven(observed, self.chosen(observed), selected, None, None, self.chosen(~observed), ~is_known)


class Categorical(Discrete):
    r"""Columns of categories, each one block of indicators with a softmax of the decoder's outputs.

    .. math:: \log p = \sum_c \Big(\eta_{c, x_c} - \log \sum_a e^{\eta_{ca}}\Big),
              \qquad \eta = L \tanh(\mathrm{output}/L),\; L = 15

    Rows of data (n, d) hold codes 0, 1, ...; standardised rows (n, w) hold the blocks side by side.

    Parameters
    ----------
    sizes : sequence of d int, categories of each column
    frequencies : Tensor of shape (w,), of the categories in the fitted rows
    """

    frequencies: Tensor
    blocks: Tensor
    note = "categories"

    def __init__(self, sizes: Sequence[int], frequencies: Tensor) -> None:
        super().__init__(np.zeros(sum(sizes)), 1.0)
        self.sizes = tuple(sizes)
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("blocks", torch.block_diag(*(torch.ones(size, 1, dtype=torch.float64) for size in sizes)))

    @property
    def n_columns(self) -> int:
        return len(self.sizes)

    def widths(self) -> list[int]:
        return list(self.sizes)

    def chosen(self, observed: NDArray[np.bool_]) -> Categorical:
        sizes = [size for size, is_known in zip(self.sizes, observed, strict=True) if is_known]
        is_known = torch.as_tensor(np.repeat(observed, self.sizes)).to(self.frequencies.device)
        return Categorical(sizes, self.frequencies[is_known])

    def check_support(self, X: Array) -> None:
        for place, (size, column) in enumerate(zip(self.sizes, X.T, strict=True)):
            known = column[~np.isnan(column)]
            if len(known) and not (np.isin(known, np.arange(size))).all():
                wrong = known[~np.isin(known, np.arange(size))][0]
                raise ValueError(
                    f"CategoricalLikelihood expects codes from 0 to {size - 1} in column {place}, got {wrong:g}. Give the "
                    "categories of the fit, or NaN where a cell is of none of them."
                )

    def standardise(self, X: Array) -> Array:
        rows = np.zeros((len(X), self.n_features))
        begin = np.cumsum([0, *self.sizes[:-1]])
        np.put_along_axis(rows, begin + np.asarray(X, dtype=np.float64).astype(np.intp), 1.0, 1)
        return rows

    def restore(self, x: Array) -> Array:
        return self.closed(x)

    def cells(self, x: Array) -> Array:
        return x

    def closed(self, cells: Array) -> Array:
        ends = np.cumsum(self.sizes[:-1])
        return np.stack([block.argmax(1) for block in np.split(cells, ends, axis=1)], 1).astype(np.float64)

    def marginal(self, X: Array) -> Array:
        result: Array = self.standardise(X) @ np.log(self.frequencies.double().cpu().numpy())
        return result

    def independent(self, n_samples: int, rng: np.random.Generator) -> Array:
        parts = np.split(self.marginal_cells(), np.cumsum(self.sizes[:-1]))
        codes = [rng.choice(len(part), n_samples, p=part / part.sum()) for part in parts]
        return np.stack(codes, 1).astype(np.float64)

    def marginal_cells(self) -> Array:
        result: Array = self.frequencies.double().cpu().numpy()
        return result

    def carrier(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, 0])

    def natural(self, output: Tensor) -> tuple[Tensor, Tensor]:
        eta = bounded(output)
        return eta, self.log_normaliser(eta)

    def log_normaliser(self, eta: Tensor) -> Tensor:
        return (eta.exp() @ self.blocks.to(eta)).log().sum(1)

    def mean_at(self, eta: Tensor) -> Tensor:
        odds, blocks = eta.exp(), self.blocks.to(eta)
        return odds / (odds @ blocks @ blocks.T)

    def mean(self, output: Tensor) -> Tensor:
        return self.mean_at(bounded(output))

    def entropy_term(self, barycentre: Tensor) -> Tensor:
        return x_log_x(barycentre.clamp(0, 1)).sum(1)

    def noise(self, output: Tensor, rng: np.random.Generator) -> Tensor:
        result = torch.zeros_like(output)
        begin = 0
        for block in self.mean(output).split(self.sizes, 1):
            level = torch.as_tensor(rng.random((len(block), 1))).to(block) * block.sum(1, keepdim=True)
            chosen = (block.cumsum(1) < level).sum(1).clamp(max=block.shape[1] - 1)
            result[torch.arange(len(block), device=block.device), begin + chosen] = 1
            begin += block.shape[1]
        return result

    def exact_output(self, x: Tensor) -> Tensor:
        return x.clamp(min=PROBABILITY_MARGIN).log()

    def scaled_start(self, x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        deviation = self.frequencies.sqrt()
        return x / deviation, 1 / deviation, self.frequencies.log()


class Poisson(Discrete):
    r"""Counts, with the decoder's output as the logarithm of their rate over that of the fitted rows.

    .. math:: \log p = \sum_c x_c \eta_c - e^{\eta_c} - \log x_c!, \qquad \eta = \log m + L \tanh(\mathrm{output}/L),\; L = 15

    Parameters
    ----------
    rate : Tensor of shape (d,), m
    """

    rate: Tensor
    note = "counts"

    def __init__(self, rate: Tensor) -> None:
        super().__init__(np.zeros(len(rate)), 1.0)
        self.register_buffer("rate", rate)

    def widths(self) -> list[int]:
        return [1] * self.n_features

    def chosen(self, observed: NDArray[np.bool_]) -> Poisson:
        return Poisson(self.rate[torch.as_tensor(observed).to(self.rate.device)])

    def check_support(self, X: Array) -> None:
        known = X[~np.isnan(X)]
        is_wrong = (known < 0) | (known != np.rint(known))
        if is_wrong.any():
            raise ValueError(
                f"PoissonLikelihood expects counts 0, 1, 2, ..., got {known[is_wrong][0]:g}. Give another likelihood for this "
                "column."
            )

    def marginal(self, X: Array) -> Array:
        """By a geometric distribution with the mean of the rows, whose tail is longer than that of any rate."""
        rate = self.marginal_cells()
        result: Array = (X * np.log(rate / (1 + rate)) - np.log1p(rate)).sum(1)
        return result

    def independent(self, n_samples: int, rng: np.random.Generator) -> Array:
        return rng.geometric(1 / (1 + self.marginal_cells()), (n_samples, self.n_features)).astype(np.float64) - 1

    def marginal_cells(self) -> Array:
        result: Array = self.rate.double().cpu().numpy()
        return result

    def carrier(self, x: Tensor) -> Tensor:
        return torch.lgamma(x + 1).sum(1)

    def natural(self, output: Tensor) -> tuple[Tensor, Tensor]:
        eta = self.rate.log() + bounded(output)
        return eta, self.log_normaliser(eta)

    def log_normaliser(self, eta: Tensor) -> Tensor:
        return eta.exp().sum(1)

    def mean_at(self, eta: Tensor) -> Tensor:
        return eta.exp()

    def mean(self, output: Tensor) -> Tensor:
        return self.rate * bounded(output).exp()

    def entropy_term(self, barycentre: Tensor) -> Tensor:
        return (x_log_x(barycentre.clamp(min=0)) - barycentre).sum(1)

    def noise(self, output: Tensor, rng: np.random.Generator) -> Tensor:
        return torch.as_tensor(rng.poisson(self.mean(output).double().cpu().numpy())).to(output)

    def exact_output(self, x: Tensor) -> Tensor:
        return ((x + PSEUDO_ROWS) / self.rate).log()

    def scaled_start(self, x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        deviation = self.rate.sqrt()
        return x / deviation, 1 / deviation, torch.zeros_like(self.rate)


def bounded(output: Tensor) -> Tensor:
    """Numbers between -15 and 15, and themselves near 0."""
    return LARGEST_LOGIT * (output / LARGEST_LOGIT).tanh()


@dataclass(frozen=True, eq=False)
class CategoricalLikelihood(Likelihood):
    r"""Categories, :math:`p(x = a \mid z) = e^{\eta_a(z)} / \sum_b e^{\eta_b(z)}` in each column, independent given z.

    Parameters
    ----------
    n_categories : sequence of d int, default=None
        Categories of each column; None for as many as the codes of the fitted rows say.

    Examples
    --------
    Columns hold codes 0, 1, ...; a data frame has its categories encoded by ``likelihood="auto"``.

    >>> import numpy as np
    >>> from skcvae import CoupledVAE
    >>> from skcvae.likelihoods import CategoricalLikelihood
    >>> X = np.random.default_rng(0).integers(0, 3, (200, 2))
    >>> model = CoupledVAE(1, likelihood=CategoricalLikelihood(), max_iter=50, random_state=0).fit(X)
    >>> bool(np.isin(model.sample(100, random_state=0), [0, 1, 2]).all())
    True
    """

    n_categories: tuple[int, ...] | None = None

    def bind(self, X: Array, weights: Array | None = None) -> Categorical:
        if not (np.rint(X) == X).all() or X.min() < 0 or X.max() >= MOST_CATEGORIES:
            raise ValueError(
                f"CategoricalLikelihood expects codes 0, 1, ..., {MOST_CATEGORIES - 1}, got values from {X.min():g} to "
                f"{X.max():g}. Encode the categories (OrdinalEncoder), or give a data frame with likelihood='auto'."
            )
        sizes = [int(size) for size in X.max(0) + 1] if self.n_categories is None else list(self.n_categories)
        family = Categorical(sizes, torch.full((sum(sizes),), 0.5, dtype=torch.float64))
        family.check_support(X)
        total = float(len(X) if weights is None else weights.sum())
        counts = total * mean_of_rows(family.standardise(X), weights) + PSEUDO_ROWS
        return Categorical(sizes, torch.as_tensor(counts / (total + PSEUDO_ROWS * np.repeat(sizes, sizes))))


@dataclass(frozen=True, eq=False)
class PoissonLikelihood(Likelihood):
    r"""Counts, :math:`p(x \mid z) = \lambda(z)^x e^{-\lambda(z)} / x!` in each column, independent given z.

    Counts that vary more than their mean says, such as numbers of people or of events in groups, are described better by the
    default for numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae import CoupledVAE
    >>> from skcvae.likelihoods import PoissonLikelihood
    >>> X = np.random.default_rng(0).poisson([1.0, 5.0], (200, 2))
    >>> model = CoupledVAE(1, likelihood=PoissonLikelihood(), max_iter=50, random_state=0).fit(X)
    >>> bool(np.abs(model.sample(2000, random_state=0).mean(0) - [1, 5]).max() < 0.6)
    True
    """

    def bind(self, X: Array, weights: Array | None = None) -> Poisson:
        total = float(len(X) if weights is None else weights.sum())
        family = Poisson(torch.as_tensor((total * mean_of_rows(X, weights) + PSEUDO_ROWS) / (total + PSEUDO_ROWS)))
        family.check_support(X)
        return family
