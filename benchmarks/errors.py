"""Are standard errors of `score_samples` what they say: the truth within two of them, and how far off are scores.

- `linear`: k components, 2k + 2 features, decoder linear, so that the density is a Gaussian. The truth is exact.
- `relu`, `steep`: scikit-learn's digits, dequantised, eight components, networks of that activation. The truth is a long
  run of the same estimate with 2^17 draws of the prior and up to four times 2^14 of the row's own. Its own error is added.

All fits are short: the question is of the scores, not of the model. 200 rows that were not fitted, seeds pooled. `finite` is the
share of rows with finite error, `within two` and `four above` are shares of these: truth within two errors, score more than four
above. `bias` and `rms` are of scores minus truth in nats, over all rows. `draws`: 0 is the pool alone.

Run: python benchmarks/errors.py [--components 2 4 8 16 32] [--draws 0 256 1024]
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import replace

import numpy as np
import torch
from cells import table
from factors import digits
from numpy.typing import NDArray
from torch import nn
from torch.distributions import MultivariateNormal

from skcvae import CoupledVAE
from skcvae._place import HOST
from skcvae.networks import Given
from skcvae.posteriors import FromPool, LocalDraws, Mixture, Scores
from skcvae.priors import Prior
from skcvae.schedule import Schedule

Array = NDArray[np.float64]
N_ROWS, N_LONG, N_OWN = 200, 2**17, 2**14
SHORT = Schedule(polish_rounds=1, max_draws=16384)


def linear(k: int, seed: int) -> tuple[CoupledVAE, Array, Array, Array]:
    """Model, rows, their log-density and its error."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(1000 + N_ROWS, k)) @ rng.normal(size=(k, 2 * k + 2)) + 0.5 * rng.normal(size=(1000 + N_ROWS, 2 * k + 2))
    network = Given(None, lambda n_inputs, n_outputs: nn.Linear(n_inputs, n_outputs), linear=False)
    model = CoupledVAE(k, network=network, schedule=SHORT, max_iter=200, random_state=seed).fit(X[N_ROWS:])
    fitted = model._fitted.at(HOST)
    family, decoder = fitted.inference.mixture.family, fitted.decoder
    with torch.no_grad():
        bias = decoder(torch.zeros(1, k, dtype=torch.float64))[0]
        weight = (decoder(torch.eye(k, dtype=torch.float64)) - bias).T
    covariance = weight @ weight.T + family.scale.double() ** 2 * torch.eye(len(weight))
    x = fitted.standardised(X[:N_ROWS])
    truth, error = family.in_units(X[:N_ROWS], MultivariateNormal(bias, covariance).log_prob(x).numpy(), np.zeros(N_ROWS))
    return model, X[:N_ROWS], truth, error


def network(activation: str, seed: int) -> tuple[CoupledVAE, Array, Array, Array]:
    first, second = digits()
    model = CoupledVAE(8, activation=activation, schedule=SHORT, random_state=seed).fit(first)
    inference = model._fitted.at(HOST).inference
    X = second[:N_ROWS]
    x = model._fitted.at(HOST).standardised(X)
    found = long_run(inference.density(), model.prior_).log_density(x)
    truth, error = model.likelihood_.in_units(X, *(part.numpy() for part in found))
    return model, X, truth, error


@torch.no_grad()
def long_run(local: LocalDraws, prior: Prior) -> LocalDraws:
    """The same estimate with many times the draws, of the prior and of a row's own."""
    z, log_weights = map(torch.as_tensor, prior.weighted(N_LONG, np.random.default_rng(5)))
    key, normaliser = local.mixture.family.natural(local.decoder(z))
    mixture = Mixture(Scores(key, log_weights - normaliser), local.mixture.family)
    near = FromPool(local.proposal.laplace, mixture, z)
    return replace(local, proposal=near, of_prior=z, mixture=mixture, n_draws=N_OWN)


def measured(case: tuple[CoupledVAE, Array, Array, Array], n_draws: int) -> dict[str, Array]:
    model, X, truth, truth_error = case
    begin = time.process_time()
    score, error = model.score_samples(X, return_std=True, n_draws=n_draws)
    seconds = time.process_time() - begin
    difference, total = score - truth, np.hypot(error, truth_error)
    return {"difference": difference, "error": error, "total": total, "seconds": np.full(1, seconds)}


def line(cases: list[tuple[CoupledVAE, Array, Array, Array]], n_draws: int) -> list[str]:
    parts = [measured(case, n_draws) for case in cases]
    difference, error, total, seconds = (np.concatenate([part[name] for part in parts]) for name in parts[0])
    finite = np.isfinite(error)
    within = np.abs(difference[finite]) <= 2 * total[finite]
    above = difference[finite] > 4 * total[finite]
    return [
        f"{100 * finite.mean():.1f} %",
        f"{100 * within.mean():.1f} %",
        f"{100 * above.mean():.2f} %",
        f"{difference.mean():.3f}",
        f"{np.sqrt(np.square(difference).mean()):.3f}",
        f"{np.median(error):.3f}",
        f"{N_ROWS * len(parts) / seconds.sum():.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--components", type=int, nargs="*", default=[2, 4, 8, 16, 32])
    parser.add_argument("--activations", nargs="*", default=["relu", "steep"])
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 256, 1024])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines: list[list[str]] = []
    for kind, values in ((linear, arguments.components), (network, arguments.activations)):
        for value in values:
            cases = [kind(value, seed) for seed in arguments.seeds]
            lines += [[f"{kind.__name__}, {value}", f"{n_draws}", *line(cases, n_draws)] for n_draws in arguments.draws]
    print(table(["model", "draws", "finite", "within two", "four above", "bias", "rms", "median error", "rows/s"], lines))


if __name__ == "__main__":
    main()
