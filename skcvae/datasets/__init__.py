"""Data to try the models on: two coordinates that show every fault of a fit, and images of digits.

`make_gaussian_grid`, `make_rings` and `make_pinwheel` draw points of the plane with the component that each belongs to;
`gaussian_grid_means` is what the measures of modes in `skcvae.metrics` ask for. `load_digits` has the images of 8 x 8 pixels that
ship with scikit-learn, and `digit_images` gives rows back their shape. `fetch_mnist` needs the internet once.
"""

from skcvae.datasets._images import digit_images, fetch_mnist, load_digits
from skcvae.datasets._plane import gaussian_grid_means, make_gaussian_grid, make_pinwheel, make_rings

__all__ = ["digit_images", "fetch_mnist", "gaussian_grid_means", "load_digits", "make_gaussian_grid", "make_pinwheel", "make_rings"]
