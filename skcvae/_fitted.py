"""What a fit found, as one frozen record, and the record at a place where it answers.

A record is on the CPU, in the precision of the training. It is saved, pickled and compared as a unit, and nothing changes it.
`Fit.at(place)` is a copy that computes elsewhere or in another precision; all methods of a fitted estimator ask that copy.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skcvae._checks import check_representable
from skcvae._data import some
from skcvae._place import HOST, Module, Place, as_array, moved
from skcvae._random import lock
from skcvae.likelihoods import Family
from skcvae.networks import Decoder
from skcvae.posteriors import (
    AmortisedInference,
    Coordinates,
    Encoder,
    FromEncoder,
    FromPool,
    Inference,
    Laplace,
    LocalDraws,
    LocalInference,
    Mixture,
    Partial,
    Pool,
    PoolInference,
    Refined,
    Scores,
    robust_gaussian,
)
from skcvae.priors import Prior
from skcvae.transport import Coupling

#: Draws that give a prior's moments in the coordinates of a proposal.
DRAWS_OF_MOMENTS = 4096
#: Rows whose answers in single and in double precision are compared, and by how much they may differ: in the prior's deviations,
#: and in nats.
ROWS_COMPARED, LARGEST_MEAN_ERROR, LARGEST_SCORE_ERROR = 64, 0.05, 0.05
#: Places of one record at which copies are kept for the next question.
MOST_PLACES = 2


@dataclass(frozen=True, eq=False)
class Curve:
    """Numbers of successive steps, in arrays of falling lengths, so that many short additions cost little."""

    parts: tuple[NDArray[np.float64], ...] = ()

    def extended(self, values: Iterable[float]) -> Curve:
        """The curve with further numbers."""
        parts = [*self.parts, np.array(list(values), dtype=np.float64)]
        while len(parts) > 1 and 2 * len(parts[-1]) >= len(parts[-2]):
            parts[-2:] = [np.concatenate(parts[-2:])]
        return Curve(tuple(parts))

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def numbers(self) -> list[float]:
        """All numbers, in order."""
        return [number for part in self.parts for number in part.tolist()]


@dataclass(frozen=True, eq=False)
class Holes:
    """What extends the c-transform of a potential of zero to any latent point without the data.

    Attributes
    ----------
    planes : Scores, supporting planes of the log-sum-exp at some draws of the pool
    level : float, mean of the c-transform over these draws, in nats
    """

    planes: Scores
    level: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """What rows that were not fitted say of numbers of components, by short fits to each half of the rows.

    Attributes
    ----------
    n_components : tuple of c int, the numbers that were compared
    scores : array of shape (c,), mean log-likelihood of rows that were not fitted, in nats
    errors : array of shape (c,), standard error of the difference of each score to the highest, in nats
    chosen : int, the smallest number whose score is within its error of the highest
    """

    n_components: tuple[int, ...]
    scores: NDArray[np.float64]
    errors: NDArray[np.float64]
    chosen: int


@dataclass(frozen=True, eq=False)
class Fit(ABC):
    """What all estimators find.

    Attributes
    ----------
    prior : Prior
    decoder : Decoder
    family : Family, what samples are drawn from at temperature 1
    temperature : float, of the posterior and of matched noise
    dtype : torch.dtype, the least precision in which inference is right
    kind : str, name of the likelihood's class
    losses : Curve, of the training, in nats
    validation_scores : tuple of float or None, in nats
    converged : bool
    evidence : Evidence or None, where it has chosen the number of components
    """

    prior: Prior
    decoder: Decoder
    family: Family
    temperature: float
    dtype: torch.dtype
    kind: str
    losses: Curve
    validation_scores: tuple[float, ...] | None
    converged: bool
    evidence: Evidence | None = field(default=None, kw_only=True)

    @abstractmethod
    def inference(self) -> Inference:
        """What answers for rows of data, on the CPU."""

    @abstractmethod
    def weighted_draws(self) -> tuple[Tensor, Tensor]:
        """Draws of the prior (m, k) and logs of their weights (m,), in double precision on the CPU."""

    @property
    @abstractmethod
    def has_own_draws(self) -> bool:
        """Whether densities take draws of a row's own where the prior's do not do."""

    def partial(self) -> Partial:
        """What answers for rows with missing cells, on the CPU."""
        decoder, family = moved((self.decoder, self.family.tempered(self.temperature)), HOST)
        return Partial.of(decoder, family, Coordinates(self.prior.distribution()), *self.weighted_draws(), self.has_own_draws)

    @abstractmethod
    def sample_aggregate(self, n_samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draws of z from the aggregate posterior, (n_samples, k)."""

    @abstractmethod
    def remedy(self, of_density: bool) -> str:
        """What helps where few draws carry the weight of a density, or of a posterior."""

    @property
    def last_family(self) -> Family:
        """The likelihood that the fit trained with."""
        return self.family

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a further fit goes on from."""
        return {"decoder": self.decoder}

    def precision(self, dtype: np.dtype) -> torch.dtype:
        """Precision of the answers for rows of a type: single where the rows and the costs allow it, otherwise double."""
        return self.dtype if dtype == np.float32 else torch.float64

    def at(self, place: Place) -> Placed:
        """The record at a place. The last copies are kept as long as the record is; they are in no pickle and no attribute."""
        with lock():
            copies = _placed.setdefault(self, {})
            if place not in copies:
                while len(copies) >= MOST_PLACES:
                    del copies[next(iter(copies))]
                holes = moved(getattr(self, "holes", None), place)
                parts = moved((self.decoder, self.family, self.inference()), place)
                partial = moved(self.partial(), place) if place.dtype == torch.float64 else None
                copies[place] = Placed(place, parts[0], parts[1], self.temperature, parts[2], holes, partial)
            return copies[place]


_placed: WeakKeyDictionary[Fit, dict[Place, Placed]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class CoupledFit(Fit):
    """What a coupled fit finds.

    Attributes
    ----------
    pool : Pool
    coupling : Coupling, the certificate
    softness : float, of the prior's marginal
    holes : Holes
    marginal_errors : Curve, chi-square of each training step
    encoder : Encoder or None, a proposal for each row
    planes : Scores or None, which give the prior's potential at draws of the proposal
    n_rounds : int, rounds of polishing
    is_local : bool, whether densities take draws of a row's own where the pool's do not do
    """

    pool: Pool
    coupling: Coupling
    softness: float
    holes: Holes
    marginal_errors: Curve
    encoder: Encoder | None = None
    planes: Scores | None = None
    n_rounds: int = 0
    is_local: bool = False

    def inference(self) -> Inference:
        pooled = PoolInference(self.pool, self.family, self.temperature)
        if not self.is_local:
            return pooled
        coordinates, draws, mixture = Coordinates(self.prior.distribution()), self.pool.draws, pooled.mixture
        laplace = _laplace(self.decoder, mixture.family, coordinates, self.prior)
        local = LocalDraws(FromPool(laplace, mixture, draws), coordinates, self.decoder, draws, mixture)
        if self.encoder is None or self.planes is None:
            return replace(pooled, local=local)
        refined = replace(local, proposal=Refined(moved(self.encoder, HOST), laplace))
        return LocalInference(refined, self.family, self.temperature, self.planes, self.softness)

    @torch.no_grad()
    def weighted_draws(self) -> tuple[Tensor, Tensor]:
        matched = moved(self.family.tempered(self.temperature), HOST)
        eta = self.family.tempering(self.temperature) * self.pool.key.double()
        return self.pool.draws, self.pool.log_density + matched.log_normaliser(eta)

    @property
    def has_own_draws(self) -> bool:
        return self.is_local

    def sample_aggregate(self, n_samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return self.pool.sample_aggregate(n_samples, rng)

    def remedy(self, of_density: bool) -> str:
        better = "auto" if of_density else "encoder"
        has_better = self.prior.distribution() is None or (self.is_local if of_density else self.encoder is not None)
        ending = " or lower n_components." if has_better else f", lower n_components, or use proposal={better!r}."
        return f"Raise pool_size, raise epsilon{ending}"


@dataclass(frozen=True, eq=False)
class AutoencoderFit(Fit):
    """What VAE, WAE and InfoVAE find.

    Attributes
    ----------
    encoder : Encoder
    trained_family : Family, as the training left it, before a scale was put to the residual
    aggregate : array of shape (m, k), draws of the aggregate posterior
    n_draws : int, draws of the prior that densities weigh
    seed : int, gives these draws
    is_taught : bool, whether the loss taught the encoder the posterior's spread, so that it is a proposal
    """

    encoder: Encoder
    trained_family: Family
    aggregate: NDArray[np.float64]
    n_draws: int
    seed: int
    is_taught: bool

    @torch.no_grad()
    def inference(self) -> Inference:
        encoder, decoder = moved(self.encoder, HOST), moved(self.decoder, HOST)
        family = moved(self.family, HOST).tempered(self.temperature)
        z, log_weights = self.weighted_draws()
        key, normaliser = family.natural(decoder(z))
        mixture, coordinates = Mixture(Scores(key, log_weights - normaliser), family), Coordinates(self.prior.distribution())
        if coordinates.distribution is None:
            return AmortisedInference(encoder, coordinates, decoder, mixture, None)
        proposal = encoder if self.is_taught else FromEncoder(encoder, _laplace(decoder, family, coordinates, self.prior))
        return AmortisedInference(encoder, coordinates, decoder, mixture, LocalDraws(proposal, coordinates, decoder, z, mixture))

    def weighted_draws(self) -> tuple[Tensor, Tensor]:
        z, log_weights = map(HOST.tensor, self.prior.weighted(self.n_draws, np.random.default_rng(self.seed)))
        return z, log_weights

    @property
    def has_own_draws(self) -> bool:
        return self.prior.distribution() is not None

    def sample_aggregate(self, n_samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return self.aggregate[rng.integers(len(self.aggregate), size=n_samples)]

    def remedy(self, of_density: bool) -> str:
        return "Raise pool_size, lower n_components or choose a richer posterior."

    @property
    def last_family(self) -> Family:
        return self.trained_family

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "decoder": self.decoder}


def _laplace(decoder: Decoder, family: Family, coordinates: Coordinates, prior: Prior) -> Laplace:
    """The Laplace approximation, in double precision, with the prior's moments from draws."""
    draws = HOST.tensor(prior.quasi_sample(DRAWS_OF_MOMENTS, np.random.default_rng(0)))
    return Laplace(*moved((decoder, family), HOST), coordinates, robust_gaussian(coordinates.of(draws)))


