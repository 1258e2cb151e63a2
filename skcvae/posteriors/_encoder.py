"""Proposals for each row of data: an encoder, and Laplace approximations."""

from __future__ import annotations

import copy
import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc
from torch import Tensor, nn

from skcvae._checks import INTERQUARTILE_RANGE, shown
from skcvae._context import computing, differentiable, plain
from skcvae.likelihoods import Family
from skcvae.posteriors._conditional import Conditional, ConditionalPoint, FullRows, MixedRows, Rows
from skcvae.posteriors._coordinates import Coordinates, Gaussian

Array = NDArray[np.float64]
#: Gauss-Newton steps of the Laplace approximation, and the lengths of which each takes the best.
NEWTON_STEPS = 3
STEP_LENGTHS = (0.0, 1.0, 0.5, 0.2, 0.05)
#: Numbers that the Jacobians of a block of rows may hold: 32 MiB in double precision.
NUMBERS_PER_JACOBIAN = 2**22
#: Robust deviations from the median at which a prior's draws are cut off.
CUT_OFF = 10.0
#: Relative rounding, at most, of a product with a Jacobian.
ROUNDING = 1e-3
#: What a decoder is told that has no derivatives.
NOT_DIFFERENTIABLE = (
    "The decoder must be a module that torch can differentiate by its input, and {}. Write it with torch's functions, without "
    "detach, numpy or changing tensors in place, or give its autograd.Function a backward."
)
#: Of the covariance of the scaled draws, at least, as a share of its largest.
SMALLEST_EIGENVALUE = 1e-10


class Encoder(nn.Module):
    """An amortised posterior of y in the coordinates of a prior.

    Parameters
    ----------
    network : nn.Module, from (n, d) to (n, conditional.n_outputs)
    conditional : Conditional, what the network's output means
    """

    def __init__(self, network: nn.Module, conditional: Conditional) -> None:
        super().__init__()
        self.network = network
        self.conditional = conditional

    @property
    def n_coordinates(self) -> int:
        """Number of coordinates r."""
        return self.conditional.n_coordinates

    def n_draws(self, wanted: int) -> int:
        """Draws that stand for the posterior: `wanted`, or two where there is no spread."""
        return 2 if isinstance(self.conditional, ConditionalPoint) else wanted

    def centre(self, x: Tensor) -> Tensor:
        """Where the noise of zero goes, (n, r)."""
        return self(x).draw(x.new_zeros(1, self.n_coordinates))[0][:, 0]

    def forward(self, x: Tensor) -> Rows:
        """The posterior of each standardised row (n, d)."""
        rows: Rows = self.conditional(self.network(x))
        return rows


