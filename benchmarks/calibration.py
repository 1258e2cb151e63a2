"""What the noise of the models with an encoder is worth on few rows: held-out log-likelihood in nats a row.

Protocol: half of a table of scikit-learn is fitted, half held out (seed 0), in units of the fitted half's deviations.

- `one scale`: the default, on standardised columns. `rows held out`: the same with `early_stopping=True`.
- `temperature` and `residual`: the default with this `calibration`.
- `table`: `likelihood="table"`, whose noise is that of rows which a decoder has not seen, on columns as they come.

Run: OMP_NUM_THREADS=1 python benchmarks/calibration.py [--tables wine iris]
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
import torch
from cells import table
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.model_selection import train_test_split

from skcvae import VAE, WAE, InfoVAE

TABLES = {"wine": load_wine, "iris": load_iris}
MODELS: dict[str, Any] = {
    "VAE": VAE(random_state=0),
    "VAE, beta 0.01": VAE(beta=0.01, random_state=0),
    "InfoVAE, alpha 0.5": InfoVAE(alpha=0.5, lambd=2.0, random_state=0),
    "InfoVAE, alpha 0.99": InfoVAE(alpha=0.99, lambd=2.0, random_state=0),
    "WAE": WAE(random_state=0),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "one scale": {},
    "temperature": {"calibration": "temperature"},
    "residual": {"calibration": "residual"},
    "rows held out": {"early_stopping": True},
    "table": {"likelihood": "table"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines = []
    for name in arguments.tables:
        fitted, held_out = train_test_split(TABLES[name]().data, test_size=0.5, random_state=0)
        centre, unit = fitted.mean(0), fitted.std(0)
        for model, kind in MODELS.items():
            line = [name, model]
            for setting, params in SETTINGS.items():
                if model == "WAE" and setting == "temperature":
                    line.append("none")
                    continue
                chosen = clone(kind).set_params(**params)
                if setting == "table":
                    score = chosen.fit(fitted).score(held_out) + np.log(unit).sum()
                else:
                    score = chosen.fit((fitted - centre) / unit).score((held_out - centre) / unit)
                line.append(f"{score:.2f}")
            lines.append(line)
            print(*line, flush=True)
    print(table(["table", "model", *SETTINGS], lines))


if __name__ == "__main__":
    main()
