"""Images of handwritten digits: scikit-learn's own, and MNIST from OpenML."""

from __future__ import annotations

import os
from http.client import HTTPException
from numbers import Integral, Real
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import sklearn.datasets
from numpy.typing import ArrayLike, NDArray

from skcvae._checks import check_number, check_rows
from skcvae._random import make_rng

Classes = NDArray[np.intp]

#: Pixels of the 64 that are not 0 in every digit.
VARYING = np.delete(np.arange(64), [0, 32, 39])
#: Images in MNIST: 60000 to train and 10000 to test.
N_MNIST = 70_000
#: What a download raises without a connection, or with a broken one.
NETWORK_ERRORS = (URLError, TimeoutError, ConnectionError, HTTPException)


def load_dequantised_digits(*, drop_constant: bool = True, random_state: object = 0) -> tuple[NDArray[np.float64], Classes]:
    r"""Scikit-learn's handwritten digits, 1797 images of 8 x 8 pixels, with a density.

    .. math:: x_{ik} = \frac{p_{ik} + u_{ik}}{17}, \qquad u_{ik} \sim \mathcal U[0, 1)

    from the grey values :math:`p_{ik} \in \{0, \dots, 16\}`, which are :math:`\lfloor 17 x_{ik} \rfloor`. Grey values themselves
    have no density: a continuous model can raise their likelihood without bound. `digit_images` gives the rows back their shape.
    The grey values are those of ``sklearn.datasets.load_digits``.

    Parameters
    ----------
    drop_constant : bool, default=True
        Whether to leave out the three pixels that are 0 in every image.
    random_state : int, RandomState, Generator or None, default=0
        Source of the noise. The default gives the same data every time.

    Returns
    -------
    X : array of shape (1797, 61), or (1797, 64) with the constant pixels
    y : array of shape (1797,)
        Digit of each image.

    Raises
    ------
    ValueError
        If `random_state` is no source of random numbers.

    References
    ----------
    L. Theis, A. van den Oord and M. Bethge, A note on the evaluation of generative models, 2016, on dequantisation.

    Examples
    --------
    >>> from skcvae.datasets import load_dequantised_digits
    >>> X, y = load_dequantised_digits()
    >>> X.shape, bool(0 < X.min() < X.max() < 1)
    ((1797, 61), True)
    """
    grey, y = sklearn.datasets.load_digits(return_X_y=True)
    X = (grey + make_rng(random_state).random(grey.shape)) / 17
    return X[:, VARYING] if drop_constant else X, y


def digit_images(X: ArrayLike) -> NDArray:
    r"""Rows like those of `load_dequantised_digits` as images, with 0 for the pixels that it left out.

    .. math:: (n, 61) \text{ or } (n, 64) \to (n, 8, 8)

    Parameters
    ----------
    X : array of shape (n, 61) or (n, 64)
        Such as what a model fitted to `load_dequantised_digits` draws.

    Returns
    -------
    array of shape (n, 8, 8), in the precision of X

    Raises
    ------
    TypeError, ValueError
        If X is not a finite array of 61 or 64 columns.

    Examples
    --------
    >>> from skcvae.datasets import digit_images, load_dequantised_digits
    >>> X, y = load_dequantised_digits()
    >>> digit_images(X[:10]).shape
    (10, 8, 8)
    """
    rows = check_rows("X", X)
    if rows.shape[1] not in (64, len(VARYING)):
        raise ValueError(f"X must have 64 or {len(VARYING)} columns, got {rows.shape[1]}. Give rows of digits, of 8 x 8 pixels.")
    images = np.zeros((len(rows), 64), dtype=rows.dtype)
    images[:, VARYING if rows.shape[1] < 64 else slice(None)] = rows
    return images.reshape(-1, 8, 8)


def fetch_mnist(
    n_samples: int | None = None,
    *,
    data_home: str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    random_state: object = None,
) -> tuple[NDArray[np.float32], Classes]:
    r"""MNIST's handwritten digits, 70000 images of 28 x 28 pixels.

    .. math:: x_{ik} = \frac{p_{ik}}{255} \qquad\text{or}\qquad x_{ik} = \mathbb 1\left\{\frac{p_{ik}}{255} \ge \tau\right\}

    from the grey values :math:`p_{ik} \in \{0, \dots, 255\}`. The first call downloads them from openml.org; scikit-learn keeps
    them in its own folder, and later calls need no connection. Reading them takes about half a minute.

    Parameters
    ----------
    n_samples : int, optional
        Images to draw, without replacement. By default all of them in their own order: 60000 to train, then 10000 to test.
    data_home : str or path, optional
        Folder of scikit-learn's downloads, ``sklearn.datasets.get_data_home()`` by default.
    threshold : float, optional
        Grey value :math:`\tau`, above 0 and of at most 1, from which a pixel is 1, and 0 below it. 0.5 is usual.
    random_state : int, RandomState, Generator or None
        Source of the draw of `n_samples`.

    Returns
    -------
    X : array of shape (n, 784), float32, from 0 to 1
    y : array of shape (n,)
        Digit of each image.

    Raises
    ------
    ConnectionError
        If there is neither a copy in the folder nor a connection. It is an OSError.
    TypeError, ValueError
        If `n_samples` is not an integer from 1 to 70000, or `threshold` is out of its range.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document recognition, 1998.

    Examples
    --------
    >>> from skcvae.datasets import fetch_mnist
    >>> X, y = fetch_mnist(1000, threshold=0.5, random_state=0)  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (1000, 784)
    """
    if n_samples is not None:
        check_number("n_samples", n_samples, Integral, 1, high=N_MNIST)
    if threshold is not None:
        check_number("threshold", threshold, Real, 0, open_low=True, high=1)
    rng = make_rng(random_state)
    grey, digits = _openml_mnist(data_home)
    if n_samples is not None:
        chosen = rng.choice(len(grey), n_samples, replace=False)
        grey, digits = grey[chosen], digits[chosen]
    X = grey / 255 if threshold is None else grey / 255 >= threshold
    return X.astype(np.float32), digits.astype(np.intp)


def _openml_mnist(data_home: str | os.PathLike[str] | None) -> tuple[NDArray, NDArray[Any]]:
    """Grey values and digits as OpenML has them. Scikit-learn 1.9's parser by pandas 3.1 fails on classes that are numbers."""
    named = {"version": 1, "return_X_y": True, "as_frame": False, "parser": "liac-arff", "data_home": data_home}
    try:
        return sklearn.datasets.fetch_openml("mnist_784", **named)
    except NETWORK_ERRORS as error:
        folder = Path(sklearn.datasets.get_data_home(data_home)) / "openml"
        raise ConnectionError(
            f"fetch_mnist expected 'mnist_784' in the cache {folder}, or a connection to openml.org to download it once, got "
            f"{type(error).__name__}: {error}. Connect, copy that folder from a machine that has it, or use "
            "load_dequantised_digits, which needs no download."
        ) from error
