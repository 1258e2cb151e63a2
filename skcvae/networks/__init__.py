"""Networks: sizes, activations and shapes of images, and nothing of what their output means.

A `Network` is what the user chooses and holds parameters only; `decoder` and `encoder` build torch modules, in which a linear map
runs beside the hidden layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from skcvae._random import seeded
from skcvae.networks._base import ACTIVATIONS, Network
from skcvae.networks._conv import Conv
from skcvae.networks._given import Given
from skcvae.networks._layers import Decoder, LinearPlus, Steep
from skcvae.networks._mlp import MLP
from skcvae.networks._modes import fewest_rows, has_modes


def conv(hidden_layer_sizes: Sequence[int], activation: str) -> Network:
    """Convolutions of square grey images; they have no use for `hidden_layer_sizes`.

    Examples
    --------
    >>> from skcvae.networks import conv
    >>> conv((256, 256), "relu").bind(64)
    Conv(image_shape=(1, 8, 8), channels=(32, 64), stem=None, activation='relu', batch_norm=False)
    """
    return Conv(activation=activation)


#: Architectures that have a name, by an estimator's hidden_layer_sizes and activation.
NETWORKS: dict[str, Callable[[Sequence[int], str], Network]] = {"mlp": MLP, "conv": conv}


def as_network(value: Any, hidden_layer_sizes: Sequence[int], activation: str) -> Network:
    """The architecture that a user's value stands for.

    Parameters
    ----------
    value : str, Network, or tuple (encoder, decoder) of torch modules, functions ``f(n_inputs, n_outputs)`` or None
    hidden_layer_sizes : sequence of int, what "mlp" is built from
    activation : str, what "mlp" and "conv" are built from

    Returns
    -------
    Network

    Raises
    ------
    TypeError, ValueError
        When the value is none of these, or another parameter is not as expected, used or not.

    Examples
    --------
    >>> from skcvae.networks import as_network
    >>> as_network("mlp", (16,), "tanh")
    MLP(hidden_layer_sizes=(16,), activation='tanh', batch_norm=False)
    """
    named = {name: build(hidden_layer_sizes, activation) for name, build in NETWORKS.items()}
    if isinstance(value, Network):
        return value
    if isinstance(value, str) and value in named:
        return named[value]
    if isinstance(value, tuple) and len(value) == 2:
        return Given(*value)
    error = ValueError if isinstance(value, str) else TypeError
    names = ", ".join(map(repr, NETWORKS))
    raise error(
        f"network must be one of {names}, a skcvae.networks.Network or a tuple (encoder, decoder), got {value!r}.{_remedy(value)}"
    )


def _remedy(value: Any) -> str:
    if isinstance(value, nn.Module):
        return " Give (None, decoder), or (encoder, decoder) where the estimator has an encoder."
    return f" Give an object: {value.__name__}()." if isinstance(value, type) and issubclass(value, Network) else ""


__all__ = [
    "ACTIVATIONS",
    "MLP",
    "NETWORKS",
    "Conv",
    "Decoder",
    "Given",
    "LinearPlus",
    "Network",
    "Steep",
    "as_network",
    "conv",
    "fewest_rows",
    "has_modes",
    "seeded",
]
