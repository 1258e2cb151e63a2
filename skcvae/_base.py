"""The contract that the estimators share: what a fitted latent-variable model answers."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
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
from skcvae.posteriors import Inference, Posterior
from skcvae.priors import Prior

#: Keeps the inverse of a standard error of zero finite.
TINY = 1e-12
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
        r"""Posterior means, :math:`E[z \mid x]`.

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
            return _memory.in_blocks(rows, lambda block: as_array(model.inference.mean(model.standardised(block))))

    def inverse_transform(self, Z: ArrayLike) -> NDArray:
        r"""Decoder means, :math:`E[x \mid z]`.

        Parameters
        ----------
        Z : array-like of shape (n, n_components)

        Returns
        -------
        array of shape (n, d), in the precision of Z
        """
        points = self._checked_latent(Z)
        with self._answering(points.dtype) as model:
            return _memory.in_blocks(points, model.mean)

    def reconstruct(self, X: ArrayLike) -> NDArray:
        r"""Posterior mean of the decoder's mean, :math:`E_{q(z \mid x)}[\mu(z)]`.

        This is not ``inverse_transform(transform(X))``: where a posterior has several modes its mean lies between them, and the
        decoder at that point may belong to quite other data.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        array of shape (n, d), in the precision of X
        """
        rows = self._checked(X)
        with self._answering(rows.dtype) as model:
            self._warn_of_posteriors(rows, model)
            return _memory.in_blocks(rows, lambda block: model.restored(model.inference.reconstruction(model.standardised(block))))

    def posterior(self, X: ArrayLike) -> Posterior:
        """Moments, effective sample size and log normaliser of each row's posterior; weights and draws on request.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        skcvae.posteriors.Posterior
        """
        rows = self._checked(X)
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
        rows = self._checked(X)
        shape = (len(rows), n_samples, self._record.prior.n_components)
        rng = _random.draws_rng(n_samples, random_state, shape, _memory.result_dtype(rows))
        with self._answering(rows.dtype) as model:
            self._warn_of_posteriors(rows, model)
            return _memory.in_blocks(
                rows, lambda block: as_array(model.inference.resample(model.standardised(block), n_samples, rng))
            )

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
        array of shape (n_samples, d), float64
        """
        record = self._record
        for name, value, names in (("noise", noise, NOISES), ("source", source, SOURCES)):
            check.choose(name, value, dict.fromkeys(names))
        rng = _random.draws_rng(n_samples, random_state, (n_samples, record.family.n_features))
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
        not say how far the estimate is off.

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
        rows, record = self._checked(X), self._record
        check.check_number("n_draws", n_draws, numbers.Integral, 0)
        has_tails = return_std and not record.prior.is_atomic
        with self._answering(rows.dtype) as model:

            def estimate(block: NDArray) -> NDArray:
                x = model.standardised(block)
                density = model.inference.density(int(n_draws))
                log_density, error, *tail = density.log_density_with_tail(x) if has_tails else density.log_density(x)
                parts = record.family.in_units(block, as_array(log_density.double()), as_array(error.double()))
                return np.stack([*parts, *map(as_array, tail)], 1).astype(as_array(log_density).dtype)

            log_density, error, *tail = (np.ascontiguousarray(column) for column in _memory.in_blocks(rows, estimate).T)
        if record.prior.is_atomic:
            error[:] = 0  # the sum is over all atoms
        size = float(np.median(error) + TINY) ** -2
        warn_of_few_draws(record, "log-likelihood", size, "the score is biased low", of_density=True)
        if has_tails:
            error[tail[0] > posteriors.LARGEST_TAIL] = np.inf
        return (log_density, error) if return_std else log_density

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
        return tags

    def _checked(self, X: ArrayLike) -> NDArray:
        check_is_fitted(self)
        rows = check.check_X(self, X)
        self._record.family.check_support(rows)
        return rows

    def _checked_latent(self, Z: ArrayLike) -> NDArray:
        check_is_fitted(self)
        return check.check_latent(Z, self._record.prior.n_components)

    def _warn_of_posteriors(self, rows: NDArray, model: Placed) -> None:
        """Warn where some of the rows say that their posteriors are of few draws."""
        index = some(len(rows), ROWS_CHECKED, np.random.default_rng(0))
        asked = rows if index is None else rows[index.numpy()]
        warn_of_coarse_posteriors(self._record, model.inference, model.standardised(_memory.as_floats(asked)), "rows' posteriors")

    @contextmanager
    def _answering(self, dtype: np.dtype) -> Iterator[Placed]:
        """The record where its answers are computed, in the precision of rows of a type or a finer one that the scores need."""
        record = self._record
        with computing(with_gradients=False):
            yield record.at(Place(record.precision(dtype), _place.make_device(self.device)))


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
