"""The schedule of a coupled fit: how many steps, rounds, draws and rows each phase takes. It knows no solver and no data."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, replace

from skcvae._checks import check_flag, check_number


@dataclass(frozen=True)
class Stage:
    """Rounds of polishing of one kind.

    Parameters
    ----------
    share : float
        Share of the rounds that are left which this stage may take, at most.
    draws : int
        Draws of a round's plan, at most.
    batch : int
        Draws of a step over the estimator's `draws_per_step`.
    rate : float
        Learning rate over the estimator's `learning_rate_init`.
    visits : float
        Draws of a round's steps for each row: how often a row's cell of the latent space is visited on average.
    fewest : int
        Steps of a round, at least.
    moves : bool
        Whether the stage ends when the plan stands still, that is when the value falls by less than twice what the residual falls:
        then a lower rate brings more than another round.

    Examples
    --------
    >>> from skcvae.schedule import Schedule, Stage
    >>> spread = Stage(share=1.0, draws=16384, batch=1, rate=1.0, visits=20.0, fewest=50, moves=False)
    >>> Schedule(polish_rounds=5, stages=(spread,)).stages[0].draws
    16384
    """

    share: float
    draws: int
    batch: int
    rate: float
    visits: float
    fewest: int
    moves: bool

    def __post_init__(self) -> None:
        for name in ("draws", "batch", "fewest"):
            check_number(f"{name} of Stage", getattr(self, name), numbers.Integral, 1)
        for name in ("rate", "visits"):
            check_number(f"{name} of Stage", getattr(self, name), numbers.Real, 0, open_low=True)
        check_number("share of Stage", self.share, numbers.Real, 0, high=1)
        check_flag("moves of Stage", self.moves)


@dataclass(frozen=True)
class Schedule:
    """The schedule of a coupled fit: training, polishing and the frozen solve.

    Parameters
    ----------
    training_steps : int, default=100
        Steps of the training, at most: more find no layout that polishing would not find from this one.
    training_rows : int, default=1024
        Rows of the training, at most.
    hot_share : float, default=0.5
        The training starts at this share of the smallest encoded variance as its temperature, above which that axis would collapse.
    cooling_share : float, default=0.5
        Share of the training's steps over which the temperature falls to `epsilon` if nothing holds it.
    polish_rounds : int, default=30
        Rounds of regression onto a frozen plan's barycentres, at most, after one short round from each layout. 0 makes neither: the
        decoder stays as the training left it.
    trial : Stage
        The short round that tells layouts apart; its share says nothing.
    stages : tuple of Stage
        The kinds of rounds, one after the other. By default small batches at a high rate spread a layout, and larger ones at a low
        rate sharpen the borders between cells.
    max_rows : int, default=16384
        Rows of one plan, at most, and in all no more than 2^26 numbers of them. Of more rows every round of polishing takes a fresh
        random sample; the certificate is that of the last sample.
    max_draws : int, default=131072
        Draws of the pool, at most, on which the frozen solve seeks its tolerance.
    marginal_tol : float, default=1e-3
        Chi-square of the data marginal up to which the frozen coupling counts as converged.
    solve_max_iter : int, default=300
        Iterations of the frozen solve, at most.

    Examples
    --------
    A shorter fit:

    >>> import numpy as np
    >>> from skcvae import CoupledVAE
    >>> from skcvae.schedule import Schedule
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> short = Schedule(polish_rounds=2, max_draws=8192)
    >>> CoupledVAE(schedule=short, max_iter=50, random_state=0).fit(X).n_rounds_ <= 2
    True
    """

    training_steps: int = 100
    training_rows: int = 1024
    hot_share: float = 0.5
    cooling_share: float = 0.5
    polish_rounds: int = 30
    trial: Stage = Stage(share=0.0, draws=8192, batch=1, rate=1.0, visits=6.0, fewest=150, moves=True)
    stages: tuple[Stage, ...] = (
        Stage(share=0.5, draws=65536, batch=1, rate=1.4, visits=68.0, fewest=50, moves=True),
        Stage(share=1.0, draws=131072, batch=2, rate=0.07, visits=136.0, fewest=200, moves=False),
    )
    max_rows: int = 16384
    max_draws: int = 131072
    marginal_tol: float = 1e-3
    solve_max_iter: int = 300

    def __post_init__(self) -> None:
        for name in ("training_steps", "training_rows", "max_rows", "max_draws", "solve_max_iter"):
            check_number(f"{name} of Schedule", getattr(self, name), numbers.Integral, 1)
        check_number("polish_rounds of Schedule", self.polish_rounds, numbers.Integral, 0)
        check_number("marginal_tol of Schedule", self.marginal_tol, numbers.Real, 0)
        check_number("hot_share of Schedule", self.hot_share, numbers.Real, 0, open_low=True)
        check_number("cooling_share of Schedule", self.cooling_share, numbers.Real, 0, high=1)
        if not isinstance(self.stages, tuple) or not self.stages or not all(isinstance(item, Stage) for item in self.stages):
            raise TypeError(f"stages of Schedule must be a tuple of at least one Stage, got {self.stages!r}.")
        if not isinstance(self.trial, Stage):
            raise TypeError(f"trial of Schedule must be a Stage, got {self.trial!r}.")

    def shorter(self) -> Schedule:
        """The schedule of fits that only say what a decoder leaves of other rows.

        Their rounds take fewer draws, and their couplings a tolerance that residuals do not notice.
        """
        return replace(
            self,
            training_steps=min(self.training_steps, 50),
            polish_rounds=min(self.polish_rounds, 4),
            trial=replace(self.trial, fewest=min(self.trial.fewest, 75)),
            stages=(Stage(share=1.0, draws=16384, batch=1, rate=1.4, visits=30.0, fewest=50, moves=True),),
            marginal_tol=max(self.marginal_tol, 3e-2),
            max_draws=min(self.max_draws, 8192),
        )
