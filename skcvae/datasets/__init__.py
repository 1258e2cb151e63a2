"""Data to try the models on: two coordinates that show every fault of a fit, and images of digits.

`make_gaussian_grid`, `make_rings` and `make_pinwheel` draw points of the plane with the component that each belongs to;
`gaussian_grid_means` is what the measures of modes in `skcvae.metrics` ask for. `load_dequantised_digits` has the images of 8 x 8
pixels that ship with scikit-learn, and `digit_images` gives rows back their shape. `fetch_mnist` needs the internet once.
`load_parquet` makes an array on disk of your own files.
"""

from typing import Any

from skcvae.datasets._images import digit_images, fetch_mnist, load_dequantised_digits
from skcvae.datasets._parquet import load_parquet
from skcvae.datasets._plane import gaussian_grid_means, make_gaussian_grid, make_pinwheel, make_rings

__all__ = [
    "digit_images",
    "fetch_mnist",
    "gaussian_grid_means",
    "load_dequantised_digits",
    "load_parquet",
    "make_gaussian_grid",
    "make_pinwheel",
    "make_rings",
]


def __getattr__(name: str) -> Any:
    """Say the present name of what had another one in version 0.1; for version 0.2 only."""
    if name == "load_digits":
        raise ImportError(
            "skcvae.datasets.load_digits is load_dequantised_digits now; sklearn.datasets.load_digits has the grey values."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
