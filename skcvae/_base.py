"""The contract that the estimators share: what a fitted latent-variable model answers."""

from __future__ import annotations

import copy
import os
import warnings
from abc import abstractmethod
from collections.abc import Callable
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
from skcvae._fitting import FittedModel
from skcvae.likelihoods import Family
from skcvae.posteriors import Inference, Posterior
from skcvae.priors import CategoricalPrior, Prior

#: Keeps the inverse of a standard error of zero finite.
TINY = 1e-12
#: Below this median effective sample size the score is dominated by its bias.
FEWEST_EFFECTIVE_DRAWS = 10
NOISES = ("matched", "model", "mean")
SOURCES = ("prior", "aggregate")


class LatentVariableModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, FittedModel):
    """Base of the estimators: a decoder, a likelihood, a prior, and an inference that answers for rows of data."""

    prior_: Prior
    likelihood_: Family
    module_: nn.Module
    _temperature: float
    #: The precision that inference needs, at least.
    _coarsest: torch.dtype
    #: What a warning of few effective draws advises.
    _remedy: str

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _persistence.ESTIMATORS[cls.__name__] = cls

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one file that `skcvae.load` reads: weights and the pool, never the training data.

        Parameters
        ----------
        path : str or path
            A TypeError says where the model holds an object that is not of skcvae, such as your own torch module.
        """
        check_is_fitted(self)
        _persistence.save(self, path)

    @property
    @abstractmethod
    def _inference(self) -> Inference:
        """What answers for rows of data, as fitted; `in_precision` brings it to a precision and a device."""

    @abstractmethod
    def _sample_aggregate(self, n_samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draws of z from the aggregate posterior, (n_samples, k)."""

    def transform(self, X: ArrayLike) -> NDArray:
        r"""Posterior means, :math:`E[z \mid x]`.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        array of shape (n, n_components), in the precision of X
        """
        inference = self._inference_for(X := self._checked(X))
        return self._rowwise(X, inference.mean)

    def inverse_transform(self, Z: ArrayLike) -> NDArray:
        r"""Decoder means, :math:`E[x \mid z]`.

        Parameters
        ----------
        Z : array-like of shape (n, n_components)

        Returns
        -------
        array of shape (n, d), in the precision of Z
        """
        check_is_fitted(self)
        return _memory.in_blocks(check.check_latent(Z, self.prior_.n_components), self._decoded_mean)

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
        inference = self._inference_for(X := self._checked(X))
        return self._restored(self._rowwise(X, inference.reconstruction))

    def posterior(self, X: ArrayLike) -> Posterior:
        """Moments, effective sample size and log normaliser of each row's posterior; weights and draws on request.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        skcvae.posteriors.Posterior
        """
        inference = self._inference_for(X := self._checked(X))
        with _memory.enough_memory("Give fewer rows at a time, or use transform, which gives means only."):
            return posteriors.posterior(inference, self._standardised(X))

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
        inference = self._inference_for(X := self._checked(X))
        rng = _random.draws_rng(n_samples, random_state, (len(X), n_samples, self.prior_.n_components), X.dtype)
        return self._rowwise(X, lambda x: inference.resample(x, n_samples, rng))

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
              is the density of.
            - "model": the likelihood as it is, :math:`N(\mu(z), \sigma^2)`.
            - "mean": the decoder's mean.

            For Bernoulli data and a learned scale the first two agree.
        source : {"prior", "aggregate"}, default="prior"
            - "prior": z from p(z); what `score_samples` is the density of.
            - "aggregate": z from the aggregate posterior, :math:`q(z) = p(z) w(z)`, by resampling the pool. Where the model
              holds it to the prior the two agree.
        random_state : None, int, numpy Generator or RandomState

        Returns
        -------
        array of shape (n_samples, d), float64
        """
        check_is_fitted(self)
        for name, value, names in (("noise", noise, NOISES), ("source", source, SOURCES)):
            check.choose(name, value, dict.fromkeys(names))
        rng = _random.draws_rng(n_samples, random_state, (n_samples, self.n_features_in_))
        z = self.prior_.sample(n_samples, rng) if source == "prior" else self._sample_aggregate(n_samples, rng)
        return _memory.in_blocks(z, lambda block: self._decoded(block, noise, rng))

    def score_samples(self, X: ArrayLike, *, return_std: bool = False) -> NDArray | tuple[NDArray, NDArray]:
        r"""Log-likelihood of each row under the distribution that `sample` draws from.

        .. math:: \log \sum_j b_j\, p_{\mathrm{matched}}(x \mid z_j)

        over the cached pool, or by draws from the row's own proposal where the model has them and they do better. The estimate is
        biased low where few draws carry the weight; a warning says so when the median effective sample size is below 10.

        Parameters
        ----------
        X : array-like of shape (n, d)
        return_std : bool, default=False
            Return the estimate's standard error as well.

        Returns
        -------
        log_likelihood : array of shape (n,), in nats, in the precision of X
        standard_error : array of shape (n,), in nats; only if `return_std`; 0 over atoms, whose sum has all terms
        """
        inference, log_volume = self._inference_for(X := self._checked(X)), self.likelihood_.log_volume

        def estimate(x: Tensor) -> Tensor:
            log_density, error = inference.log_density(x)
            return torch.stack([log_density - log_volume, error], 1)

        log_density, error = (np.ascontiguousarray(column) for column in self._rowwise(X, estimate).T)
        if isinstance(self.prior_, CategoricalPrior):
            error[:] = 0  # the sum is over all atoms
        self._warn_of_few_draws("log-likelihood", float(np.median(error) + TINY) ** -2, "the score is biased low")
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
        return self.prior_.n_components

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _checked(self, X: ArrayLike) -> NDArray:
        check_is_fitted(self)
        self.likelihood_.check_support(checked := check.check_X(self, X))
        return checked

    def _like(self, X: NDArray) -> Tensor:
        """An empty tensor where inference runs, in the precision of X or in double where the scores need it."""
        dtype = self._coarsest if X.dtype == np.float32 else torch.float64
        return torch.empty(0, dtype=dtype, device=_place.make_device(getattr(self, "device", "cpu")))

    def _inference_for(self, X: NDArray) -> Inference:
        return posteriors.in_precision(self._inference, self._like(X))

    def _standardised(self, X: NDArray) -> Tensor:
        return torch.as_tensor(self.likelihood_.standardise(X)).to(self._like(X))

    def _restored(self, x: NDArray) -> NDArray:
        return self.likelihood_.restore(x).astype(x.dtype, copy=False)

    @torch.no_grad()
    def _rowwise(self, X: NDArray, function: Callable[[Tensor], Tensor]) -> NDArray:
        """A function of standardised rows, block by block."""
        return _memory.in_blocks(X, lambda rows: function(self._standardised(rows)).cpu().numpy())

    @torch.no_grad()
    def _output(self, Z: NDArray) -> Tensor:
        like = self._like(Z)
        return copy.deepcopy(self.module_).to(like)(torch.as_tensor(np.array(Z)).to(like))

    def _decoded_mean(self, Z: NDArray) -> NDArray:
        return self._restored(self.likelihood_.mean(self._output(Z)).cpu().numpy())

    def _decoded(self, Z: NDArray, noise: str, rng: np.random.Generator) -> NDArray:
        if noise == "mean":
            return self._decoded_mean(Z)
        family = self.likelihood_.tempered(self._temperature) if noise == "matched" else self.likelihood_
        return self._restored(family.noise(self._output(Z), rng).detach().cpu().numpy())

    def _warn_of_few_draws(self, what: str, size: float, consequence: str) -> None:
        """Warn with the remedy where a median effective sample size is too small; over atoms it is what it is."""
        if size < FEWEST_EFFECTIVE_DRAWS and not isinstance(self.prior_, CategoricalPrior):
            text = f"The median effective sample size of the {what} is {size:.1f}, so {consequence}. {self._remedy}"
            warnings.warn(text, UserWarning, stacklevel=3)
