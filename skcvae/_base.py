"""The contract that the estimators share: what a fitted latent-variable model answers."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skcvae import _checks as check
from skcvae import _memory, _persistence, _place, _random, posteriors
from skcvae._context import computing
from skcvae._data import some
from skcvae._fitted import Evidence, Fit, Placed
from skcvae._fitting import FittedModel
from skcvae._place import Place, as_array
from skcvae.likelihoods import Family
from skcvae.posteriors import Inference, Partial, Posterior
from skcvae.priors import Prior

#: Keeps the inverse of a standard error of zero finite.
TINY = 1e-12
#: Completions of a row with missing cells that its posterior is averaged over.
N_COMPLETIONS = 32
#: New rows that are asked at once whether a condition holds, at least and at most; and those for which it must hold among the most.
FEWEST_TRIED, MOST_TRIED, FEWEST_KEPT = 1000, 100_000, 10
#: Below this median effective sample size the score is dominated by its bias.
FEWEST_EFFECTIVE_DRAWS = 10
#: Rows whose effective sample size is looked at where answers are posteriors.
ROWS_CHECKED = 256
NOISES = ("matched", "model", "mean")
SOURCES = ("prior", "aggregate")
#: What is told of a posterior of many rows that does not fit into memory.
FEWER_ROWS = "Give fewer rows at a time, or use transform, which gives means only."


class LatentVariableModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, FittedModel):
    """Base of the estimators: all that they answer is asked of the record of their fit, where it computes."""

    @property
    def prior_(self) -> Prior:
        """The prior."""
        return self._record.prior

    @property
    def likelihood_(self) -> Family:
        """The likelihood, bound to the units of the data."""
        return self._record.family

    @property
    def noise_(self) -> str:
        """What the noise is and where it comes from, in one line."""
        return self._record.family.note

    @property
    def n_components_(self) -> int:
        """The number of components."""
        return self._record.prior.n_components

    @property
    def evidence_(self) -> Evidence | None:
        """What rows that were not fitted say of numbers of components, with ``n_components="auto"``; None elsewhere."""
        return self._record.evidence

    @property
    def module_(self) -> nn.Module:
        """The decoder, on the CPU."""
        return self._record.decoder

    @property
    def loss_curve_(self) -> list[float]:
        """The loss of each training step, in nats."""
        return self._record.losses.numbers()

    @property
    def n_iter_(self) -> int:
        """Training steps made."""
        return len(self._record.losses)

    @property
    def validation_scores_(self) -> list[float] | None:
        """Scores of the rows that were not fitted, in nats, or None where there were none."""
        scores = self._record.validation_scores
        return None if scores is None else list(scores)

    @property
    def converged_(self) -> bool:
        """Whether the fit ended by itself."""
        return self._record.converged

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one file that `skcvae.load` reads: weights and the pool, never the training data.

        Parameters
        ----------
        path : str or path
            A TypeError says where the model holds an object that is not of skcvae, such as your own torch module.

        A `random_state` that is a generator and `checkpoint` are None in the loaded model. What `set_output` chose is kept;
        callbacks and metadata requests are not.
        """
        check_is_fitted(self)
        _persistence.save(self, path)

    def transform(self, X: ArrayLike) -> NDArray:
        r"""Posterior means, :math:`E[z \mid x]`; of a row with missing cells, averaged over draws of these given the others.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        array of shape (n, n_components), in the precision of X
        """
        rows = self._checked(X)
        with self._answering(rows.dtype) as model:
            self._warn_of_posteriors(rows, model)

            def means(block: NDArray) -> NDArray:
                return as_array(model.inference.mean(model.standardised(block)))

            return _memory.in_blocks(rows, self._averaging(rows, means))

    def inverse_transform(self, Z: ArrayLike) -> NDArray:
        r"""Decoder means, :math:`E[x \mid z]`.

        Parameters
        ----------
        Z : array-like of shape (n, n_components)

        Returns
        -------
        array of shape (n, d), in the precision of Z, or a frame as the fit had; of a category the most probable one
        """
        points = self._checked_latent(Z)
        with self._answering(points.dtype) as model:
            return self._framed(_memory.in_blocks(points, model.mean))

    def reconstruct(self, X: ArrayLike) -> NDArray:
        r"""Posterior mean of the decoder's mean, :math:`E_{q(z \mid x)}[\mu(z)]`.

        This is not ``inverse_transform(transform(X))``: where a posterior has several modes its mean lies between them, and the
        decoder at that point may belong to quite other data.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        array of shape (n, d), in the precision of X, or a frame as the fit had; of a category the most probable one
        """
        rows = self._checked(X)
        with self._answering(rows.dtype) as model:
            self._warn_of_posteriors(rows, model)

            def means(block: NDArray) -> NDArray:
                return model.restored(model.inference.reconstruction(model.standardised(block)))

            return self._framed(_memory.in_blocks(rows, self._averaging(rows, means)), X)

    def posterior(self, X: ArrayLike) -> Posterior:
        """Moments, effective sample size and log normaliser of each row's posterior; weights and draws on request.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        skcvae.posteriors.Posterior
        """
        rows = self._checked(X, allow_missing=False)
        with _memory.enough_memory(FEWER_ROWS), self._answering(rows.dtype) as model:
            self._warn_of_posteriors(rows, model)
            return posteriors.posterior(model.inference, model.standardised(rows))

    def sample_posterior(self, X: ArrayLike, n_samples: int = 1, *, random_state: Any = None) -> NDArray:
        """Draws from each row's posterior: weighted draws of the prior, resampled, or fresh draws of the encoder.

        Parameters
        ----------
        X : array-like of shape (n, d)
        n_samples : int, default=1
        random_state : None, int, numpy Generator or RandomState

        Returns
        -------
        array of shape (n, n_samples, n_components), in the precision of X
        """
        rows, record = self._checked(X), self._record
        shape = (len(rows), n_samples, record.prior.n_components)
        rng = _random.draws_rng(n_samples, random_state, shape, _memory.result_dtype(rows))
        with self._answering(rows.dtype) as model:
            self._warn_of_posteriors(rows, model)

            def draws(block: NDArray, n_draws: int = n_samples) -> NDArray:
                return as_array(model.inference.resample(model.standardised(block), n_draws, rng))

            def one_each(completed: NDArray) -> NDArray:
                return draws(completed.reshape(-1, completed.shape[2]), 1).reshape(len(completed), n_samples, -1)

            return _memory.in_blocks(rows, self._completing(rows, draws, one_each, n_samples, rng))

    def sample(
        self,
        n_samples: int = 1,
        *,
        noise: Literal["matched", "model", "mean"] = "matched",
        source: Literal["prior", "aggregate"] = "prior",
        random_state: Any = None,
    ) -> NDArray[np.float64]:
        r"""New data: z from the prior or the aggregate posterior, then x from the decoder.

        Parameters
        ----------
        n_samples : int, default=1
        noise : {"matched", "model", "mean"}, default="matched"
            - "matched": the decoder's mean with the plan's dispersion, :math:`N(\mu(z), \epsilon \sigma^2)`; what `score_samples`
              is the density of. Of a table a share of the rows is broad noise instead, as `noise_` says.
            - "model": the likelihood as it is, :math:`N(\mu(z), \sigma^2)`, without broad noise.
            - "mean": the decoder's mean.

            For Bernoulli data and a learned scale the first two agree, and of a table but for broad noise at ``epsilon=1``.
        source : {"prior", "aggregate"}, default="prior"
            - "prior": z from p(z); what `score_samples` is the density of.
            - "aggregate": z from the aggregate posterior, :math:`q(z) = p(z) w(z)`, by resampling the pool. Where the model
              holds it to the prior the two agree.
        random_state : None, int, numpy Generator or RandomState

        Returns
        -------
        array of shape (n_samples, d), float64, or a frame with the columns and types of the fit
        """
        record = self._record
        for name, value, names in (("noise", noise, NOISES), ("source", source, SOURCES)):
            check.choose(name, value, dict.fromkeys(names))
        rng = _random.draws_rng(n_samples, random_state, (n_samples, record.family.n_columns))
        return self._framed(self._sampled(n_samples, noise, source, rng))

    def _sampled(self, n_samples: int, noise: str, source: str, rng: np.random.Generator) -> NDArray:
        """Rows of numbers (n_samples, d')."""
        record = self._record
        with computing(with_gradients=False):
            z = record.prior.sample(n_samples, rng) if source == "prior" else record.sample_aggregate(n_samples, rng)
        with self._answering(z.dtype) as model:
            return _memory.in_blocks(z, lambda block: model.sample(block, noise, rng))

    def score_samples(
        self, X: ArrayLike, *, return_std: bool = False, n_draws: int = posteriors.LOCAL_DRAWS
    ) -> NDArray | tuple[NDArray, NDArray]:
        r"""Log-likelihood of each row under the distribution that `sample` draws from.

        .. math:: \log \sum_j b_j\, p_{\mathrm{matched}}(x \mid z_j)

        over the cached pool, or by draws from the row's own proposal, mixed with the prior's, where the pool's error is above 0.05
        nats and these do better. The estimate is biased low where few draws carry the weight; a warning says so when the median
        effective sample size is below 10. A row whose weights have a Pareto k-hat above 0.7 has an infinite error: its draws do
        not say how far the estimate is off. Of a row with missing cells it is the density of those that are observed, and 0 where
        there are none.

        Parameters
        ----------
        X : array-like of shape (n, d)
        return_std : bool, default=False
            Return the estimate's standard error as well.
        n_draws : int, default=256
            Draws of a row's own proposal. 0 takes the pool's draws alone, which is the fastest.

        Returns
        -------
        log_likelihood : array of shape (n,), in nats, in the precision of X
        standard_error : array of shape (n,), in nats; only if `return_std`; 0 over atoms, whose sum has all terms
        """
        rows, n = self._checked(X), check.check_number("n_draws", n_draws, numbers.Integral, 0)
        with self._answering(rows.dtype) as model:
            log_density, error = self._scored(rows, model, model.inference.density(n), n, return_std)
        return (log_density, error) if return_std else log_density

    def _scored(self, rows: NDArray, model: Placed, density: Any, n_draws: int, return_std: bool) -> tuple[NDArray, NDArray]:
        """Log-likelihood of checked rows (n, d) and its error, both (n,), with that of whole rows by a density at a place."""
        record = self._record
        has_tails = return_std and not record.prior.is_atomic

        def whole(block: NDArray) -> NDArray:
            return _estimated(density, record.family, block, model.standardised(block), has_tails)

        def of_observed(observed: NDArray[np.bool_], block: NDArray) -> NDArray:
            if not observed.any():  # nothing is known, so that all scores are that of the empty set
                return np.zeros((len(block), 3 if has_tails else 2))
            part, cells = self._partial.conditioned(observed), block[:, observed].astype(np.float64)
            return _estimated(part.density.with_draws(n_draws), part.given.family, cells, part.standardised(block), has_tails)

        def estimate(block: NDArray) -> NDArray:
            if not np.isnan(block).any():
                return whole(block)
            parts = [
                (places, whole(block[places]) if observed.all() else of_observed(observed, block[places]))
                for observed, places in posteriors.patterns(block)
            ]
            order = np.concatenate([places for places, _ in parts]).argsort()
            return np.concatenate([found for _, found in parts])[order].astype(_memory.result_dtype(block))

        log_density, error, *tail = (np.ascontiguousarray(column) for column in _memory.in_blocks(rows, estimate).T)
        if record.prior.is_atomic:
            error[:] = 0  # the sum is over all atoms
        size = float(np.median(error) + TINY) ** -2
        warn_of_few_draws(record, "log-likelihood", size, "the score is biased low", of_density=True)
        if has_tails:
            error[tail[0] > posteriors.LARGEST_TAIL] = np.inf
        return log_density, error

    def score_conditional(
        self, X: ArrayLike, target: Any, *, return_std: bool = False, n_draws: int = posteriors.LOCAL_DRAWS
    ) -> NDArray | tuple[NDArray, NDArray]:
        r"""Log-likelihood of some columns given the others, :math:`\log p(x_t, x_o) - \log p(x_o)`, for each row.

        Cells of other columns that are missing are averaged over; where a target is missing itself it is not counted.

        Parameters
        ----------
        X : array-like of shape (n, d)
        target : str, int, or sequence of them or of d bool
            The columns whose cells are scored, by their names or places.
        return_std, n_draws : as in `score_samples`

        Returns
        -------
        log_likelihood : array of shape (n,), in nats, in the precision of X
        standard_error : array of shape (n,), in nats; only if `return_std`

        Examples
        --------
        >>> import numpy as np
        >>> from skcvae import CoupledVAE
        >>> z = np.random.default_rng(0).normal(size=(200, 1))
        >>> X = np.hstack([z, z, z, z]) + 0.1 * np.random.default_rng(1).normal(size=(200, 4))
        >>> model = CoupledVAE(1, likelihood="gaussian", max_iter=50, random_state=0).fit(X)
        >>> known = model.score_conditional([[1.0, 1.0, 1.0, 1.0], [-1.0, 1.0, 1.0, 1.0]], target=0)
        >>> bool(known[0] > known[1])
        True
        """
        rows, n = self._checked(X), check.check_number("n_draws", n_draws, numbers.Integral, 0)
        names = getattr(self, "feature_names_in_", None)
        given = _memory.as_floats(np.array(rows))
        chosen = check.check_columns("target", target, self.n_features_in_, names)
        given[:, chosen if self._mixed_columns is None else chosen[self._mixed_columns.places]] = np.nan
        with self._answering(np.dtype(np.float64)) as model:
            density = self._partial.whole.with_draws(n)  # by the draws that answer for the others alone
            both, both_error = self._scored(rows, model, density, n, return_std)
            observed, observed_error = self._scored(given, model, density, n, return_std)
        difference = both - observed
        return (difference, np.hypot(both_error, observed_error)) if return_std else difference

    def impute(self, X: ArrayLike) -> NDArray[np.float64]:
        r"""X with its missing cells put to their means given the cells that are observed, :math:`E[x_m \mid x_o]`.

        A category is put to the most probable one. The means are of the distribution that `sample` draws from, in the units of the
        data, and by draws of z from :math:`p(z \mid x_o)`, the same for the same X. Where a row has nothing observed they are those
        of all samples.

        Parameters
        ----------
        X : array-like of shape (n, d)
            NaN, None or pandas' NA where a cell is missing. After a fit to a frame also a frame with some of its columns.

        Returns
        -------
        array of shape (n, d), float64, or a frame as the fit had; observed cells as they were

        Examples
        --------
        >>> import numpy as np
        >>> from skcvae import CoupledVAE
        >>> z = np.random.default_rng(0).normal(size=(200, 1))
        >>> X = np.hstack([z, z, z, z]) + 0.1 * np.random.default_rng(1).normal(size=(200, 4))
        >>> model = CoupledVAE(1, likelihood="gaussian", max_iter=50, random_state=0).fit(X)
        >>> bool(abs(model.impute([[1.0, np.nan, 1.0, 1.0]])[0, 1] - 1) < 0.2)
        True
        """
        X = self._aligned(X)
        rows, rng, columns = self._checked(X), np.random.default_rng(0), vars(self).get("columns_")
        with self._answering(np.dtype(np.float64)):

            def filled(block: NDArray) -> NDArray:
                given = np.ascontiguousarray(block, dtype=np.float64)
                means = self._partial.expected(given, rng)
                if columns is None or not columns.has_open_hurdle(given):
                    return means
                return columns.with_hurdle_means(given, means, self._partial.completed(given, posteriors.DRAWS_OF_MEAN, rng))

            means = _memory.in_blocks(rows, filled, np.float64)
        return means if columns is None else columns.filled(X, means)

    def sample_conditional(self, X: ArrayLike, n_samples: int = 1, *, random_state: Any = None) -> NDArray[np.float64]:
        r"""Draws of the missing cells of each row given those that are observed, by the law of `sample`.

        .. math:: z \sim p(z \mid x_o) \propto p(z)\, p(x_o \mid z), \qquad x_m \sim p(x_m \mid x_o, z)

        with matched noise. z is drawn from the pool or, where few of its draws carry the weight, from the row's own.

        Parameters
        ----------
        X : array-like of shape (n, d)
            NaN, None or pandas' NA where a cell is missing. A row with nothing observed is a new sample. After a fit to a frame, a
            frame with some of its columns.
        n_samples : int, default=1
        random_state : None, int, numpy Generator or RandomState

        Returns
        -------
        array of shape (n, n_samples, d), float64; observed cells are repeated. After a fit to a frame it is one of n n_samples
        rows, the draws of each row of X one after the other, in the types of the fit: integers are rounded.

        Examples
        --------
        >>> import numpy as np
        >>> from skcvae import CoupledVAE
        >>> X = np.random.default_rng(0).normal(size=(200, 4))
        >>> model = CoupledVAE(likelihood="gaussian", max_iter=50, random_state=0).fit(X)
        >>> model.sample_conditional([[0.5, np.nan, np.nan, 1.0]], n_samples=10, random_state=0).shape
        (1, 10, 4)
        """
        X = self._aligned(X)
        rows = self._checked(X)
        rng = _random.draws_rng(n_samples, random_state, (len(rows), n_samples, rows.shape[1]))
        with self._answering(np.dtype(np.float64)):
            drawn = _memory.in_blocks(
                rows,
                lambda block: self._partial.completed(np.ascontiguousarray(block, dtype=np.float64), n_samples, rng),
                np.float64,
            )
        return self._framed(drawn, X)

    def sample_where(
        self, condition: Callable[[Any], ArrayLike], n_samples: int = 1, *, return_share: bool = False, random_state: Any = None
    ) -> Any:
        """New rows for which a condition holds: rows of `sample`, of which those are kept.

        Parameters
        ----------
        condition : callable
            Of rows as `sample` gives them, m of them: which are kept, (m,), bool.
        n_samples : int, default=1
        return_share : bool, default=False
            Return the share of rows that were kept as well.
        random_state : None, int, numpy Generator or RandomState

        Returns
        -------
        rows : array of shape (n_samples, d) or a frame, as `sample` gives them
        share : float; only if `return_share`

        Raises
        ------
        ValueError
            Where a hundred thousand rows have not ten for which the condition holds: give the cells that are known to
            `sample_conditional`.

        Examples
        --------
        >>> import numpy as np
        >>> from skcvae import CoupledVAE
        >>> X = np.random.default_rng(0).normal(size=(200, 4))
        >>> model = CoupledVAE(likelihood="gaussian", max_iter=50, random_state=0).fit(X)
        >>> rows = model.sample_where(lambda rows: rows[:, 0] > 1, 20, random_state=0)
        >>> rows.shape, bool(rows[:, 0].min() > 1)
        ((20, 4), True)
        """
        rng = _random.draws_rng(n_samples, random_state, (n_samples, self._record.family.n_columns))
        if not callable(condition):
            raise TypeError(
                f"condition must be a function of rows, got {check.shown(condition)}. Give lambda rows: rows[...] > ..."
            )
        kept: list[NDArray] = []
        n_kept = n_drawn = 0
        while n_kept < n_samples:
            n_wanted = (n_samples - n_kept) * max(2, n_drawn // max(1, n_kept))
            rows = self._sampled(min(MOST_TRIED, max(FEWEST_TRIED, n_wanted)), "matched", "prior", rng)
            is_kept = check.check_condition(condition(self._framed(rows)), len(rows))
            kept.append(rows[is_kept])
            n_kept, n_drawn = n_kept + int(is_kept.sum()), n_drawn + len(rows)
            if n_drawn >= MOST_TRIED and n_kept < FEWEST_KEPT:
                raise ValueError(
                    f"The condition holds for {n_kept} of {n_drawn} new rows. Give the cells that are known to sample_conditional, "
                    "or a condition that holds more often."
                )
        found = self._framed(np.concatenate(kept)[:n_samples])
        return (found, n_kept / n_drawn) if return_share else found

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Mean of `score_samples` over the rows of X, in nats.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : ignored

        Returns
        -------
        float
        """
        return float(np.mean(self.score_samples(X)))

    @property
    def _n_features_out(self) -> int:
        return self._record.prior.n_components

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = True
        return tags

    def _checked(self, X: ArrayLike, allow_missing: bool = True) -> NDArray:
        """Rows (n, d) as the fit had them, with NaN where cells are missing."""
        check_is_fitted(self)
        rows = self._rows(X, allow_missing=allow_missing)
        self._record.family.check_support(rows)
        return rows

    def _aligned(self, X: Any) -> Any:
        """A frame with some of the columns of the fit, in any order, as one with all of them."""
        check_is_fitted(self)
        columns = vars(self).get("columns_")
        return X if columns is None else columns.aligned(X)

    def _framed(self, rows: NDArray, X: Any = None) -> Any:
        """Rows (n, d'), or draws of them (n, s, d'), as the fit had them: a frame, with the index of X, or the array itself."""
        columns = vars(self).get("columns_")
        if columns is None:
            return rows
        index = getattr(X, "index", None) if columns.backend == "pandas" and hasattr(X, "iloc") else None
        if rows.ndim == 3:
            index = None if index is None else index.repeat(rows.shape[1])
            rows = rows.reshape(-1, rows.shape[2])
        return columns.decoded(rows, index)

    @property
    def _partial(self) -> Partial:
        """What answers for rows with missing cells, where this model computes."""
        found = self._record.at(Place(torch.float64, _place.make_device(self.device))).partial
        assert found is not None, "in double precision there is one"
        return found

    def _completing(
        self,
        rows: NDArray,
        whole: Callable[[NDArray], NDArray],
        partial: Callable[[NDArray], NDArray],
        n_completions: int,
        rng: np.random.Generator,
    ) -> Callable[[NDArray], NDArray]:
        """What answers for blocks of rows (n, d): of whole ones, and of completions (l, n_completions, d) of those with holes."""
        if not check.has_missing(rows):
            return whole

        def answer(block: NDArray) -> NDArray:
            is_partial = np.isnan(block).any(1)
            if not is_partial.any():
                return whole(block)
            places = np.flatnonzero(is_partial)
            n_parts = min(len(places), math.ceil(len(places) * n_completions * block.shape[1] / _memory.NUMBERS_AT_ONCE))
            found = []
            for part in np.array_split(places, n_parts):
                completed = self._partial.completed(np.ascontiguousarray(block[part], dtype=np.float64), n_completions, rng)
                found.append(partial(completed.astype(block.dtype)))
            result = np.empty((len(block), *found[0].shape[1:]), found[0].dtype)
            result[places] = np.concatenate(found)
            if not is_partial.all():
                result[~is_partial] = whole(block[~is_partial])
            return result

        return answer

    def _averaging(self, rows: NDArray, whole: Callable[[NDArray], NDArray]) -> Callable[[NDArray], NDArray]:
        """The same with answers (n, r) averaged over completions."""

        def mean(completed: NDArray) -> NDArray:
            flat = whole(completed.reshape(-1, completed.shape[2]))
            return flat.reshape(len(completed), N_COMPLETIONS, -1).mean(1)

        return self._completing(rows, whole, mean, N_COMPLETIONS, np.random.default_rng(0))

    def _checked_latent(self, Z: ArrayLike) -> NDArray:
        check_is_fitted(self)
        return check.check_latent(Z, self._record.prior.n_components)

    def _warn_of_posteriors(self, rows: NDArray, model: Placed) -> None:
        """Warn where some of the rows say that their posteriors are of few draws."""
        index = some(len(rows), ROWS_CHECKED, np.random.default_rng(0))
        asked = _memory.as_floats(rows if index is None else rows[index.numpy()])
        asked = asked[~np.isnan(asked).any(1)]
        if len(asked) == 0:
            return
        warn_of_coarse_posteriors(self._record, model.inference, model.standardised(asked), "rows' posteriors")

    @contextmanager
    def _answering(self, dtype: np.dtype) -> Iterator[Placed]:
        """The record where its answers are computed, in the precision of rows of a type or a finer one that the scores need."""
        record = self._record
        with computing(with_gradients=False):
            yield record.at(Place(record.precision(dtype), _place.make_device(self.device)))


def _estimated(density: Any, family: Family, X: NDArray, x: Tensor, has_tails: bool) -> NDArray:
    """Log-likelihood of rows (n, d) that are x in the family's units, its error, and k-hat if asked, as columns."""
    log_density, error, *tail = density.log_density_with_tail(x) if has_tails else density.log_density(x)
    parts = family.in_units(X, as_array(log_density.double()), as_array(error.double()))
    return np.stack([*parts, *map(as_array, tail)], 1).astype(as_array(log_density).dtype)


def warn_of_few_draws(record: Fit, what: str, size: float, consequence: str, of_density: bool = False) -> None:
    """Warn with the remedy where a median effective sample size is too small; over atoms it is what it is."""
    if size < FEWEST_EFFECTIVE_DRAWS and not record.prior.is_atomic:
        remedy = record.remedy(of_density)
        check.warn(f"The median effective sample size of the {what} is {size:.1f}, so {consequence}. {remedy}")


def warn_of_coarse_posteriors(record: Fit, inference: Inference, x: Tensor, what: str) -> None:
    """The same of the posteriors of standardised rows, where these are weighted draws."""
    if inference.is_weighted and not record.prior.is_atomic:
        size = float(inference.effective_size(x).median())
        warn_of_few_draws(record, what, size, "what is drawn from them is coarse")
