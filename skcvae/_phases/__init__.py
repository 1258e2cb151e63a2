"""A coupled fit in its four phases: start, train, polish and freeze.

- *Start*: the decoder's linear part is laid along the principal axes. With a linear decoder the coupling is a convex problem, and
  its barycentres, solved from hot to cold, are an entropic Brenier map from prior to data: one candidate for the layout.
- *Train*: on fresh prior draws the potentials are improved, then the decoder makes one step on the columns of the plan, while the
  temperature falls. This finds layouts off the principal axes: another candidate. Strategy, formulation and kind of potential
  belong here. With more than four components the decoder of a short variational autoencoder is a third candidate.
- *Polish*: the plan is frozen on many draws and the decoder regressed onto its barycentres. Each candidate gets one short round;
  the one with the lowest semi-dual goes on, round by round.
- *Freeze*: the decoder stays, the potential is solved on a pool that grows until fresh draws certify the data marginal. A proposal
  for each row may be fitted to the frozen coupling.
"""

from skcvae._phases._encode import encode, is_wide
from skcvae._phases._freeze import Frozen, freeze, held_out
from skcvae._phases._polish import Polished, polish
from skcvae._phases._problem import History, Layout, Problem, Setting
from skcvae._phases._propose import propose
from skcvae._phases._train import present, start, train

__all__ = [
    "Frozen",
    "History",
    "Layout",
    "Polished",
    "Problem",
    "Setting",
    "encode",
    "freeze",
    "held_out",
    "is_wide",
    "polish",
    "present",
    "propose",
    "start",
    "train",
]