Record = TypeVar("Record", bound=Fit)


@dataclass(frozen=True, eq=False)
class Placed:
    """A fit where it computes: rows in, arrays out."""

    place: Place
    decoder: Decoder
    family: Family
    temperature: float
    inference: Inference
    holes: Holes | None
    partial: Partial | None

    def standardised(self, X: NDArray) -> Tensor:
        """Rows (n, d) of data in the likelihood's units; ValueError where their squares would overflow here."""
        x = self.family.standardise(X)
        check_representable("X", x, self.place.dtype, self.family.smallest_scale)
        return self.place.tensor(x)

    def restored(self, x: Tensor) -> NDArray:
        """Standardised rows in the units of the data."""
        array = as_array(x)
        return self.family.restore(array).astype(array.dtype, copy=False)

    def output(self, Z: NDArray) -> Tensor:
        """The decoder's output at latent points (m, k)."""
        return self.decoder(self.place.tensor(np.array(Z)))

    def mean(self, Z: NDArray) -> NDArray:
        """Decoder means (m, d) of latent points, in the units of the data."""
        return self.restored(self.family.mean(self.output(Z)))

    def sample(self, Z: NDArray, noise: str, rng: np.random.Generator) -> NDArray:
        """One draw of x for each latent point, (m, d): with "matched" noise of the plan, the "model"'s own, or the "mean".

        A share of broad noise is among the "matched" ones only.
        """
        if noise == "mean":
            return self.mean(Z)
        family = self.family.tempered(self.temperature) if noise == "matched" else self.family
        rows = self.restored(family.noise(self.output(Z), rng))
        return family.disturbed(rows, rng) if noise == "matched" else rows

    def hole_score(self, Z: NDArray) -> NDArray:
        """The c-transform of a potential of zero at latent points, minus its mean over draws of the pool, (m,)."""
        assert self.holes is not None, "a coupled fit has planes"
        eta, normaliser = self.family.natural(self.output(Z))
        return as_array(normaliser - self.temperature * self.holes.planes.largest(eta)) - self.holes.level


