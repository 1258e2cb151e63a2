r"""Likelihoods p(x given z) of the decoder: a small abstract class and its final classes.

Every likelihood here is an exponential family, so that its cost is bilinear,

.. math:: C(x, z) = -\log p(x \mid z) = A(z) + h(x) - t(x) \cdot \eta(z),

and the decoder's training is a regression of its mean statistics onto the plan's barycentre O(z) = E[t(x) given z]: the
semi-dual's gradient is that of the Kullback-Leibler divergence from the member of the family with mean statistics O(z) to the
decoder's. A likelihood sees the decoder's output, never z.

A likelihood that the user makes (`GaussianLikelihood`, `BernoulliLikelihood`) holds parameters only; ``bind(X)`` returns the
`Family` fitted to the data's location and scale, in whose standardised units x = (X - offset)/unit the tensors below are.
"""

from skcvae.likelihoods._background import Background, alone_among
from skcvae.likelihoods._bernoulli import BernoulliLikelihood
from skcvae.likelihoods._discrete import MOST_CATEGORIES, Categorical, CategoricalLikelihood, Discrete, Poisson, PoissonLikelihood
from skcvae.likelihoods._family import Family, Likelihood, mean_of_rows, shrunk_axes, variance_of_rows
from skcvae.likelihoods._gaussian import UNKNOWN, AutoLikelihood, GaussianLikelihood, MappedGaussian, begun, noise_scale
from skcvae.likelihoods._given import Given
from skcvae.likelihoods._product import MixedLikelihood, Product
from skcvae.likelihoods._rows import RowMap, gaussian_parts, halves, updated

#: Likelihoods that have a name.
LIKELIHOODS: dict[str, type[Likelihood] | Likelihood] = {
    "auto": AutoLikelihood,
    "gaussian": GaussianLikelihood,
    "table": GaussianLikelihood(covariance="residual", marginals="power"),
    "bernoulli": BernoulliLikelihood,
}

__all__ = [
    "LIKELIHOODS",
    "MOST_CATEGORIES",
    "UNKNOWN",
    "AutoLikelihood",
    "Background",
    "BernoulliLikelihood",
    "Categorical",
    "CategoricalLikelihood",
    "Discrete",
    "Family",
    "GaussianLikelihood",
    "Given",
    "Likelihood",
    "MappedGaussian",
    "MixedLikelihood",
    "Poisson",
    "PoissonLikelihood",
    "Product",
    "RowMap",
    "alone_among",
    "begun",
    "gaussian_parts",
    "halves",
    "mean_of_rows",
    "noise_scale",
    "shrunk_axes",
    "updated",
    "variance_of_rows",
]
