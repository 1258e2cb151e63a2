"""Makes the model files that later versions must read, and what the models answered."""

import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import QUICK

from skcvae import VAE, CoupledVAE
from skcvae.transport import SemiDual

HERE = Path(__file__).parent
X = np.random.default_rng(0).random((60, 4))
warnings.simplefilter("ignore")
small = {**QUICK, "hidden_layer_sizes": (4,), "pool_size": 64, "max_iter": 20}
coupled = CoupledVAE(prior="mixture", formulation=SemiDual(polish_rounds=1, max_draws=64), **small)
for name, model in (("VAE", VAE(posterior="planar", **small)), ("CoupledVAE", coupled)):
    model.fit(X).save(HERE / f"{name}.skcvae")
    np.save(HERE / f"{name}.npy", model.score_samples(X[:5]))
