"""Columns of several kinds: a product of likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skcvae.likelihoods._background import Background
from skcvae.likelihoods._discrete import Discrete
from skcvae.likelihoods._family import Array, Family, Likelihood, Part, Rows, padded, shrunk_axes
from skcvae.likelihoods._gaussian import FixedGaussian, GaussianLikelihood, MappedGaussian
from skcvae.likelihoods._given import Given, columns_at, expected_tail

Columns = NDArray[np.intp]


class Product(Family):
    r"""Parts that are independent given z, each of some columns.

    .. math:: \log p(x \mid z) = \sum_b \log p_b(x_b \mid z)

    Statistics, natural parameters and outputs of the parts stand side by side; normalisers and carriers add.

    Parameters
    ----------
    parts : sequence of Family; one that is Gaussian is the first
    columns : sequence of arrays of int, places of the columns of each part in rows of data
    background : Background or None, broad noise of the Gaussian part; of discrete ones it is their law in all rows
    """

    def __init__(self, parts: Sequence[Family], columns: Sequence[Columns], background: Background | None = None) -> None:
        super().__init__(np.concatenate([part.offset for part in parts]), 1.0, None, background)
        self.parts = nn.ModuleList(parts)
        self.columns = tuple(np.asarray(places, dtype=np.intp) for places in columns)

    @property
    def families(self) -> list[Family]:
        """The parts."""
        return list(self.parts)  # type: ignore[arg-type]

    @property
    def numbers(self) -> FixedGaussian | None:
        """The part with Gaussian noise that is fixed, if there is one."""
        first = self.families[0]
        return first if isinstance(first, FixedGaussian) else None

    @property
    def n_columns(self) -> int:
        return sum(map(len, self.columns))

    @property
    def n_outputs(self) -> int:
        return sum(part.n_outputs for part in self.families)

    @property
    def n_statistics(self) -> int:
        return sum(part.n_statistics for part in self.families)

    @property
    def smallest_scale(self) -> float:
        return min(part.smallest_scale for part in self.families)

    @property
    def note(self) -> str:  # type: ignore[override]
        """What the noise is, in one line."""
        return "; ".join(
            f"{len(places)} {part.note}" if isinstance(part, Discrete) else f"{len(places)} numbers: {part.note}"
            for part, places in zip(self.families, self.columns, strict=True)
        )

    @property
    def log_volume(self) -> float:
        return sum(part.log_volume for part in self.families if not isinstance(part, Discrete))

    def log_volumes(self, X: Array) -> Array:
        return np.sum([part.log_volumes(cells) for part, cells in self._of_rows(X)], axis=0)

    def standardise(self, X: Array) -> Array:
        return np.concatenate([part.standardise(cells) for part, cells in self._of_rows(X)], 1)

    def restore(self, x: Array) -> Array:
        return self.closed(self.cells(x))

    def cells(self, x: Array) -> Array:
        return np.concatenate([part.cells(rows) for part, rows in self._of_standardised(x)], 1)

    def closed(self, cells: Array) -> Array:
        widths = [part.n_features for part in self.families]
        blocks = np.split(cells, np.cumsum(widths[:-1]), axis=1)
        return self._in_order([part.closed(block) for part, block in zip(self.families, blocks, strict=True)])

    def expected_cells(self, output: Tensor) -> Array:
        return np.concatenate([part.expected_cells(own) for part, own in self._of_output(output)], 1)

    def broad(self, X: Array) -> Array | None:
        if self.background is None:
            return None
        return np.sum([_broad(part, cells) for part, cells in self._of_rows(X)], axis=0)

    def disturbed(self, X: Array, rng: np.random.Generator) -> Array:
        if self.background is None:
            return X
        is_broad = rng.random(len(X)) < self.background.share
        X[is_broad] = self._in_order([_drawn_broad(part, int(is_broad.sum()), rng) for part in self.families])
        return X

    def check_support(self, X: Array) -> None:
        for part, cells in self._of_rows(X):
            part.check_support(cells)

    def given(self, observed: NDArray[np.bool_]) -> ProductGiven:
        givens: list[Given | None] = []
        families, columns, matrices = [], [], []
        new_places = np.cumsum(observed) - 1
        for part, places in zip(self.families, self.columns, strict=True):
            is_known = observed[places]
            given = part.given(is_known) if is_known.any() and not is_known.all() else None
            if is_known.any():
                families.append(part if given is None else given.family)
                columns.append(new_places[places[is_known]])
            matrix = torch.eye(part.n_outputs, dtype=torch.float64) if given is None else given.selected.matrix
            matrices.append(matrix if is_known.any() else matrix[:0])
            givens.append(given)
        background = None if self.background is None else _marginal(self.background, observed[self.columns[0]])
        family = Product(families, columns, background)
        selected = columns_at(torch.block_diag(*matrices))
        return ProductGiven(observed, family, selected, None, self.background, self, tuple(givens))

    def statistics(self, x: Tensor) -> Tensor:
        return torch.cat([part.statistics(rows) for part, rows in self._of_standardised(x)], 1)

    def carrier(self, x: Tensor) -> Tensor:
        return torch.stack([part.carrier(rows) for part, rows in self._of_standardised(x)]).sum(0)

    def natural(self, output: Tensor) -> tuple[Tensor, Tensor]:
        etas, normalisers = zip(*(part.natural(own) for part, own in self._of_output(output)), strict=True)
        return torch.cat(etas, 1), torch.stack(normalisers).sum(0)

    def log_normaliser(self, eta: Tensor) -> Tensor:
        return torch.stack([part.log_normaliser(own) for part, own in self._of_statistics(eta)]).sum(0)

    def mean_at(self, eta: Tensor) -> Tensor:
        return torch.cat([part.mean_at(own) for part, own in self._of_statistics(eta)], 1)

    def mean(self, output: Tensor) -> Tensor:
        return torch.cat([part.mean(own) for part, own in self._of_output(output)], 1)

    def mean_statistics(self, output: Tensor) -> Tensor:
        return torch.cat([part.mean_statistics(own) for part, own in self._of_output(output)], 1)

    def entropy_term(self, barycentre: Tensor) -> Tensor:
        return torch.stack([part.entropy_term(own) for part, own in self._of_statistics(barycentre)]).sum(0)

    def divergence(self, output: Tensor, barycentre: Tensor) -> Tensor:
        pairs = zip(self._of_output(output), self._of_statistics(barycentre), strict=True)
        return torch.stack([part.divergence(own, centre) for (part, own), (_, centre) in pairs]).sum(0)

    def tempered(self, epsilon: float) -> Product:
        return Product([part.tempered(epsilon) for part in self.families], self.columns, self.background)

    def tempering(self, epsilon: float) -> float | Tensor:
        factors = [part.tempering(epsilon) for part in self.families]
        if all(isinstance(factor, float) and factor == factors[0] for factor in factors):
            return factors[0]
        widths = torch.tensor([part.n_statistics for part in self.families])
        factor = torch.tensor([float(factor) for factor in factors], dtype=torch.float64).repeat_interleave(widths)
        return factor.to(next(self.buffers()).device)

    def noise(self, output: Tensor, rng: np.random.Generator) -> Tensor:
        return torch.cat([part.noise(own, rng) for part, own in self._of_output(output)], 1)

    def exact_output(self, x: Tensor) -> Tensor:
        return torch.cat([part.exact_output(rows) for part, rows in self._of_standardised(x)], 1)

    def linear_start(self, x: Tensor, n_components: int, epsilon: float, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Along the axes of the rows in units of each column's noise, so that no kind of column has more say than it varies."""
        starts = [part.scaled_start(rows, weights) for part, rows in self._of_standardised(x) if isinstance(part, Part)]
        axes = shrunk_axes(torch.cat([scaled for scaled, _, _ in starts], 1), n_components, epsilon, weights)
        parts = axes.split([part.n_features for part in self.families])
        slopes = [slope[:, None] * own for (_, slope, _), own in zip(starts, parts, strict=True)]
        weights_of_parts = [padded(slope, part.n_outputs) for part, slope in zip(self.families, slopes, strict=True)]
        return torch.cat(weights_of_parts), torch.cat([bias for _, _, bias in starts])

    def refitted(self, residual: Tensor) -> Product:
        return self._with([part.refitted(own) for part, own in self._of_features(residual)])

    def at_least(self, residual: Tensor) -> Product:
        return self._with([part.at_least(own) for part, own in self._of_features(residual)])

    def settle(self, output: Tensor, barycentre: Tensor, weight: Tensor) -> None:
        for (part, own), (_, centre) in zip(self._of_output(output), self._of_statistics(barycentre), strict=True):
            part.settle(own, centre, weight)

    def _with(self, parts: list[Family]) -> Product:
        return Product(parts, self.columns, self.background)

    def _in_order(self, blocks: list[Array]) -> Array:
        """Rows of data (n, d) of the cells (n, d_b) of each part."""
        return np.concatenate(blocks, 1)[:, np.concatenate(self.columns).argsort()]

    def _of_rows(self, X: Array) -> list[tuple[Family, Array]]:
        return [(part, X[:, places]) for part, places in zip(self.families, self.columns, strict=True)]

    def _of_standardised(self, x: Rows) -> list[tuple[Family, Rows]]:
        return self._cut(x, [part.n_features for part in self.families])

    def _of_output(self, output: Tensor) -> list[tuple[Family, Tensor]]:
        return self._cut(output, [part.n_outputs for part in self.families])

    def _of_statistics(self, eta: Tensor) -> list[tuple[Family, Tensor]]:
        return self._cut(eta, [part.n_statistics for part in self.families])

    def _of_features(self, values: Tensor) -> list[tuple[Family, Tensor]]:
        return [(part, own[0]) for part, own in self._of_standardised(values[None])]

    def _cut(self, rows: Rows, widths: list[int]) -> list[tuple[Family, Rows]]:
        ends = np.cumsum(widths)
        return [(part, rows[:, end - width : end]) for part, width, end in zip(self.families, widths, ends, strict=True)]