class Laplace(nn.Module):
    r"""Gaussians near the modes of the rows' posteriors, as wide as likelihood and prior let them be.

    .. math:: \Sigma^{-1} = \Sigma_y^{-1} + J^T F J

    with the decoder's Jacobian J, the Fisher information F of its output and the prior's mean and covariance :math:`\Sigma_y`.
    Some Gauss-Newton steps, each the best of a few lengths, lead there from a point for each row. Plain reverse-mode
    differentiation is all that it asks of the decoder. Where J or F is not finite, the prior's precision stands alone.

    Parameters
    ----------
    decoder : nn.Module, in which rows do not depend on each other
    family : Family
    coordinates : Coordinates
    prior : Gaussian, with the moments of the prior in these coordinates, see `robust_gaussian`
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, decoder: nn.Module, family: Family, coordinates: Coordinates, prior: Gaussian) -> None:
        super().__init__()
        self.decoder, self.family = decoder, family
        self.coordinates = coordinates
        self.register_buffer("mean", prior.mean)
        self.register_buffer("whitening", prior.whitening)

    def forward(self, x: Tensor, start: Tensor) -> FullRows:
        """The approximation for each standardised row (n, d) from its point (n, r), in any mode of torch and without a history."""
        with computing(with_gradients=False):
            laplace, x, start = differentiable(self), plain(x), plain(start)
            length = max(1, NUMBERS_PER_JACOBIAN // (self.family.n_outputs * len(self.mean)))
            parts = [laplace._approximated(*rows) for rows in zip(x.split(length), start.split(length), strict=True)]
            return FullRows(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _approximated(self, x: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Centres (n, r) and factors of the covariances (n, r, r)."""
        statistics = self.family.statistics(x)
        y = torch.where(torch.isfinite(start), start, self.mean)
        for _ in range(NEWTON_STEPS):
            y = self._improved(y, statistics)
        output, jacobian = decoder_jacobian(self.decoder, self.coordinates, y)
        return y, _inverse_factor(self._upper_factor(self._information(output, jacobian))).to(y)

    def _improved(self, y: Tensor, statistics: Tensor) -> Tensor:
        """One Gauss-Newton step of each row, of the length at which its energy is lowest, zero included."""
        output, jacobian = decoder_jacobian(self.decoder, self.coordinates, y)
        slope = torch.einsum("np,npr->nr", self._output_slope(output, statistics), jacobian) + self._white(y) @ self.whitening
        inverse_factor = _inverse_factor(self._upper_factor(self._information(output, jacobian)))
        step = (inverse_factor @ (inverse_factor.mT @ slope.to(inverse_factor)[:, :, None]))[:, :, 0]
        step = torch.where(torch.isfinite(step).all(1, keepdim=True), step, 0).to(y)
        candidates = y - torch.tensor(STEP_LENGTHS, dtype=y.dtype, device=y.device)[:, None, None] * step
        energies = torch.stack([self._energy(candidate, statistics) for candidate in candidates])
        best = torch.nan_to_num(energies, nan=math.inf).argmin(0)
        return candidates[best, torch.arange(len(y), device=y.device)]

    def _energy(self, y: Tensor, statistics: Tensor) -> Tensor:
        """-log p(y) - log p(x given y) of each row, but for what does not depend on y, with the prior's Gaussian."""
        return self._cost(self.decoder(self.coordinates.latent(y)), statistics) + 0.5 * self._white(y).square().sum(1)

    def _white(self, y: Tensor) -> Tensor:
        return (y - self.mean) @ self.whitening.T

    def _cost(self, output: Tensor, statistics: Tensor) -> Tensor:
        eta, normaliser = self.family.natural(output)
        return normaliser - (eta * statistics).sum(1)

    def _output_slope(self, output: Tensor, statistics: Tensor, *, twice: bool = False) -> Tensor:
        """Gradient of each row's cost in the decoder's output, (n, p)."""
        with torch.enable_grad():
            output = output if twice else output.detach().requires_grad_()
            return _gradient(self._cost(output, statistics), output, twice=twice)

    def _information(self, output: Tensor, jacobian: Tensor) -> Tensor:
        """Fisher information J' F J of y in double precision, (n, r, r).

        F is the Hessian of the negative log-likelihood with respect to the decoder's output. The expected statistics take the place
        of the row's, so that the gradient is zero.
        """
        n_rows, _, r = jacobian.shape
        columns = jacobian.mT.flatten(0, 1)  # (n r, p), each beside a copy of its row's output
        barycentre = self.family.mean_statistics(output).repeat_interleave(r, 0)
        with torch.enable_grad():
            copies = output.repeat_interleave(r, 0).requires_grad_()
            slope = self._output_slope(copies, barycentre, twice=True)
            bent = _gradient(slope, copies, columns) if slope.requires_grad else torch.zeros_like(columns)
        information = jacobian.mT.double() @ bent.unflatten(0, (n_rows, r)).mT.double()
        return 0.5 * (information + information.mT)

    def _upper_factor(self, information: Tensor) -> Tensor:
        """U with U U' the precision of each row in double precision; where it has none, of the prior's alone."""
        prior = (self.whitening.T.double() @ self.whitening.double()).expand_as(information)
        factor, failed = _upper_cholesky(prior + information)
        if failed.any():  # rounding has made the smallest eigenvalues negative: a little of the diagonal mends it
            diagonal = information.diagonal(dim1=1, dim2=2).abs()
            rounding = torch.finfo(self.whitening.dtype).eps * information.shape[1]
            mended, still_failed = _upper_cholesky(prior + information + torch.diag_embed(rounding * diagonal))
            mended = torch.where(still_failed[:, None, None], _upper_cholesky(prior)[0], mended)
            factor = torch.where(failed[:, None, None], mended, factor)
        return factor


