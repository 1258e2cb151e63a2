"""The same fit where Ray Train starts the processes, on one machine or on many: pip install "ray[train]".

Run: python examples/distributed/ray_train.py
"""

from __future__ import annotations

from typing import Any

import ray.train
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer


def work(config: dict[str, Any]) -> None:
    """What each worker does; Ray has begun the process group."""
    from skcvae import CoupledVAE
    from skcvae.datasets import make_gaussian_grid
    from skcvae.distributed import Shards
    from skcvae.schedule import Schedule

    rank = ray.train.get_context().get_world_rank()
    X, _ = make_gaussian_grid(config["n_rows"], random_state=rank)  # the rows that this worker reads from its own files
    model = CoupledVAE(schedule=Schedule(polish_rounds=3, max_draws=16384), random_state=0).fit(Shards(X))
    print(f"worker {rank}: {model.score_samples(X[:1000]).mean():.3f} nats a row")


if __name__ == "__main__":
    TorchTrainer(work, train_loop_config={"n_rows": 2000}, scaling_config=ScalingConfig(num_workers=2)).fit()
