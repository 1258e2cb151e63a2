"""Maximum mean discrepancy of two samples, and its law when both come from one."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics.pairwise import euclidean_distances

from skcvae._checks import check_number
from skcvae._random import make_rng
from skcvae.divergences import KERNELS, MMD
from skcvae.metrics._checks import Array, check_samples, row_blocks

#: Widths of the kernels, in units of the mean squared distance of two rows.
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
#: Permuted values that are lower by no more than this are taken for equal: rounding, in units of the number of scales.
ROUNDING = 1e-12


@dataclass(frozen=True)
class MMDTest:
    """A squared maximum mean discrepancy beside its values under permutation of the pooled rows.

    Attributes
    ----------
    value : float, what `mmd` returns
    null_mean, null_std : float, mean and standard deviation of the permuted values
    null_quantile95 : float, their 95 per cent quantile
    p_value : float, (1 + permuted values of at least `value`) / (1 + permutations)
    """

    value: float
    null_mean: float
    null_std: float
    null_quantile95: float
    p_value: float


def mmd(x: ArrayLike, y: ArrayLike, *, kernel: str = "imq", scales: Sequence[float] = SCALES, width: float | None = None) -> float:
    r"""Squared maximum mean discrepancy, estimated without bias.

    .. math::
        \frac{1}{n(n-1)} \sum_{i \ne i'} k(x_i, x_{i'}) + \frac{1}{m(m-1)} \sum_{j \ne j'} k(y_j, y_{j'})
        - \frac{2}{nm} \sum_{ij} k(x_i, y_j), \qquad k(x, y) = \sum_s \frac{C_s}{C_s + |x - y|^2}, \quad C_s = s C

    It may be below 0, as an unbiased estimate of what vanishes must be; `mmd_test` says what is large. Columns count in their
    units: put them on one scale first. With C = 2d it is `skcvae.divergences.MMD` for standardised samples.

    Parameters
    ----------
    x : array of shape (n, d)
    y : array of shape (m, d)
    kernel : {"imq", "rbf"}, default="imq"
        The inverse multiquadratic kernel above, or :math:`\sum_s e^{-|x - y|^2 / C_s}`.
    scales : sequence of float, default=(0.1, 0.2, 0.5, 1, 2, 5, 10)
        Scales s.
    width : float, optional
        C, in squared units of the samples. By default the mean squared distance of two rows of the pooled sample. Give one number
        to compare values over several pairs of samples; only then the estimate is strictly without bias.

    Returns
    -------
    float, without unit, between minus and plus twice the number of scales

    Raises
    ------
    TypeError, ValueError
        If the samples differ in their columns or have one row, the pooled rows are all equal, or the kernel, a scale or the
        width is none.

    References
    ----------
    A. Gretton, K. Borgwardt, M. Rasch, B. Schölkopf and A. Smola, A kernel two-sample test, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.metrics import mmd
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> abs(mmd(x[:250], x[250:])) < 0.03, mmd(x[:250] + 1, x[250:]) > 0.3
    (True, True)
    """
    first, second = check_samples(2, x=x, y=y)
    labels = np.repeat([1.0, 0.0], [len(first), len(second)])[:, None]
    return float(_discrepancies(np.vstack([first, second]), labels, MMD(kernel, scales), width)[0])


def mmd_test(
    x: ArrayLike,
    y: ArrayLike,
    *,
    n_permutations: int = 200,
    kernel: str = "imq",
    scales: Sequence[float] = SCALES,
    width: float | None = None,
    random_state: object = None,
) -> MMDTest:
    r"""Permutation test of equal laws by the squared maximum mean discrepancy.

    .. math:: p = \frac{1 + \#\{b : \mathrm{MMD}^2_b \ge \mathrm{MMD}^2\}}{1 + B}

    with the rows of both samples dealt anew to x and y in each of B permutations. For equal laws p is at most any level with at
    most that probability, whatever the sizes. All permutations share one pass over the kernel matrix, in blocks: N pooled rows
    take of the order of :math:`N^2 (B + d)` operations and N B numbers of memory, without sub-sampling.

    Parameters
    ----------
    x : array of shape (n, d)
    y : array of shape (m, d)
    n_permutations : int, default=200
        B. The smallest p is 1/(1 + B).
    kernel, scales, width
        As in `mmd`. The default width is that of the pooled sample, which no permutation changes.
    random_state : int, RandomState, Generator or None
        Source of the permutations.

    Returns
    -------
    MMDTest, with `value`, `null_mean`, `null_std`, `null_quantile95` (without unit) and `p_value`

    Raises
    ------
    TypeError, ValueError
        As `mmd`, or if `n_permutations` is not an integer of at least 1.

    References
    ----------
    A. Gretton, K. Borgwardt, M. Rasch, B. Schölkopf and A. Smola, A kernel two-sample test, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from skcvae.metrics import mmd_test
    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> near, far = mmd_test(x[:100], x[100:], random_state=0), mmd_test(x[:100] + 1, x[100:], random_state=0)
    >>> near.p_value > 0.1, round(far.p_value, 4), far.value > 10 * far.null_std
    (True, 0.005, True)
    """
    first, second = check_samples(2, x=x, y=y)
    check_number("n_permutations", n_permutations, Integral, 1)
    labels = np.repeat([1.0, 0.0], [len(first), len(second)])
    permuted = make_rng(random_state).permuted(np.tile(labels, (n_permutations, 1)), axis=1)
    values = _discrepancies(np.vstack([first, second]), np.vstack([labels, permuted]).T, MMD(kernel, scales), width)
    value, null = values[0], values[1:]
    p_value = (1 + np.sum(null >= value - ROUNDING * len(scales))) / (1 + n_permutations)
    return MMDTest(float(value), float(null.mean()), float(null.std()), float(np.quantile(null, 0.95)), float(p_value))


def _discrepancies(pooled: Array, labels: Array, chosen: MMD, width: float | None) -> Array:
    """The statistic of each column of labels, 1 for rows of x and 0 for rows of y, (p,)."""
    n, m = labels[:, 0].sum(), (1 - labels[:, 0]).sum()
    total, linear, quadratic = 0.0, np.zeros(labels.shape[1]), np.zeros(labels.shape[1])
    for rows, block in _kernel_blocks(pooled, chosen, _width(pooled, width)):
        total += block.sum()
        linear += block.sum(1) @ labels[rows]
        quadratic += (labels[rows] * (block @ labels)).sum(0)
    return quadratic / (n * (n - 1)) + (total - 2 * linear + quadratic) / (m * (m - 1)) - 2 * (linear - quadratic) / (n * m)


def _kernel_blocks(pooled: Array, chosen: MMD, width: float) -> Iterator[tuple[slice, Array]]:
    """Rows of the kernel matrix with a diagonal of zeros."""
    centred, kernel = pooled - pooled.mean(0), KERNELS[chosen.kernel]
    for rows in row_blocks(len(pooled), len(pooled)):
        squared = torch.from_numpy(euclidean_distances(centred[rows], centred, squared=True))
        block = functools.reduce(torch.add, (kernel(squared / (width * scale)) for scale in chosen.scales)).numpy()
        block[np.arange(len(block)), np.arange(len(pooled))[rows]] = 0
        yield rows, block


def _width(pooled: Array, width: float | None) -> float:
    """The given width, or the mean squared distance of two different rows."""
    if width is not None:
        check_number("width", width, Real, 0, open_low=True)
        return float(width)
    typical = 2 * float(pooled.var(0, ddof=1).sum())
    if not 0 < typical < np.inf:
        raise ValueError(
            f"The distances of x and y must be finite and not all 0, got a mean square of {typical:g}. Rescale, or give width."
        )
    return typical