@dataclass(frozen=True, eq=False)
class ProductGiven(Given):
    """Parts that are independent given z, of which each is observed, or not, or in some of its columns.

    Attributes
    ----------
    whole : Product
    parts : tuple of Given or None, where a part has some columns of both kinds
    """

    whole: Product
    parts: tuple[Given | None, ...]

    def drawn(self, output: Tensor, X: Array, rng: np.random.Generator) -> Array:
        blocks = []
        for (part, own), given, cells in self._missing(output, X):
            drawn = part.restore(part.noise(own, rng).double().cpu().numpy()) if given is None else given.drawn(own, cells, rng)
            blocks.append(drawn)
        return self._in_order(blocks)

    def expected(self, output: Tensor, X: Array) -> Array:
        blocks = [
            part.expected_cells(own) if given is None else given.expected(own, cells)
            for (part, own), given, cells in self._missing(output, X)
        ]
        return np.concatenate(blocks, 1)

    def closed(self, cells: Array) -> Array:
        begin, blocks = 0, []
        for part, given, _ in self._parts():
            width = part.n_features if given is None else given.n_cells
            block = cells[:, begin : begin + width]
            blocks.append(part.closed(block) if given is None else given.closed(block))
            begin += width
        return self._in_order(blocks)

    def drawn_broad(self, X: Array, rng: np.random.Generator) -> Array:
        blocks = [
            _drawn_broad(part, len(X), rng) if given is None else given.drawn_broad(X[:, places], rng)
            for part, given, places in self._parts()
        ]
        return self._in_order(blocks)

    def expected_broad(self, X: Array) -> Array:
        blocks = [
            np.tile(_expected_broad(part), (len(X), 1)) if given is None else given.expected_broad(X[:, places])
            for part, given, places in self._parts()
        ]
        return np.concatenate(blocks, 1)

    def _parts(self) -> list[tuple[Family, Given | None, Columns]]:
        """The parts that have missing columns."""
        whole = zip(self.whole.families, self.parts, self.whole.columns, strict=True)
        return [(part, given, places) for part, given, places in whole if not self.observed[places].all()]

    def _missing(self, output: Tensor, X: Array) -> list[tuple[tuple[Family, Tensor], Given | None, Array]]:
        """The same with the parts' outputs and cells."""
        whole = zip(self.whole._of_output(output), self.parts, self.whole.columns, strict=True)
        return [(own, given, X[:, places]) for own, given, places in whole if not self.observed[places].all()]

    def _in_order(self, blocks: list[Array]) -> Array:
        """Missing cells (n, q) in the order of their columns, of those of each part."""
        places = np.concatenate([places[~self.observed[places]] for _, _, places in self._parts()])
        return np.concatenate(blocks, 1)[:, places.argsort()]


