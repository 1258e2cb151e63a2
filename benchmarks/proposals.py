"""Effective sample size and the error of `score_samples`, by latent dimension and proposal.

Protocol: scikit-learn's digits, dequantised as (X + U[0, 1))/17, constant columns dropped, a quarter held out (seed 0);
`CoupledVAE(k, proposal="encoder", random_state=0)` with at most three rounds of polishing and pools of at most 16384 draws. The
same fit answers for both proposals, since the encoder comes after everything else. On 50 held-out rows: median effective sample
size and Pareto k-hat of the coupled posterior, and mean and root mean square of the log-likelihood's difference to a long run of
2^17 draws, half from the encoder and half from the prior, weighted against the mixture.

Run: python benchmarks/proposals.py [--components 2 8 32]
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import torch
from factors import digits

from skcvae import CoupledVAE
from skcvae._place import HOST
from skcvae.posteriors import LocalInference, PoolInference, defensive_draws, posterior
from skcvae.schedule import Schedule

N_ROWS, LONG_RUN, PER_BLOCK = 50, 2**17, 2**14


@torch.no_grad()
def long_run(inference: LocalInference, x: torch.Tensor, prior_draws: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Log-likelihood of one standardised row from many draws, with fresh noise in every block."""
    local, family = inference.local, inference.local.mixture.family
    logs = []
    for of_prior in prior_draws.split(PER_BLOCK):
        noise = torch.randn(PER_BLOCK, of_prior.shape[1], generator=generator, dtype=x.dtype)
        own, log_ratio = defensive_draws(local.proposal(x[None]), local.coordinates, of_prior, noise)
        key, normaliser = family.natural(local.decoder(torch.cat([own[0], of_prior])))
        logs.append(torch.logsumexp(log_ratio[0] + key @ family.statistics(x[None])[0] - normaliser, 0))
    log_sum = torch.logsumexp(torch.stack(logs), 0) - np.log(len(logs))
    return log_sum - family.carrier(x[None])[0]


def rows(k: int) -> None:
    """The table's rows of one latent dimension."""
    first, second = digits()
    short = Schedule(polish_rounds=3, max_draws=16384)
    start = time.perf_counter()
    model = CoupledVAE(k, proposal="encoder", schedule=short, random_state=0).fit(first)
    seconds = time.perf_counter() - start
    inference = model._fitted.at(HOST).inference
    assert isinstance(inference, LocalInference)
    pooled = PoolInference(model._fitted.pool, inference.family, inference.epsilon)
    x = torch.as_tensor(model.likelihood_.standardise(second[:N_ROWS]))
    generator = torch.Generator().manual_seed(0)
    prior_draws = torch.as_tensor(model.prior_.quasi_sample(LONG_RUN // 2, np.random.default_rng(5)))
    reference = torch.stack([long_run(inference, row, prior_draws, generator) for row in x])
    for name, kind in (("prior", pooled), ("encoder", inference)):
        found = posterior(kind, x)
        with torch.no_grad():
            error = kind.density().log_density(x)[0] - reference
        size, k_hat = np.median(found.importance_ess), np.median(found.pareto_k())
        print(
            f"| {k} | {name} | {size:.1f} | {k_hat:.2f} | {error.mean():+.2f} | {error.square().mean().sqrt():.2f} | "
            f"{reference.mean() - model.likelihood_.log_volume:.2f} | {seconds:.0f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--components", type=int, nargs="+", default=[2, 8, 32])
    warnings.simplefilter("ignore")
    print("| k | proposal | ESS | k-hat | mean error | rms error | long run, nats | fit, s |\n|" + "---|" * 8)
    for k in parser.parse_args().components:
        rows(k)


if __name__ == "__main__":
    main()
