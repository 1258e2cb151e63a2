"""What the estimators share while they are fitted."""

from __future__ import annotations

import copy
import functools
import numbers
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from torch import nn

from skcvae import _checks as check
from skcvae import _memory, _place
from skcvae._callbacks import CallbackSupportMixin, Watch, with_callbacks
from skcvae._checkpoint import Checkpoint, check_path, fingerprint
from skcvae._data import MOST_ASKED, Data, some
from skcvae._training import Course, Diverged, Root
from skcvae.likelihoods import LIKELIHOODS, Family, Likelihood
from skcvae.networks import Decoder, Network, as_network, fewest_rows
from skcvae.priors import Prior

#: What a fit without memory is told.
LOWER = "Lower batch_size, pool_size, hidden_layer_sizes or n_components. Nothing was changed by this fit."


class FittedModel(CallbackSupportMixin, BaseEstimator, ABC):
    """Base of the estimators: shared parameters, and a fit that can be watched, stopped and resumed."""

    likelihood_: Family
    _likelihood_kind: str

    def __init__(
        self,
        n_components: int = 2,
        *,
        prior: Any = "gaussian",
        likelihood: str | Likelihood = "gaussian",
        network: Any = "mlp",
        hidden_layer_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        pool_size: int = 4096,
        batch_size: int = 256,
        learning_rate_init: float = 1e-3,
        max_iter: int = 2000,
        tol: float = 1e-2,
        n_iter_no_change: int = 10,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        warm_start: bool = False,
    ) -> None:
        self.n_components = n_components
        self.prior = prior
        self.likelihood = likelihood
        self.network = network
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.pool_size = pool_size
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.checkpoint = checkpoint
        self.warm_start = warm_start

    @with_callbacks
    def fit(self, X: ArrayLike, y: object = None, *, X_val: ArrayLike | None = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n, d)
            The data: finite numbers, at least two different rows.
        y : ignored
        X_val : array-like of shape (n_val, d), default=None
            Rows that are not fitted. The fit ends when their score has stopped rising, and keeps the weights with the highest.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            When a parameter or X is not as expected.
        FloatingPointError, MemoryError
            When training diverges, or there is less memory than the parameters ask for. What an earlier fit had found is kept.
        """
        watch = Watch.of(self, X, y)
        with nothing_lost(self):
            check.check_varying(data := check.check_X(self, X, fitting=True))
            self._fit(data, None if X_val is None else check.check_X(self, X_val), watch)
        if watch is not None:
            watch.close()
        return self

    @abstractmethod
    def _fit(self, X: NDArray, X_val: NDArray | None, watch: Watch | None) -> None:
        """Check the parameters, fit, and set the fitted attributes."""

    @abstractmethod
    def _conclude(self, root: Any, owner: Any) -> None:
        """Set the fitted attributes from the state of a fit, in the loop that `owner` has the state of."""

    def _as_if_ended(self, course: Course[Any], owner: Any) -> dict[str, Any] | None:
        """The attributes of a model that is fitted as far as a course has come, or None where there is none yet."""
        data = {id(value): value for value in course.root.held.values()}
        other, root = copy.copy(self), copy.deepcopy(course.root, data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                other._conclude(root, owner)
            except Diverged:
                return None
        return {name: value for name, value in vars(other).items() if name not in vars(self) or vars(self)[name] is not value}

    def _course(self, root: Root, data: Sequence[NDArray | None], watch: Watch | None) -> Course[Root]:
        """The course of a fit, from its checkpoint if there is one; what the root holds is in no checkpoint."""
        path = check_path("checkpoint", self.checkpoint)
        checkpoint = None if path is None else Checkpoint(path, fingerprint(self, data), root.held)
        course = Course(root, bool(self.verbose), checkpoint, watch)
        if watch is not None:
            watch.as_if_ended = functools.partial(self._as_if_ended, course)
        return course

    def _check_shared_numbers(self) -> None:
        for name in ("n_components", "pool_size", "batch_size", "max_iter", "n_iter_no_change"):
            check.check_number(name, getattr(self, name), numbers.Integral, 1)
        _memory.check_room(f"pool_size={self.pool_size}", (self.pool_size, self.n_features_in_), "Lower pool_size.")
        check.check_number("learning_rate_init", self.learning_rate_init, numbers.Real, 0, open_low=True)
        check.check_number("tol", self.tol, numbers.Real, 0)

    @property
    def _is_warm(self) -> bool:
        """Whether a fit goes on from the last one."""
        return bool(self.warm_start) and hasattr(self, "module_")

    @property
    def _last_family(self) -> Family:
        """The likelihood that the last fit trained with."""
        return self.likelihood_

    def _take_weights(self, **modules: nn.Module) -> None:
        """Put the last fit's weights into new modules; ValueError where they do not match."""
        with _told_of_mismatch():
            for name, module in modules.items():
                module.load_state_dict(getattr(self, name).state_dict())

    def _bound_likelihood(self, X: NDArray, rng: np.random.Generator, is_warm: bool) -> Family:
        """The likelihood in units of the data, from as many random rows as say enough; or the last fit's, if it goes on."""
        chosen = check.choose("likelihood", self.likelihood, LIKELIHOODS, Likelihood)
        kind, asked = chosen if isinstance(chosen, type) else type(chosen), some(len(X), MOST_ASKED, rng)
        sample = (X if asked is None else X[asked.numpy()]).astype(np.float64, copy=False)
        family: Family = self._last_units(kind, X) if is_warm else (chosen() if isinstance(chosen, type) else chosen).bind(sample)
        for block in _memory.blocks(X):
            family.check_support(block)
        self._likelihood_kind = kind.__name__
        return family

    def _last_units(self, kind: type, X: NDArray) -> Family:
        """A copy of the last fit's likelihood; ValueError where another kind or other data are given."""
        last = self._last_family
        with _told_of_mismatch():
            if (kind.__name__, X.shape[1]) != (self._likelihood_kind, last.n_features):
                had = f"and had {last.n_features} and {self._likelihood_kind}"
                raise RuntimeError(f"X has {X.shape[1]} features and the likelihood is {kind.__name__}, {had}")
        return copy.deepcopy(last)

    def _architecture(self, n_features: int) -> Network:
        return as_network(self.network, self.hidden_layer_sizes, self.activation).bind(n_features)

    def _decoder(self, architecture: Network, prior: Prior, family: Family, generator: torch.Generator) -> Decoder:
        standardisation = prior.standardisation()
        n_inputs = prior.n_components if standardisation is None else len(standardisation[1])
        module = architecture.decoder(n_inputs, family.n_outputs, generator)
        check_batch(self.batch_size, fewest_rows(module))
        return Decoder(module, standardisation)

    def _data(self, family: Family, X: NDArray, temperature: float) -> Data:
        return Data(X, family, temperature, _place.make_device(self.device))

    @contextmanager
    def _told_when_diverged(self, remedy: str) -> Iterator[None]:
        try:
            yield
        except Diverged as error:
            raise FloatingPointError(
                f"The fit diverged: {error}. Lower learning_rate_init (now {self.learning_rate_init:g}), {remedy} or standardise "
                "X. Nothing was changed by this fit."
            ) from error


@contextmanager
def _told_of_mismatch() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ValueError(
            "A fit goes on from the weights of the last one, and they do not match this model's n_components, prior, network, "
            f"posterior or likelihood, or the data ({str(error).splitlines()[-1].strip()}). Set warm_start=False, and use fit, to "
            "start anew."
        ) from error


def check_batch(batch_size: int, fewest: int) -> None:
    """Raise where a batch is smaller than batch normalisation needs."""
    check.check_number("batch_size with batch normalisation", batch_size, numbers.Integral, fewest)


@contextmanager
def nothing_lost(estimator: BaseEstimator) -> Iterator[None]:
    """Put the estimator back as it was when a fit fails; for want of memory, say what to lower."""
    before = dict(vars(estimator))
    try:
        with _memory.enough_memory(
            "Lower batch_size, pool_size, hidden_layer_sizes or n_components. Nothing was changed by this fit."
        ):
            yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
