"""Pictures of a fitted model, as scikit-learn's displays: `from_estimator` computes and draws, `plot` draws again.

`SamplesDisplay`, `ReconstructionDisplay` and `InterpolationDisplay` are in the space of the data, as points or images;
`LatentDisplay`, `AggregatePosteriorDisplay`, `PosteriorDisplay` and `HoleDisplay` in latent space; `TrainingDisplay` has the loss,
`ComponentsDisplay` what chose the number of components. `TableReportDisplay` shows a report on synthetic rows, by `from_report`.
They need matplotlib, ``pip install 'skcvae[plot]'``, which is imported when one is drawn. The arrays that a picture shows are
attributes, what matplotlib made of them is in `artists_`, and style is given in matplotlib's words.
"""

from skcvae.display._components import ComponentsDisplay
from skcvae.display._holes import HoleDisplay
from skcvae.display._interpolation import InterpolationDisplay
from skcvae.display._latent import LatentDisplay
from skcvae.display._posteriors import AggregatePosteriorDisplay, PosteriorDisplay
from skcvae.display._reconstruction import ReconstructionDisplay
from skcvae.display._report import TableReportDisplay
from skcvae.display._samples import SamplesDisplay
from skcvae.display._training import TrainingDisplay

__all__ = [
    "AggregatePosteriorDisplay",
    "ComponentsDisplay",
    "HoleDisplay",
    "InterpolationDisplay",
    "LatentDisplay",
    "PosteriorDisplay",
    "ReconstructionDisplay",
    "SamplesDisplay",
    "TableReportDisplay",
    "TrainingDisplay",
]