def _broad(part: Family, X: Array) -> Array:
    found = part.marginal(X) if isinstance(part, Discrete) else part.broad(X)
    assert found is not None, "numbers have broad noise where the whole has"
    return found


def _drawn_broad(part: Family, n_samples: int, rng: np.random.Generator) -> Array:
    """Rows (n_samples, d) of a part that are broad noise."""
    if isinstance(part, Discrete):
        return part.independent(n_samples, rng)
    assert part.background is not None, "numbers have broad noise where the whole has"
    assert part.row_map is not None, "and go through a map"
    return part.row_map.restored_columns(part.background.sample(n_samples, rng))


def _expected_broad(part: Family) -> Array:
    """The averages of their quantiles, (c,)."""
    if isinstance(part, Discrete):
        return part.marginal_cells()
    assert part.background is not None, "numbers have broad noise where the whole has"
    assert part.row_map is not None, "and go through a map"
    deviation = np.linalg.norm(part.background.factor, axis=1)
    return expected_tail(part.row_map, part.background.location[None], deviation, part.background.degrees)[0]


def _marginal(background: Background, observed: NDArray[np.bool_]) -> Background:
    """Broad noise of some of the numbers, or its share alone where none of them are."""
    if observed.any():
        return background.marginal(observed)
    return replace(background, location=np.empty(0), factor=np.empty((0, 0)))