@torch.no_grad()
def in_fine_precision(record: Record, X: NDArray) -> Record:
    """The record, answering in double precision where single gives some rows of X (n, d) other means or scores.

    The precision of the costs alone does not say so: a decoder that is far from the data has outputs that are far larger.
    """
    if record.dtype == torch.float64:
        return record
    index = some(len(X), ROWS_COMPARED, np.random.default_rng(0))
    rows = X if index is None else X[index.numpy()]
    answers = []
    for place in (Place(torch.float32), HOST):
        model = record.at(place)
        x = model.standardised(rows)
        answers.append((model.inference.mean(x).double(), model.inference.density().log_density(x)[0].double()))
    (mean, score), (exact_mean, exact_score) = answers
    spread = HOST.tensor(record.prior.sample(ROWS_COMPARED, np.random.default_rng(0))).std(0)
    mean_is_fine = bool(((mean - exact_mean).abs() <= LARGEST_MEAN_ERROR * spread + 1e-6 * exact_mean.abs()).all())
    score_is_fine = bool(((score - exact_score).abs() <= LARGEST_SCORE_ERROR + 1e-4 * exact_score.abs()).all())
    return record if mean_is_fine and score_is_fine else replace(record, dtype=torch.float64)


def host_copy(module: Module) -> Module:
    """A copy of a module on the CPU, in prediction mode, that no training moves on."""
    return copy.deepcopy(module).to("cpu").eval().requires_grad_(False)
