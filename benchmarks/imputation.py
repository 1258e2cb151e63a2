"""Missing cells of numeric tables: means, intervals and densities given what is observed, beside scikit-learn's imputers.

Tables are those of `tables.py`, with the median in cells that are missing in them. A quarter of the rows is held out. A share of
all cells, fitted and held out, is hidden at random: methods are fitted to rows with holes, and asked of others with holes.

- `nrmse`: root mean square error of hidden cells in units of the column's deviation in the fitted rows.
- `cover`: share of hidden cells in the middle 90 % of 200 conditional draws. `nats`: log-likelihood of the observed cells of
  held-out rows over their number, in units of the deviations; `whole`: that of the same rows without holes.
- `forest`: IterativeImputer with ExtraTreesRegressor, ten rounds at most, on tables of at most 2000 rows. `seconds`: fit and means.

Imputers of scikit-learn have standardised columns, CoupledVAE has them as they come.

Run: python benchmarks/imputation.py [--folder PATH] [--seeds 0 1 2] [--shares 0.25 0.5] [--tables ...] [--methods ...]
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from cells import Cells, asked, table
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import LOADERS, rows_of

from skcvae import CoupledVAE

Array = NDArray[np.float64]
N_DRAWS, LEVEL, MOST_ROWS_OF_FORESTS = 200, 0.9, 2000


def of_sklearn(imputer: Any, fitted: Array, asked: Array, seed: int) -> Array:
    model = make_pipeline(StandardScaler(), imputer).fit(fitted)
    return model[0].inverse_transform(model.transform(asked))  # type: ignore[no-any-return]


IMPUTERS: dict[str, Callable[[int], Any]] = {
    "mean": lambda seed: SimpleImputer(),
    "neighbours": lambda seed: KNNImputer(),
    "iterative": lambda seed: IterativeImputer(max_iter=20, random_state=seed),
    "forest": lambda seed: IterativeImputer(ExtraTreesRegressor(50, random_state=seed), max_iter=10, random_state=seed),
}
MODELS: dict[str, Callable[[int], CoupledVAE]] = {"CoupledVAE()": lambda seed: CoupledVAE(random_state=seed)}
METHODS = [*IMPUTERS, *MODELS]


def cell(X: Array, method: str, share: float, seed: int) -> dict[str, float]:
    fitted, whole = train_test_split(X, random_state=seed)
    median = np.nanmedian(fitted, axis=0)
    fitted, whole = (np.where(np.isnan(part), median, part) for part in (fitted, whole))
    deviation, rng = fitted.std(0), np.random.default_rng([seed, 1])
    holes, hidden = (rng.random(part.shape) < share for part in (fitted, whole))
    fitted, asked = np.where(holes, np.nan, fitted), np.where(hidden, np.nan, whole)
    begin = time.process_time()
    result: dict[str, float] = {}
    if method in IMPUTERS:
        means = of_sklearn(IMPUTERS[method](seed), fitted, asked, seed)
    else:
        model = MODELS[method](seed).fit(fitted)
        means = model.impute(asked)
    result["seconds"] = time.process_time() - begin
    result["nrmse"] = float(np.sqrt(np.square(((means - whole) / deviation)[hidden]).mean()))
    if method in MODELS:
        draws = model.sample_conditional(asked, N_DRAWS, random_state=0)
        low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
        result["cover"] = float(((whole >= low) & (whole <= high))[hidden].mean())
        log_units = (~hidden) @ np.log(deviation)
        result["nats"] = float((model.score_samples(asked) + log_units).sum() / (~hidden).sum())
        result["whole"] = float((model.score_samples(whole).mean() + np.log(deviation).sum()) / X.shape[1])
    return {**result, "n": len(X), "d": X.shape[1]}


def main() -> None:
    arguments = asked(__doc__.splitlines()[0], METHODS, shares={"type": float, "nargs": "+", "default": [0.25, 0.5]})
    cells = Cells("imputation")
    for share in arguments.shares:
        lines, errors = [], []
        for name in arguments.tables or [*LOADERS, *arguments.files]:
            X = rows_of(name, arguments.folder)
            if X.shape[1] < 2:
                continue
            line, row = [name, f"{X.shape[0]} x {X.shape[1]}"], []
            for method in arguments.methods:
                if method == "forest" and len(X) > MOST_ROWS_OF_FORESTS:
                    line.append("")
                    row.append(np.inf)
                    continue
                found = [
                    cells.row(functools.partial(cell, X, method, share, seed), table=name, method=method, share=share, seed=seed)
                    for seed in arguments.seeds
                ]
                mean = {key: float(np.mean([one[key] for one in found])) for key in found[0] if key not in ("table", "method")}
                covered = f", {100 * mean['cover']:.0f} %" if "cover" in mean else ""
                line.append(f"{mean['nrmse']:.3f}{covered}, {mean['seconds']:.0f} s")
                row.append(mean["nrmse"])
            lines.append(line)
            errors.append(row)
        ranks = np.array(errors).argsort(1).argsort(1) + 1
        lines.append(["mean rank", f"{len(errors)} tables", *(f"{rank:.1f}" for rank in ranks.mean(0))])
        print(f"\n{share:.0%} of the cells are hidden\n")
        print(table(["table", "rows x columns", *arguments.methods], lines))


if __name__ == "__main__":
    main()