@dataclass(frozen=True, eq=False)
class MixedLikelihood(Likelihood):
    r"""A likelihood for each group of columns, :math:`p(x \mid z) = \prod_b p_b(x_b \mid z)`.

    ``likelihood="auto"`` makes one for a data frame.

    Parameters
    ----------
    parts : sequence of Likelihood
    columns : sequence of sequences of int, places of the columns of each; together every column once

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae import CoupledVAE
    >>> from skcvae.likelihoods import CategoricalLikelihood, GaussianLikelihood, MixedLikelihood
    >>> rng = np.random.default_rng(0)
    >>> group = rng.integers(0, 2, 200)
    >>> X = np.column_stack([rng.normal(3 * group), rng.normal(-group), group])
    >>> likelihood = MixedLikelihood((GaussianLikelihood(), CategoricalLikelihood()), ((0, 1), (2,)))
    >>> model = CoupledVAE(1, likelihood=likelihood, max_iter=100, random_state=0).fit(X)
    >>> model.impute([[3.0, -1.0, np.nan], [0.0, 0.0, np.nan]])[:, 2].tolist()
    [1.0, 0.0]
    """

    parts: tuple[Likelihood, ...]
    columns: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        places = sorted(int(place) for group in self.columns for place in group)
        if len(self.parts) != len(self.columns) or not self.parts or places != list(range(len(places))):
            raise ValueError(
                f"columns must have each place from 0 to d - 1 once, in as many groups as there are parts ({len(self.parts)}), got "
                f"{self.columns!r}."
            )

    @property
    def is_cross_fitted(self) -> bool:  # type: ignore[override]
        """Whether its Gaussian part is."""
        return any(part.is_cross_fitted for part in self.parts)

    @property
    def mapped(self) -> MappedGaussian | None:
        return next((part for part in self.parts if isinstance(part, MappedGaussian)), None)

    @property
    def numbers(self) -> GaussianLikelihood | None:
        return next((part for part in self.parts if isinstance(part, GaussianLikelihood)), None)

    def number_columns(self, n_columns: int) -> Columns:
        places = zip(self.parts, self.columns, strict=True)
        found = [group for part, group in places if isinstance(part, GaussianLikelihood | MappedGaussian)]
        return np.array(found[0] if found else (), dtype=np.intp)

    def without_folds(self) -> MixedLikelihood:
        return self if self.numbers is None else self.with_numbers(self.numbers.without_folds())

    def with_numbers(self, noise: Likelihood) -> MixedLikelihood:
        return replace(self, parts=tuple(noise if isinstance(part, GaussianLikelihood) else part for part in self.parts))

    def log_marginal(self, X: Array, weights: Array | None, others: Array) -> Array:
        pairs = zip(self.parts, self.columns, strict=True)
        bound = [
            (part.bind(X[:, list(group)], weights), others[:, list(group)]) for part, group in pairs if part is not self.numbers
        ]
        return np.sum(
            [part.marginal(cells) for part, cells in bound if isinstance(part, Discrete)] or [np.zeros(len(others))], axis=0
        )

    def bind(self, X: Array, weights: Array | None = None) -> Product:
        if X.shape[1] != sum(map(len, self.columns)):
            raise ValueError(
                f"columns has {sum(map(len, self.columns))} places, and X has {X.shape[1]} columns. Give each column one."
            )
        is_discrete = [not isinstance(part, GaussianLikelihood | MappedGaussian) for part in self.parts]
        order = sorted(range(len(self.parts)), key=is_discrete.__getitem__)
        families = [self.parts[i].bind(X[:, list(self.columns[i])], weights) for i in order]
        for family in families:
            if not isinstance(family, Part):
                raise ValueError(
                    f"{type(family).__name__} cannot stand beside other likelihoods. Give another one for these columns."
                )
        background = families[0].background
        return Product(families, [np.array(self.columns[i]) for i in order], background)
