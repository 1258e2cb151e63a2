"""Side by side with pythae 0.1.2: its VAE, WAE-MMD and InfoVAE-MMD and ours, on the grid of 25 Gaussians.

Protocol: 256 points a mode, networks of three hidden layers of 256 with a linear map beside them, the same modules and initial
weights for both; Gaussian noise of scale 0.1, 8000 steps of 256 rows, Adam from 1e-3 down half a cosine; WAE penalty 1; InfoVAE
alpha 0, lambda 2. The two train in turns in one process, `--repeats` times; the time of a step is the median over repeats of
training time over steps, the trainers' own bookkeeping included. Of 20000 samples with matched noise (WAE: with the residual's),
the share within 4 standard deviations, as in gaussians25.py.

Run: python benchmarks/peers.py [--repeats 3] [--steps 8000]     (needs pip install pythae==0.1.2)
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gaussians25 import grid_metrics, make_grid
from pythae.models import INFOVAE_MMD, WAE_MMD, BetaVAE, BetaVAEConfig, INFOVAE_MMD_Config, VAEConfig, WAE_MMD_Config
from pythae.models import VAE as PythaeVAE
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import nn

from skcvae import VAE, WAE, InfoVAE
from skcvae.likelihoods import GaussianLikelihood
from skcvae.networks import MLP, Network

SCALE, BATCH, N_SAMPLES = 0.1, 256, 20000
WIDTHS = (256, 256, 256)
OURS: dict[str, Callable[..., Any]] = {
    "VAE": VAE,
    "WAE": lambda **kw: WAE(penalty=1.0, **kw),
    "InfoVAE": lambda **kw: InfoVAE(alpha=0.0, lambd=2.0, **kw),
}


def pythae_model(name: str, penalty: float, **networks: nn.Module) -> Any:
    """A model of pythae's with our networks."""
    shared: dict[str, Any] = {"input_dim": (2,), "latent_dim": 2}
    if name == "VAE":
        return PythaeVAE(VAEConfig(**shared), **networks)
    if name == "WAE":
        return WAE_MMD(WAE_MMD_Config(reg_weight=penalty, reconstruction_loss_scale=0.5, **shared), **networks)
    return INFOVAE_MMD(INFOVAE_MMD_Config(alpha=0.0, lbd=2.0, **shared), **networks)


class Encoder(BaseEncoder):
    """Our network in pythae's words; data come divided by the noise's scale."""

    def __init__(self, network: nn.Module, is_point: bool, scale: float) -> None:
        super().__init__()
        self.network, self.is_point, self.scale = network, is_point, scale

    def forward(self, x: torch.Tensor) -> ModelOutput:
        output = self.network(x * self.scale)
        if self.is_point:
            return ModelOutput(embedding=output)
        mean, log_variance = output.chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    """Our network in pythae's words; reconstructions go divided by the noise's scale."""

    def __init__(self, network: nn.Module, scale: float) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.network(z) / self.scale)


def networks(n_outputs: int, seed: int, batch_norm: bool = False) -> tuple[nn.Module, nn.Module]:
    """An encoder's and a decoder's network."""
    generator, architecture = torch.Generator().manual_seed(seed), MLP(WIDTHS, batch_norm=batch_norm)
    return architecture.encoder(2, n_outputs, generator), architecture.decoder(2, 2, generator)


def ours(name: str, X: np.ndarray, n_steps: int, seed: int) -> tuple[float, np.ndarray]:
    """Seconds a step and samples."""
    pair = networks(2 if name == "WAE" else 4, seed)
    schedule = {"max_iter": n_steps, "n_iter_no_change": n_steps, "batch_size": BATCH}
    model = OURS[name](network=pair, likelihood=GaussianLikelihood(SCALE), random_state=seed, **schedule)
    begin = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - begin
    return seconds / n_steps, model.sample(N_SAMPLES, random_state=seed)


def theirs(
    name: str, X: np.ndarray, n_steps: int, seed: int, scale: float = SCALE, penalty: float = 1.0, batch_norm: bool = False
) -> tuple[float, np.ndarray]:
    """Seconds a step and samples."""
    torch.manual_seed(seed)
    encoder, decoder = networks(2 if name == "WAE" else 4, seed, batch_norm)
    model = pythae_model(name, penalty, encoder=Encoder(encoder, name == "WAE", scale), decoder=Decoder(decoder, scale))
    data = torch.as_tensor(X / scale, dtype=torch.float32)
    seconds, model = trained(model, data, n_steps, 1e-3, seed)
    return seconds, drawn(name, model, data, seed, scale)


