"""Measures of generated samples: arrays in, a number out, or a frozen record of a few.

None of them looks into a model. They compare samples with a known mixture (`high_density_ratio`, `std_within_modes`,
`modes_recovered`, `mode_mass_kl`), with other samples (`mmd`, `mmd_test`, `sliced_wasserstein`, `classifier_two_sample`,
`precision_recall`, `density_coverage`) or with the training data (`memorisation`), and weights with equal ones
(`effective_sample_size`, `marginal_chi2`). All compute in float64 and hold a bounded number of pairs at a time. Rows of a data
frame of numbers, dates and categories have `table_report`.
"""

from skcvae.metrics._classifier import classifier_two_sample
from skcvae.metrics._memorisation import Memorisation, memorisation
from skcvae.metrics._mmd import MMDTest, mmd, mmd_test
from skcvae.metrics._modes import high_density_ratio, mode_mass_kl, modes_recovered, std_within_modes
from skcvae.metrics._neighbours import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from skcvae.metrics._sliced import sliced_wasserstein
from skcvae.metrics._tables import Marginal, TableReport, table_report
from skcvae.metrics._weights import effective_sample_size, marginal_chi2

__all__ = [
    "DensityCoverage",
    "MMDTest",
    "Marginal",
    "Memorisation",
    "PrecisionRecall",
    "TableReport",
    "classifier_two_sample",
    "density_coverage",
    "effective_sample_size",
    "high_density_ratio",
    "marginal_chi2",
    "memorisation",
    "mmd",
    "mmd_test",
    "mode_mass_kl",
    "modes_recovered",
    "precision_recall",
    "sliced_wasserstein",
    "std_within_modes",
    "table_report",
]