def check_differentiable(decoder: nn.Module, coordinates: Coordinates, z: Tensor) -> None:
    """ValueError unless autograd gives a decoder's Jacobian at latent points z (m, k); a dry run, for before training.

    A decoder whose outputs differ while torch sees no slope anywhere is refused too: it leaves autograd, or rounds.
    """
    try:
        with computing(with_gradients=False):
            outputs, jacobians = decoder_jacobian(copy.deepcopy(decoder).eval(), coordinates, plain(coordinates.of(z)))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError) as error:
        raise ValueError(NOT_DIFFERENTIABLE.format(f"it failed: {shown(error)}")) from error
    if bool((outputs != outputs[:1]).any()) and not bool(jacobians.any()):
        found = f"its outputs at {len(z)} latent points differ while all their derivatives are 0"
        raise ValueError(NOT_DIFFERENTIABLE.format(found))


def decoder_jacobian(decoder: nn.Module, coordinates: Coordinates, y: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (n, p) of the decoder at y (n, r) and their Jacobians (n, p, r); zero where they do not depend on y.

    The rows do not depend on each other, so that one backward pass gives a line of all Jacobians. There are as many passes as the
    narrower side has numbers. A column takes a second backward pass, through the first; a decoder that cannot be differentiated
    twice, or whose own backward hides what it does from torch, pays a pass for every output.
    """
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        output: Tensor = decoder(coordinates.latent(y.clone()))  # a module may change its input in place, but not a leaf
        if not output.requires_grad:
            return output, _no_slope(output, y)
        if y.shape[1] < output.shape[1]:
            found = _by_columns(output, y)
            if found is not None:
                return output.detach(), found
            output = decoder(coordinates.latent(y.clone()))
        lines = [_gradient(output[:, i], y, keep=True) for i in range(output.shape[1])]
        return output.detach(), torch.stack(lines, 1)


def _by_columns(output: Tensor, y: Tensor) -> Tensor | None:
    """Jacobians (n, p, r) by the columns, or None where they are not to be had so.

    g = J'v is linear in v, and its slopes in v are the lines of J'. They are all of g only where torch saw all of its making.
    """
    v = torch.linspace(1, 2, output.shape[1], dtype=output.dtype, device=output.device).repeat(len(output), 1).requires_grad_()
    try:
        (pulled,) = torch.autograd.grad(output, y, v, create_graph=True, allow_unused=True)
        if pulled is None:
            return _no_slope(output, y)
        if not pulled.requires_grad:
            return None
        jacobian = torch.stack([_gradient(pulled[:, i], v, keep=True) for i in range(y.shape[1])], 2)
    except RuntimeError:  # not twice differentiable
        return None
    with torch.no_grad():
        again, size = (torch.einsum("npr,np->nr", part, v) for part in (jacobian, jacobian.abs()))
        return None if bool(((again - pulled).abs() > ROUNDING * (size + pulled.abs())).any()) else jacobian


def _no_slope(output: Tensor, y: Tensor) -> Tensor:
    return output.new_zeros(*output.shape, y.shape[1])


def _gradient(of: Tensor, by: Tensor, weights: Tensor | None = None, *, twice: bool = False, keep: bool = False) -> Tensor:
    """Gradient of a (weighted) sum; zero where it does not depend on what is asked for."""
    weights = torch.ones_like(of) if weights is None else weights
    (found,) = torch.autograd.grad(of, by, weights, create_graph=twice, retain_graph=twice or keep, allow_unused=True)
    return torch.zeros_like(by) if found is None else found


def _upper_cholesky(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Upper triangular U with U U' = A (n, r, r), and whether there is none, (n,): Cholesky's factor from the last corner."""
    factor, info = torch.linalg.cholesky_ex(matrices.flip(1, 2))
    return factor.flip(1, 2), (info != 0) | ~torch.isfinite(factor).all(2).all(1)


def _inverse_factor(upper: Tensor) -> Tensor:
    """Lower triangular L with L L' the inverse of U U'."""
    identity = torch.eye(upper.shape[1], dtype=upper.dtype, device=upper.device).expand_as(upper)
    return torch.linalg.solve_triangular(upper, identity, upper=True).mT


@torch.no_grad()
def robust_gaussian(y: Tensor) -> Gaussian:
    """The Gaussian of draws y (m, r), in their precision; finite and of full rank for any draws.

    A coordinate is cut off ten robust deviations from its median, which touches no draw of a Gaussian; infinite ones come
    there and NaN to the median. A covariance of fewer than four draws a coordinate is drawn towards its diagonal.
    """
    draws = y.detach().double()
    levels = [_robust_level(column) for column in draws.T]
    middle, deviation = (torch.tensor(part, dtype=torch.float64, device=y.device) for part in zip(*levels, strict=True))
    draws = torch.where(torch.isnan(draws), middle, draws)
    draws = torch.maximum(torch.minimum(draws, middle + CUT_OFF * deviation), middle - CUT_OFF * deviation)
    n_draws, r = draws.shape
    mean = draws.mean(0)
    white = (draws - mean) / deviation
    covariance = white.T @ white / max(1, n_draws - 1)
    if n_draws < 4 * r:
        share = r / (n_draws + r)
        covariance = (1 - share) * covariance + share * covariance.diagonal().diag()
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp(min=SMALLEST_EIGENVALUE * max(float(values[-1]), 1.0))
    whitening = vectors.T / (values.sqrt()[:, None] * deviation)
    return Gaussian(mean.to(y), whitening.to(y))


def _robust_level(column: Tensor) -> tuple[float, float]:
    """Median and a robust deviation of the finite numbers of a column; 0 and 1 where nothing is left to tell."""
    numbers = column[torch.isfinite(column)].cpu().numpy()
    if len(numbers) == 0:
        return 0.0, 1.0
    low, middle, high = np.quantile(numbers, [0.25, 0.5, 0.75])
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = max((high - low) / INTERQUARTILE_RANGE, 0.0) or float(np.std(numbers))
    smallest = np.finfo(np.float64).eps * max(abs(middle), 1.0)
    return float(middle), float(deviation) if smallest < deviation < np.inf else 1.0


class FromEncoder(nn.Module):
    """The Laplace approximation from an encoder's centres.

    Parameters
    ----------
    encoder : Encoder
    laplace : Laplace
    """

    def __init__(self, encoder: Encoder, laplace: Laplace) -> None:
        super().__init__()
        self.encoder, self.laplace = encoder, laplace

    def forward(self, x: Tensor) -> Rows:
        """The approximation for each standardised row (n, d)."""
        rows: Rows = self.laplace(x, self.encoder.centre(x))
        return rows


class Refined(FromEncoder):
    """Mixtures of an encoder and the Laplace approximation from its centres: one knows the coupling, the other the likelihood."""

    def forward(self, x: Tensor) -> MixedRows:
        """The mixture for each standardised row (n, d)."""
        return MixedRows(self.encoder(x), super().forward(x))


def normal_scores(n_draws: int, n_coordinates: int, seed: int = 0) -> Tensor:
    """Evenly spread standard normal draws in pairs y and -y, so that their mean is zero; the same for a seed, (n_draws, r)."""
    return torch.as_tensor(_normal_scores(n_draws, n_coordinates, seed).copy())


@functools.cache
def _normal_scores(n_draws: int, n_coordinates: int, seed: int) -> Array:
    """As an array: a tensor would keep the mode of torch in which it was first asked for."""
    n_pairs = (n_draws + 1) // 2
    sequence = qmc.Sobol(n_coordinates, rng=np.random.default_rng(seed)).random_base2((n_pairs - 1).bit_length())
    half = ndtri(sequence[:n_pairs].clip(1e-10, 1 - 1e-10))
    return np.concatenate([half, -half])[:n_draws]
