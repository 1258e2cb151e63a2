"""A critic that is trained against the encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import softplus

from skcvae.divergences._base import Divergence, Measure
from skcvae.networks import MLP, LinearPlus


@dataclass(frozen=True, eq=False)
class Adversarial(Divergence):
    r"""What a critic takes the codes for, where its logit T(z) says that z was drawn from the prior.

    .. math::
        \frac1n \sum_i \mathrm{softplus}(-T(z_i)) - \log 2, \qquad
        \text{the critic minimising } \frac1{2n} \sum_i \mathrm{softplus}(T(z_i)) + \frac1{2m} \sum_j \mathrm{softplus}(-T(z'_j))

    The encoder's loss is the non-saturating one: its gradient does not vanish while the critic is sure. It is 0 where the critic
    cannot tell, and below 0 where the critic takes codes for draws. The critic's loss is log 2 at chance. It is trained by steps
    on `Measure.critic_loss` of its own; `Measure.forward` leaves it alone. The samples may differ in size.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(256, 256)
    activation : str, default="relu"
        A key of ``skcvae.networks.ACTIVATIONS``.

    Examples
    --------
    >>> import torch
    >>> from skcvae.divergences import Adversarial
    >>> generator = torch.Generator().manual_seed(0)
    >>> z = torch.randn(100, 2, generator=generator)
    >>> distance = Adversarial((16,)).begin(2, generator)
    >>> optimiser = torch.optim.Adam(distance.parameters(), lr=0.01)
    >>> for _ in range(100):
    ...     optimiser.zero_grad()
    ...     distance.critic_loss(z + 3, z).backward()
    ...     _ = optimiser.step()
    >>> bool(distance(z + 3, z) > 1), bool(distance(z, z) < 0)
    (True, True)
    """

    hidden_layer_sizes: Sequence[int] = (256, 256)
    activation: str = "relu"

    def __post_init__(self) -> None:
        self._network()

    def begin(self, n_coordinates: int, generator: torch.Generator) -> Measure:
        return _Critic(self._network().build(n_coordinates, 1, generator))

    def _network(self) -> MLP:
        return MLP(self.hidden_layer_sizes, self.activation)


class _Critic(Measure):
    def __init__(self, network: LinearPlus) -> None:
        super().__init__()
        self.network = network

    def forward(self, codes: Tensor, draws: Tensor) -> Tensor:
        fixed = {name: parameter.detach() for name, parameter in self.network.named_parameters()}
        return softplus(-functional_call(self.network, fixed, (codes,))).mean() - math.log(2)

    def critic_loss(self, codes: Tensor, draws: Tensor) -> Tensor:
        wrong = softplus(self.network(codes.detach())).mean() + softplus(-self.network(draws.detach())).mean()
        return wrong / 2
