"""What the estimators share while they are fitted."""

from __future__ import annotations

import copy
import functools
import math
import numbers
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skcvae import _checks as check
from skcvae import _memory, _place, _processes, _random
from skcvae._callbacks import CallbackSupportMixin, Watch, with_callbacks
from skcvae._checkpoint import fingerprint, open_checkpoint
from skcvae._columns import Columns, has_names
from skcvae._context import computing
from skcvae._crossfit import CANDIDATES, Comparison, Halved, Trials, cross_fitted, farthest_column, rows_alone, scored
from skcvae._data import Data, Judges, Table, representative
from skcvae._fitted import Evidence, Fit, in_fine_precision
from skcvae._missing import completed, redrawn
from skcvae._place import Place
from skcvae._threads import apart
from skcvae._training import Course, Diverged, Pace, Root
from skcvae.distributed import ShardedRows, Shards
from skcvae.likelihoods import (
    LIKELIHOODS,
    AutoLikelihood,
    Background,
    Family,
    GaussianLikelihood,
    Likelihood,
    MappedGaussian,
    MixedLikelihood,
    RowMap,
    mean_of_rows,
)
from skcvae.networks import Conv, Decoder, Network, as_network, fewest_rows
from skcvae.priors import Prior, as_prior

#: What scikit-learn's checks learn of the data.
LEARNED_OF_X = ("n_features_in_", "feature_names_in_", "columns_")
#: What the user says where the number of components is to be found.
AUTO = "auto"
#: Components of the latent variable of a mixed table, if the user gives no number: it carries all dependence between its columns.
MIXED_COMPONENTS = 5
#: The share of the time that is left which each of the fits to halves of the rows may take, over the number of candidates.
FOLD_SHARE = 0.15
#: What these fits have not: an end to go on from, rows held out, or progress.
ALONE = {"warm_start": False, "early_stopping": False, "verbose": False}
#: Stream of the random state that chooses the rows held out: no part of a `partial_fit` has as many steps before it.
SPLIT = 2**53
#: And that of what completes rows with missing cells; components of the models that do so where their number is not known, at most.
COMPLETION, MOST_AT_FIRST = 2**53 + 1, 5
#: What a fit without memory is told.
LOWER = "Lower pool_size, draws_per_step or batch_size, hidden_layer_sizes or n_components. Nothing was changed by this fit."


@dataclass
class Opening:
    """What a fit finds before its course, as a checkpoint holds it.

    Attributes
    ----------
    generator : dict, the state of the generator at the beginning of the fit
    trials : list, what fits to halves of the rows have found
    settled : dict or None, what they say, when they have ended
    """

    generator: dict[str, Any]
    trials: list[Any] = field(default_factory=list)
    settled: dict[str, Any] | None = None

    def settle(self, n_components: int | str | None, evidence: Evidence | None, found: MappedGaussian | None) -> None:
        """Keep what halves of the rows say, and no longer how they came to it."""
        noise = None if found is None else [dict(vars(found.row_map)), dict(vars(found.background))]
        kept = None if evidence is None else dict(vars(evidence))
        self.settled, self.trials = {"n_components": n_components, "evidence": kept, "noise": noise}, []

    def found(self) -> tuple[int | None, Evidence | None, MappedGaussian | None]:
        """What `settle` was given."""
        assert self.settled is not None, "asked after it"
        k, kept, noise = (self.settled[name] for name in ("n_components", "evidence", "noise"))
        evidence = None if kept is None else Evidence(**kept)
        return k, evidence, None if noise is None else MappedGaussian(RowMap(**noise[0]), Background(**noise[1]))


