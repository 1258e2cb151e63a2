r"""Divergences between the aggregate posterior and the prior, both given as samples.

They are penalties in the training of a decoder with an encoder: the codes z of the data should together look like draws z' from
the prior. Both come standardised, with zero mean and identity covariance under the prior.

A divergence that the user makes (`MMD`, `SinkhornDivergence`, `SlicedWasserstein`, `Adversarial`) holds parameters only; `begin`
returns the `Measure` that a training calls on its minibatches, a module that moves with the networks.
"""

from skcvae.divergences._adversarial import Adversarial
from skcvae.divergences._base import Divergence, Measure
from skcvae.divergences._mmd import KERNELS, MMD
from skcvae.divergences._sinkhorn import SinkhornDivergence
from skcvae.divergences._sliced import SlicedWasserstein

#: Divergences that have a name.
DIVERGENCES: dict[str, type[Divergence]] = {
    "mmd": MMD,
    "sinkhorn": SinkhornDivergence,
    "sliced": SlicedWasserstein,
    "adversarial": Adversarial,
}

__all__ = ["DIVERGENCES", "KERNELS", "MMD", "Adversarial", "Divergence", "Measure", "SinkhornDivergence", "SlicedWasserstein"]
