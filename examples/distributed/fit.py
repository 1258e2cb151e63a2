"""One fit by several processes, each with rows of its own.

Run: torchrun --nproc-per-node 2 examples/distributed/fit.py
"""

from __future__ import annotations

import torch.distributed as dist

from skcvae import CoupledVAE
from skcvae.datasets import make_gaussian_grid
from skcvae.distributed import Shards
from skcvae.schedule import Schedule


def main() -> None:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    X, _ = make_gaussian_grid(2000, random_state=rank)  # the rows that this process reads from its own files

    model = CoupledVAE(schedule=Schedule(polish_rounds=3, max_draws=16384), random_state=0, verbose=True).fit(Shards(X))

    scores = model.score_samples(X[:1000])  # asks no other process
    print(f"process {rank} of {size}: {len(X)} rows, {scores.mean():.3f} nats a row")
    if rank == 0:  # all have the same model
        coupling = model.coupling_
        print(f"marginal error {coupling.marginal_error:.1e} with {coupling.n_draws} draws")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