def theirs_of_images(
    name: str, X: np.ndarray, k: int, value: float, architecture: Network, n_steps: int, rate: float, seed: int, n_samples: int
) -> tuple[float, np.ndarray]:
    """Seconds a step and binary samples."""
    torch.manual_seed(seed)
    model = image_model(name, X.shape[1], k, value, architecture, torch.Generator().manual_seed(seed))
    seconds, model = trained(model, torch.as_tensor(X, dtype=torch.float32), n_steps, rate, seed)
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        z = torch.as_tensor(rng.normal(size=(n_samples, k)), dtype=torch.float32)
        mean = model.eval().decoder(z).reconstruction.numpy()
    return seconds, (rng.random(mean.shape) < mean).astype(np.float32)


def image_model(name: str, n_features: int, k: int, value: float, architecture: Network, generator: torch.Generator) -> Any:
    """A model of binary images; of the VAE `value` is beta, of the WAE the penalty.

    The WAE's loss knows only the squared error, here with the factor 2 that makes it the quadratic bound on Bernoulli's divergence.
    """
    shared: dict[str, Any] = {"input_dim": (n_features,), "latent_dim": k}
    encoder = Encoder(architecture.encoder(n_features, k if name == "WAE" else 2 * k, generator), name == "WAE", 1.0)
    decoder = Decoder(nn.Sequential(architecture.decoder(k, n_features, generator), nn.Sigmoid()), 1.0)
    if name == "VAE":
        return BetaVAE(BetaVAEConfig(beta=value, reconstruction_loss="bce", **shared), encoder, decoder)
    return WAE_MMD(WAE_MMD_Config(reg_weight=value, reconstruction_loss_scale=2.0, **shared), encoder, decoder)


def trained(model: Any, data: torch.Tensor, n_steps: int, rate: float, seed: int) -> tuple[float, Any]:
    """Seconds a step and the model that pythae's trainer ends with."""
    n_epochs = n_steps * BATCH // len(data)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=n_epochs,
            per_device_train_batch_size=BATCH,
            learning_rate=rate,
            optimizer_cls="Adam",
            scheduler_cls="CosineAnnealingLR",
            scheduler_params={"T_max": n_epochs},
            no_cuda=True,
            seed=seed,
        )
        trainer = BaseTrainer(model, train_dataset=dataset(data), training_config=config)
        begin = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begin
    return seconds / n_steps, trainer.model


def dataset(data: torch.Tensor) -> Any:
    """Data in pythae's words."""
    from pythae.data.datasets import BaseDataset

    return BaseDataset(data, torch.zeros(len(data)))


@torch.no_grad()
def drawn(name: str, model: Any, data: torch.Tensor, seed: int, unit: float) -> np.ndarray:
    """Samples with matched noise, or the residual's."""
    rng = np.random.default_rng(seed)
    model = model.eval()
    z = torch.as_tensor(rng.normal(size=(N_SAMPLES, 2)), dtype=torch.float32)
    mean = model.decoder(z).reconstruction.numpy() * unit
    residual = model.decoder(model.encoder(data).embedding).reconstruction - data
    scale = unit * (float(residual.square().mean().sqrt()) if name == "WAE" else 1.0)
    return mean + scale * rng.normal(size=mean.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8000)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print("| model | by | within 4 std, % | modes | std | ms a step | ratio |\n|" + "---|" * 7)
    for name in OURS:
        runs = [
            [train(name, make_grid(0.05, s, 256), arguments.steps, s) for train in (ours, theirs)] for s in range(arguments.repeats)
        ]
        times = np.median([[seconds for seconds, _ in pair] for pair in runs], axis=0)
        for index, label in enumerate(("skcvae", "pythae")):
            found = [grid_metrics(pair[index][1], 0.05) for pair in runs]
            within, modes, std = (np.mean([row[key] for row in found]) for key in ("within", "modes", "std"))
            spread = np.std([row["within"] for row in found])
            cells = (
                f"{within:.1f} ± {spread:.1f} | {modes:.1f} | {std:.4f} | {1e3 * times[index]:.2f} | {times[index] / times[1]:.2f}"
            )
            print(f"| {name} | {label} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
