"""The user's own modules."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from skcvae._checks import check_flag
from skcvae._context import float32_by_default
from skcvae._random import seeded
from skcvae.networks._base import Network
from skcvae.networks._layers import LinearPlus

#: What builds a module from the numbers of its inputs and outputs.
Factory = Callable[[int, int], nn.Module]
#: What a user's module may raise at inputs of a shape that it was not made for.
MISFITS = (RuntimeError, ValueError, TypeError, IndexError)


class Given(Network):
    """The user's own pair of encoder and decoder, copied before it is trained.

    A linear map that starts at zero runs beside each, so that a network begins as the module that was given. The start of a fit
    lays the decoder's along the principal axes. Layers that are given in evaluation mode stay in it.

    Parameters
    ----------
    encoder : nn.Module or function ``f(n_inputs, n_outputs) -> nn.Module``, default=None
        From data (n, n_inputs) to a posterior's parameters (n, n_outputs); None where the estimator needs none. A function is
        called with torch's default precision single.
    decoder : nn.Module or function ``f(n_inputs, n_outputs) -> nn.Module``, default=None
        From latent inputs (m, n_inputs) to a likelihood's parameters (m, n_outputs): logits, or means of standardised data.
    linear : bool, default=True
        Whether a linear map runs beside each. False leaves the functions that the modules can be as they are; the fit then starts
        from the modules as they were given.

    Examples
    --------
    >>> import torch
    >>> from skcvae.networks import Given
    >>> network = Given(decoder=torch.nn.Linear)
    >>> network.decoder(2, 5, torch.Generator().manual_seed(0)).hidden
    Linear(in_features=2, out_features=5, bias=True)
    """

    def __init__(
        self, encoder: nn.Module | Factory | None = None, decoder: nn.Module | Factory | None = None, linear: bool = True
    ) -> None:
        self._given = {"encoder": encoder, "decoder": decoder}
        self.linear = check_flag("linear of Given", linear)
        for role, given in self._given.items():
            if not (given is None or callable(given)):
                raise TypeError(f"{role} must be a torch module, a function f(n_inputs, n_outputs) or None, got {given!r}.")

    def __repr__(self) -> str:
        without = "" if self.linear else ", linear=False"
        return f"Given(encoder={self._given['encoder']!r}, decoder={self._given['decoder']!r}{without})"

    def decoder(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> LinearPlus:
        """A copy of the user's decoder beside a linear map; ValueError where it has other shapes or there is none."""
        return self._build("decoder", n_inputs, n_outputs, generator)

    def encoder(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> LinearPlus:
        """A copy of the user's encoder beside a linear map; ValueError where it has other shapes or there is none."""
        return self._build("encoder", n_inputs, n_outputs, generator)

    def _build(self, role: str, n_inputs: int, n_outputs: int, generator: torch.Generator) -> LinearPlus:
        with seeded(int(torch.randint(2**63 - 1, (), generator=generator))), float32_by_default():
            module = _copied(role, self._given[role], n_inputs, n_outputs)
            frozen = tuple(name for name, part in module.named_modules() if not part.training)
            _check_shapes(role, module, n_inputs, n_outputs)
        network = LinearPlus(n_inputs, n_outputs, module, generator)
        network.frozen = frozen
        network.set_linear(torch.zeros(n_outputs, n_inputs), torch.zeros(n_outputs))
        network.linear.requires_grad_(self.linear)
        return network


def _copied(role: str, given: nn.Module | Factory | None, n_inputs: int, n_outputs: int) -> nn.Module:
    if given is None:
        raise ValueError(f"The estimator needs the network's {role}, and it is None. Give Given({role}=...).")
    module = copy.deepcopy(given if isinstance(given, nn.Module) else _called(role, given, n_inputs, n_outputs))
    if not isinstance(module, nn.Module):
        raise TypeError(f"{role} must return a torch.nn.Module for (n_inputs, n_outputs), got {module!r}.")
    return module


def _called(role: str, factory: Factory, n_inputs: int, n_outputs: int) -> nn.Module:
    try:
        inspect.signature(factory).bind(n_inputs, n_outputs)
    except ValueError:  # a built-in function need not tell its signature
        pass
    except TypeError as error:
        raise TypeError(
            f"{role} must be a function f(n_inputs, n_outputs), got {factory!r}: {error}. Give a function of both arguments."
        ) from error
    return factory(n_inputs, n_outputs)


def _check_shapes(role: str, module: nn.Module, n_inputs: int, n_outputs: int) -> None:
    """A dry run on two rows, which also gives lazy layers their shapes."""
    remedy = f"Give a module of these widths, or a function: Given({role}=lambda n_inputs, n_outputs: ...)."
    expected = f"{role} must map shape (2, {n_inputs}) to (2, {n_outputs})"
    try:
        with torch.no_grad():
            like = next(module.parameters(), torch.empty(0))
            output = module.eval()(torch.zeros(2, n_inputs, dtype=like.dtype, device=like.device))
    except MISFITS as error:
        raise ValueError(f"{expected}, and it failed: {error}. {remedy}") from error
    received = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if received != (2, n_outputs):
        raise ValueError(f"{expected}, got {received}. {remedy}")