class FittedModel(CallbackSupportMixin, BaseEstimator, ABC):
    """Base of the estimators: shared parameters, and a fit that can be watched, stopped and resumed."""

    _fitted: Fit
    _evidence: Evidence | None
    _likelihood: Likelihood
    columns_: Columns

    def __new__(cls, *args: Any, **params: Any) -> Self:
        """Refuse parameters that have another name now, before `__init__` calls them unexpected."""
        check.refuse_former_names(cls.__name__, cls._get_param_names(), params)
        return super().__new__(cls)

    def __init__(
        self,
        n_components: int | str | None = None,
        *,
        prior: Any = "gaussian",
        likelihood: str | Likelihood | Mapping[str, str] = "gaussian",
        network: Any = "mlp",
        hidden_layer_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        pool_size: int = 4096,
        learning_rate_init: float = 1e-3,
        max_iter: int = 2000,
        max_time: float | None = None,
        tol: float = 1e-2,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
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
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.max_time = max_time
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.checkpoint = checkpoint
        self.warm_start = warm_start

    @with_callbacks
    def fit(
        self, X: ArrayLike, y: object = None, *, sample_weight: ArrayLike | None = None, X_val: ArrayLike | None = None
    ) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n, d), or skcvae.distributed.Shards
            The data: finite numbers, at least two different rows; with likelihood="auto" also a data frame of pandas or polars with
            text, categories, truth values and dates. NaN, None or pandas' NA is a missing cell: short fits complete
            the rows by draws given what is observed, and the fit is that to the completed rows.
        y : ignored
        sample_weight : array-like of shape (n,), default=None
            How many rows each row counts as: a fit with weight 2 is that to the same row twice, and 0 leaves a row out. Divide
            weights that only compare rows, such as those of a survey, by their mean. A sum below the number of rows is raised to
            it.
        X_val : array-like of shape (n_val, d), default=None
            Rows that are not fitted. The fit ends when their score has stopped rising, and keeps the weights with the highest. In
            a pipeline they are transformed as X is only with ``transform_input=["X_val"]``; a warning says where they lie far off.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            When a parameter, X or a weight is not as expected.
        FloatingPointError, MemoryError
            When training diverges, or there is less memory than the parameters ask for. What an earlier fit had found is kept.
        """
        watch = Watch.of(self, X, y)

        def fitted(worker: Self) -> tuple[Fit, None]:
            if isinstance(X, Shards):
                table = worker._all_rows(X, sample_weight, watch)
            else:
                table = Table.of(worker._rows(X, fitting=True), sample_weight)
            data, held_out = worker._split(worker._completed(table, worker._is_warm), X_val)
            check.check_varying(data.X)
            return in_fine_precision(worker._fit(data, held_out, watch), data.X), None

        with X.entered() if isinstance(X, Shards) else nullcontext():
            self._advance(fitted)
        if watch is not None:
            watch.close()
        return self

    def _all_rows(self, X: Shards, sample_weight: ArrayLike | None, watch: Watch | None) -> Table:
        """The checked rows of all processes, which from here on draw alike."""
        with _processes.together():
            if watch is not None:
                raise ValueError("A fit by several processes has no callbacks. Remove them, or fit in one process.")
            own = self._rows(X.X, fitting=True)
            if self._mixed_columns is not None:
                raise ValueError("Shards must have columns of numbers, got a mixed data frame. Encode it, or fit in one process.")
            weights = None if sample_weight is None else check.check_sample_weight(sample_weight, len(own), of_all=False)
        rows = cast(NDArray, ShardedRows(own))  # of an array what a fit asks for
        if len(rows) < 2:
            raise ValueError(f"X must have at least 2 rows in all processes together, got {len(rows)}. Give more rows.")
        if check.has_missing(rows):
            raise ValueError("Shards must have no missing cells. Fill them (SimpleImputer), or fit in one process.")
        self.random_state = _processes.agreed(_random.as_seed(self.random_state))
        names = tuple(vars(self).get("feature_names_in_", ()))
        if len(set(_processes.gathered(names))) > 1:
            raise ValueError("The columns of all processes must have the same names in the same order. Give them so.")
        parameters = fingerprint(self, []), self.max_time is None, self.checkpoint is None, self._is_warm, sample_weight is None
        if len(set(_processes.gathered(parameters))) > 1:
            raise ValueError("All processes must fit with the same parameters, and all or none with sample_weight. Give them so.")
        return Table.of(rows, None if weights is None else np.concatenate(_processes.gathered(weights)))

    def _rows(self, X: Any, *, fitting: bool = False, training: bool = False, allow_missing: bool = True) -> NDArray:
        """Checked rows of numbers (n, d'), with NaN where cells are missing; of a frame, whose columns a first fit learns."""
        if isinstance(X, Shards):
            raise TypeError("Shards is for fit. Give the rows of this process themselves here.")
        if fitting:
            self.__dict__.pop("columns_", None)
            if has_names(X):
                auto = self._auto_likelihood()
                self.columns_ = Columns.plain(X) if auto is None else Columns.of(X, auto.columns, auto.unknown)
            elif isinstance(self.likelihood, Mapping):
                raise ValueError(
                    f"likelihood={check.shown(self.likelihood)} names columns, and X has no names. Give a data frame, or a "
                    "skcvae.likelihoods.MixedLikelihood."
                )
        columns = self._mixed_columns
        if columns is None:
            return check.check_X(self, X, fitting=fitting, training=training, allow_missing=allow_missing)
        rows = check.check_table(self, X, columns.encoded, fitting=fitting, training=training)
        if not allow_missing and np.isnan(rows).any():
            row, place = map(int, np.argwhere(np.isnan(rows))[0])
            column = columns.columns[columns.places[place]]
            if column.kind == "hurdle":
                raise ValueError(
                    f"Here rows must have a number in every column, and {column.name!r} has none where it is {column.atom:g}, as "
                    f"in row {row}. Use early_stopping=True for X_val and sample_posterior for posterior, or give "
                    f"likelihood={{{column.name!r}: 'gaussian'}}."
                )
            raise ValueError(f"X must be whole here, got a missing cell in row {row} of column {column.name!r}. Use impute first.")
        return rows

    def _auto_likelihood(self) -> AutoLikelihood | None:
        """The likelihood that asks columns what they are, if it is one."""
        if isinstance(self.likelihood, Mapping):
            return AutoLikelihood(self.likelihood)
        if isinstance(self.likelihood, AutoLikelihood):
            return self.likelihood
        return AutoLikelihood() if isinstance(self.likelihood, str) and self.likelihood == AUTO else None

    @property
    def _mixed_columns(self) -> Columns | None:
        """The columns of the frame that was fitted, where these are not all numbers as they come."""
        columns: Columns | None = vars(self).get("columns_")
        return None if columns is None or columns.is_plain else columns

    def _completed(self, table: Table, is_begun: bool) -> Table:
        """The rows with draws of their missing cells given the others; rows with nothing observed are left out.

        The draws are those of the last fit where one goes on from it.
        """
        if not check.has_missing(table.X):
            return table
        if not is_begun:
            check.check_observed(table.X, self._names)
        is_empty = np.isnan(table.X).all(1)
        if is_empty.any():
            check.warn(f"{is_empty.sum()} of {len(table.X)} rows have no observed cell, and are left out of the fit.")
            table = table.taken(~is_empty)
        rng = _random.make_rng(self.random_state, COMPLETION + (len(self._record.losses) if is_begun else 0))
        if is_begun:
            n_features = self._record.family.n_columns
            with _told_of_mismatch():
                if table.X.shape[1] != n_features:
                    raise RuntimeError(f"X has {table.X.shape[1]} features, and had {n_features}")
            return redrawn(table, self._record, rng)
        model = copy.copy(self)
        if self.n_components == AUTO:
            model.n_components = max(k for k in self._candidates(table.X.shape[1]) if k <= MOST_AT_FIRST)
        likelihood = _folded(model._settled_likelihood(table.X.shape[1]), None)
        pace = Pace(bool(self.verbose), None if self.max_time is None else float(self.max_time))
        short = model._short_fit(pace, 1)

        def fit(filled: Table, seed: int) -> Fit:
            pace.begin("missing cells", 1)
            return short(likelihood, filled, seed)

        filled = completed(table, fit, rng)
        pace.close()
        return filled

    def _split(self, data: Table, X_val: ArrayLike | None = None) -> tuple[Table, Table | None]:
        """The rows that are fitted, and those that are not: given as X_val, or held out by `early_stopping`, in their order."""
        check.check_number("validation_fraction", self.validation_fraction, numbers.Real, 0, open_low=True)
        is_stopping = check.check_flag("early_stopping", self.early_stopping)
        if X_val is not None:
            with _processes.together():
                given = self._rows(X_val.X if isinstance(X_val, Shards) else X_val, allow_missing=False)
            given = ShardedRows(given)[:] if isinstance(X_val, Shards) else _processes.agreed(given)
            check.warn_where_far(data.X, given, self._names)
            return data, Table(given)
        if not is_stopping:
            return data, None
        n_rows = len(data.X)
        n_held_out = math.ceil(float(self.validation_fraction) * n_rows)
        if n_held_out > n_rows - 2:
            raise ValueError(
                f"validation_fraction={self.validation_fraction:g} holds out {n_held_out} of {n_rows} rows, and a fit needs two. "
                "Lower it, or give more rows."
            )
        seed = self.random_state if isinstance(self.random_state, numbers.Integral) else 0
        is_held_out = np.zeros(n_rows, bool)
        is_held_out[_random.make_rng(seed, SPLIT).permutation(n_rows)[:n_held_out]] = True
        return data.taken(~is_held_out), data.taken(is_held_out)

    @abstractmethod
    def _fit(self, data: Table, held_out: Table | None, watch: Watch | None) -> Fit:
        """Check the parameters and fit."""

    @abstractmethod
    def _concluded(self, root: Any, owner: Any) -> Fit:
        """What a fit has found so far, from its state in the loop that `owner` has the state of."""

    @property
    def _record(self) -> Fit:
        """What the last fit found; NotFittedError where there is none."""
        check_is_fitted(self)
        return self._fitted

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_streaming"}

    def _advance(self, work: Callable[[Self], tuple[Fit, Any]]) -> None:
        """Let a copy do the work of a fit, and take what it found when it has ended well; otherwise nothing has changed.

        `work` returns the record and what a part of a stream to come goes on with.
        """
        worker = object.__new__(type(self))
        worker.__dict__.update(vars(self))
        unmoved = _random.unmoved_on_failure(self.random_state)
        with unmoved, computing(with_gradients=True), apart(), _memory.enough_memory(LOWER):
            record, streaming = work(worker)
        found = {name: vars(worker)[name] for name in LEARNED_OF_X if name in vars(worker)}
        for name in set(LEARNED_OF_X) - set(found):
            self.__dict__.pop(name, None)
        self.__dict__.update(found, _fitted=record, _streaming=streaming)

    def _as_if_ended(self, course: Course[Any], owner: Any) -> dict[str, Any] | None:
        """The attributes of a model that is fitted as far as a course has come, or None where there is none yet."""
        with check.quiet():
            try:
                record = self._concluded(course.root.snapshot(), owner)
            except Diverged:
                return None
        return {**{name: vars(self)[name] for name in LEARNED_OF_X if name in vars(self)}, "_fitted": record}

    def _course(
        self,
        make_root: Callable[[Table, np.random.Generator], Root],
        data: Table,
        held_out: Table | None,
        watch: Watch | None,
    ) -> Course[Root]:
        """The course of a fit, from its checkpoint if there is one, with the generator as it was at the beginning."""
        if self.max_time is not None:
            check.check_number("max_time", self.max_time, numbers.Real, 0, open_low=True)
        pace = Pace(bool(self.verbose), None if self.max_time is None else float(self.max_time))
        arrays = [array for table in (data, held_out) for array in ((None, None) if table is None else (table.X, table.weights))]
        checkpoint, rng = open_checkpoint(self, arrays), _random.make_rng(self.random_state)
        found = None if checkpoint is None else checkpoint.read()
        opening = Opening(dict(rng.bit_generator.state))
        if checkpoint is not None and found is not None:
            try:
                opening = Opening(**found["begin"])
                rng.bit_generator.state = opening.generator
            except (KeyError, TypeError, ValueError) as error:
                raise checkpoint.foreign("it does not say where the generator began, or what halves of the rows said") from error
            found = found if "done" in found else None

        def keep() -> None:
            if checkpoint is not None:
                checkpoint.write({"begin": dict(vars(opening))})

        fitted = self._settle(opening, keep, make_root, data, pace, rng)
        course = Course(make_root(fitted, rng), pace, checkpoint, found, dict(vars(opening)), watch)
        if watch is not None:
            watch.as_if_ended = functools.partial(self._as_if_ended, course)
        return course

    def _settle(
        self,
        opening: Opening,
        keep: Callable[[], None],
        make_root: Callable[[Table, np.random.Generator], Root],
        data: Table,
        pace: Pace,
        rng: np.random.Generator,
    ) -> Table:
        """Let halves of the rows say what is open before a fit: the number of components, and the noise of a table.

        The rows that are given back are those that a decoder may explain.
        """
        is_counted = self.n_components == AUTO
        candidates = self._candidates(data.X.shape[1]) if is_counted and not self._is_warm else []
        if is_counted:
            self.n_components = candidates[0] if candidates else self._record.prior.n_components
        likelihood = self._settled_likelihood(data.X.shape[1])
        if not self._is_warm and (candidates or likelihood.is_cross_fitted):
            seeds = np.random.default_rng(int(rng.integers(2**63)))
            if opening.settled is None:
                self._likelihood = _folded(likelihood, None)
                with check.quiet():
                    make_root(data, copy.deepcopy(rng))  # what is wrong is told before the work
                trials = Trials(pace, opening.trials, lambda found: keep())
                keep()
                opening.settle(*self._compared(candidates, Halved.of(data, seeds), trials, seeds))
            self.n_components, self._evidence, noise = opening.found()
            self._likelihood = _folded(self._settled_likelihood(data.X.shape[1]), noise)
            return data if noise is None else self._explicable(noise, data)
        last = self._record.last_family if self._is_warm else None
        numbers = None if last is None or data.X.shape[1] != last.n_columns else last.numbers
        if numbers is not None and numbers.row_map is not None and numbers.background is not None:
            return self._explicable(MappedGaussian(numbers.row_map, numbers.background), data)
        return data

    def _explicable(self, noise: MappedGaussian, data: Table) -> Table:
        """The rows that are not far from all others; the user is told of those that are."""
        columns = self._settled_likelihood(data.X.shape[1]).number_columns(data.X.shape[1])
        numbers = data if len(columns) == data.X.shape[1] else Table(data.X[:, columns], data.weights)
        is_alone = rows_alone(noise, numbers.X, Halved.of(numbers, np.random.default_rng(0)).whole)
        if not is_alone.any():
            return data
        place = int(is_alone.argmax())
        row = data.X[place].astype(np.float64)
        column = int(columns[farthest_column(noise, row[columns])])
        names = self._names
        check.warn(
            f"{is_alone.sum()} of {len(data.X)} rows are far from all others, such as row {place} with {row[column]:.4g} in column "
            f"{column if names is None else repr(names[column])}. They are not fitted, and are broad noise in scores and samples. "
            "Remove them where they are errors; give another likelihood where they are none."
        )
        return data.taken(~is_alone)

    def _compared(
        self, candidates: list[int], halved: Halved, trials: Trials, seeds: np.random.Generator
    ) -> tuple[int | str | None, Evidence | None, MappedGaussian | None]:
        """The number of components with its evidence, where some are compared, and the noise where it is cross-fitted."""
        if not candidates:
            return self.n_components, None, self._asked(halved, 1, trials, seeds)[0]
        comparison, noises = Comparison(halved), dict[int, MappedGaussian | None]()
        for k in candidates:
            model = copy.copy(self)
            model.n_components = k
            noises[k], scores = model._asked(halved, len(candidates), trials, seeds)
            if scores is None:  # there is no time left
                break
            comparison.scores[k] = scores
            if comparison.is_decided:
                break
        evidence = comparison.evidence() if comparison.scores else None
        chosen = candidates[0] if evidence is None else evidence.chosen
        return chosen, evidence, noises[chosen]

    def _asked(
        self, halved: Halved, n_candidates: int, trials: Trials, seeds: np.random.Generator
    ) -> tuple[MappedGaussian | None, NDArray[np.float64] | None]:
        """The noise, where it is cross-fitted, and where several models are compared scores of rows that were not fitted."""
        likelihood, fit = self._settled_likelihood(halved.whole.X.shape[1]), self._short_fit(trials.pace, n_candidates)
        k, noise, scores = self._chosen_prior().n_components, None, None
        if likelihood.is_cross_fitted:
            noise, scores = cross_fitted(likelihood, halved, k, fit, trials, seeds)
        if scores is None and n_candidates > 1:
            scores = scored(_folded(likelihood, None), halved, k, fit, trials, seeds)
        return noise, scores

    def _candidates(self, n_features: int) -> list[int]:
        """Numbers of components that are compared."""
        if not isinstance(self.prior, str):
            raise ValueError(
                f"n_components='auto' compares priors of several dimensions, and prior={check.shown(self.prior)} has its own. "
                "Give the prior by its name, or n_components=None."
            )
        return [k for k in CANDIDATES if k <= n_features]

    def _short_fit(self, pace: Pace, n_candidates: int) -> Callable[[Likelihood, Table, int], Fit]:
        """A short fit by a copy of the model, of which the user is told nothing."""

        def fit(likelihood: Likelihood, table: Table, seed: int) -> Fit:
            worker = object.__new__(type(self))
            limit = pace.share_left(FOLD_SHARE / n_candidates)
            short = {"random_state": seed, "max_time": limit, "likelihood": likelihood}
            worker.__dict__.update(vars(self) | ALONE | short | self._short_parameters())
            worker.__dict__.pop("_likelihood", None)
            if likelihood.mapped is not None:
                worker.__dict__.update(self._at_temperature_one())
            with check.quiet():
                return worker._fit(table, None, None)

        return fit

    def _chosen_prior(self) -> Prior:
        """The prior, of a number of components that is known by now."""
        if isinstance(self.n_components, str):
            raise ValueError(f"n_components must be 'auto', None or an integer of at least 1, got {self.n_components!r}.")
        is_open = self.n_components is None and isinstance(self.prior, str) and self._is_mixed
        return as_prior(self.prior, MIXED_COMPONENTS if is_open else self.n_components)

    @property
    def _is_mixed(self) -> bool:
        """Whether columns are of several kinds."""
        return isinstance(self.likelihood, MixedLikelihood) or self._mixed_columns is not None

    def _settled_likelihood(self, n_features: int) -> Likelihood:
        """The likelihood, of a kind that the shapes of data and model say where it is open."""
        auto = self._auto_likelihood()
        chosen = check.choose("likelihood", self.likelihood, LIKELIHOODS, Likelihood) if auto is None else auto
        likelihood: Likelihood = chosen() if isinstance(chosen, type) else chosen
        if not isinstance(likelihood, AutoLikelihood):
            return likelihood
        if self._mixed_columns is not None:
            return self._mixed_columns.likelihood()
        prior, network = self._chosen_prior(), as_network(self.network, self.hidden_layer_sizes, self.activation)
        return likelihood.settled(n_features, prior.n_components, prior.is_atomic or isinstance(network, Conv))

    def _short_parameters(self) -> dict[str, Any]:
        """Parameters of short fits to halves of the rows: no more steps than a decoder needs by then."""
        return {}

    def _at_temperature_one(self) -> dict[str, Any]:
        """Parameters of those that find the noise: its residuals are those of the likelihood itself."""
        return {}

    def _warn_of_last_step(self, course: Course[Any], is_settled: bool, text: str) -> None:
        """Warn where a fit ended at its last step or round, and neither by itself nor because it was asked to stop."""
        if not is_settled and not course.stopped:
            check.warn(text, ConvergenceWarning)

    def _check_shared_numbers(self) -> None:
        if self.n_components not in (None, AUTO):
            self._chosen_prior()
        for name in ("pool_size", "max_iter", "n_iter_no_change"):
            check.check_number(name, getattr(self, name), numbers.Integral, 1)
        _memory.check_room(f"pool_size={self.pool_size}", (self.pool_size, self.n_features_in_), "Lower pool_size.")
        check.check_number("learning_rate_init", self.learning_rate_init, numbers.Real, 0, open_low=True)
        check.check_number("tol", self.tol, numbers.Real, 0)

    @property
    def _names(self) -> Any:
        """Names of the columns of numbers, if they have some."""
        columns = self._mixed_columns
        return getattr(self, "feature_names_in_", None) if columns is None else np.array(columns.names)[columns.places]

    @property
    def _is_warm(self) -> bool:
        """Whether a fit goes on from the last one."""
        return bool(self.warm_start) and hasattr(self, "_fitted")

    def _take_weights(self, **modules: nn.Module) -> None:
        """Put the last fit's weights into new modules; ValueError where they do not match."""
        last = self._record.modules
        with _told_of_mismatch():
            for name, module in modules.items():
                module.load_state_dict(last[name].state_dict())

    def _bound_likelihood(self, data: Table, rng: np.random.Generator, is_warm: bool) -> tuple[Family, str]:
        """The likelihood in units of the data, from as many random rows as say enough, or the last fit's; and its kind's name."""
        settled = self._settled_likelihood(data.X.shape[1])
        likelihood = vars(self).get("_likelihood", settled)
        kind = GaussianLikelihood if likelihood.mapped is likelihood else type(likelihood)
        asked = representative(len(data.X), data.X.shape[1], rng)
        if is_warm:
            family = self._last_units(kind, data.X)
        else:
            some = data if asked is None else data.taken(asked.numpy())
            rows = some.X.astype(np.float64, copy=False)
            family = likelihood.bind(rows, some.weights)
            if family.numbers is not None or issubclass(kind, GaussianLikelihood):
                self._warn_where_outlying(likelihood, family, rows)
        with _processes.together():
            for block in _memory.blocks(data.X):
                family.check_support(block)
        return family, kind.__name__

    def _warn_where_outlying(self, likelihood: Likelihood, family: Family, rows: NDArray[np.float64]) -> None:
        """Warn of the number that is farthest off in the rows (n, d)."""
        places, row_map = likelihood.number_columns(rows.shape[1]), (family.numbers or family).row_map
        names, numbers = self._names, rows if len(places) == rows.shape[1] else rows[:, places]
        named = places.tolist() if names is None else np.asarray(names)[places].tolist()
        check.warn_where_outlying(numbers if row_map is None else row_map.columns(numbers), numbers, named)

    def _last_units(self, kind: type, X: NDArray) -> Family:
        """A copy of the last fit's likelihood; ValueError where another kind or other data are given."""
        last, last_kind = self._record.last_family, self._record.kind
        with _told_of_mismatch():
            if (kind.__name__, X.shape[1]) != (last_kind, last.n_columns):
                had = f"and had {last.n_columns} and {last_kind}"
                raise RuntimeError(f"X has {X.shape[1]} features and the likelihood is {kind.__name__}, {had}")
        return copy.deepcopy(last)

    def _architecture(self, n_features: int) -> Network:
        return as_network(self.network, self.hidden_layer_sizes, self.activation).bind(n_features)

    def _decoder(self, architecture: Network, prior: Prior, family: Family, generator: torch.Generator) -> Decoder:
        standardisation = prior.standardisation()
        n_inputs = prior.n_components if standardisation is None else len(standardisation[1])
        module = architecture.decoder(n_inputs, family.n_outputs, generator)
        return Decoder(module, standardisation)

    def _check_step(self, name: str, *modules: nn.Module) -> None:
        """Raise where a step has fewer rows or draws, the parameter of this name, than batch normalisation needs."""
        fewest = max(map(fewest_rows, modules))
        check.check_number(f"{name} with batch normalisation", getattr(self, name), numbers.Integral, fewest)

    def _data(self, family: Family, table: Table, temperature: float, dtype: torch.dtype | None = None) -> Data:
        return Data(table, family, temperature, _place.make_device(self.device), dtype)

    @contextmanager
    def _told_when_diverged(self, remedy: str) -> Iterator[None]:
        try:
            yield
        except (Diverged, torch.linalg.LinAlgError) as error:
            found = error if isinstance(error, Diverged) else "a system of equations became singular"
            raise FloatingPointError(
                f"The fit diverged: {found}. Lower learning_rate_init (now {float(self.learning_rate_init):g}), {remedy} or "
                "standardise X. Nothing was changed by this fit."
            ) from error


def judges(family: Family, held_out: Table | None, place: Place) -> Judges | None:
    """Rows that are not fitted, standardised where those are that are; ValueError outside the likelihood's support."""
    if held_out is None:
        return None
    family.check_support(held_out.X)
    weights = None if held_out.weights is None else place.tensor(held_out.weights)
    volumes, broad = family.log_volumes(held_out.X), family.broad(held_out.X)
    judges = Judges(place.tensor(family.standardise(held_out.X)), weights, float(mean_of_rows(volumes, held_out.weights)))
    if broad is None or family.background is None:
        return judges
    share = family.background.share
    return replace(judges, log_kept=math.log1p(-share), broad=place.tensor(math.log(share) + broad + volumes))


def _folded(likelihood: Likelihood, mapped: MappedGaussian | None) -> Likelihood:
    """What a fit takes of a likelihood: the noise that was found, if it is cross-fitted, or that of the rows themselves."""
    if not likelihood.is_cross_fitted:
        return likelihood
    return likelihood.without_folds() if mapped is None else likelihood.with_numbers(mapped)


@contextmanager
def _told_of_mismatch() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ValueError(
            "A fit goes on from the weights of the last one, and they do not match this model's n_components, prior, network, "
            f"encoder or likelihood, or the data ({str(error).splitlines()[-1].strip()}). Set warm_start=False, and use fit, to "
            "start anew."
        ) from error
