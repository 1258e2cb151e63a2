"""Makes the model files that later versions must read, and what the models answered."""

import sys
import warnings
from pathlib import Path

import numpy as np

from skcvae import VAE, CoupledVAE
from skcvae.schedule import Schedule

HERE = Path(__file__).parent


def main() -> None:
    X = np.random.default_rng(0).random((60, 4))
    warnings.simplefilter("ignore")
    small = {"hidden_layer_sizes": (4,), "pool_size": 64, "max_iter": 20, "random_state": 0}
    coupled = CoupledVAE(prior="mixture", schedule=Schedule(polish_rounds=1, max_draws=64), **small)
    for name, model in (("VAE", VAE(encoder="planar", **small)), ("CoupledVAE", coupled)):
        model.fit(X).save(HERE / f"{name}.skcvae")
        np.save(HERE / f"{name}.npy", model.score_samples(X[:5]))


if __name__ == "__main__":
    sys.exit(main())
