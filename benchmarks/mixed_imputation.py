"""Missing cells of mixed tables: numbers and categories, beside scikit-learn's imputers.

Tables are those of `mixed.py`. A quarter of the rows is held out. A share of all cells, fitted and held out, is hidden at random,
and the tables' own holes stay: methods are fitted to rows with holes, and asked of others with holes.

- `nrmse`: root mean square error of hidden numbers in units of the column's deviation in the fitted rows.
- `log_loss`: mean of -log(probability of the right category) of hidden categories. `CoupledVAE.columns_` says which columns are
  categories, for all methods. 1 % of every probability is the category's frequency.
- `cover`: share of hidden numbers in the middle 90 % of 200 conditional draws.

Imputers of scikit-learn have standardised numbers and one column for each category, 1 or 0, with NaN in all of them where the cell
is missing. What they give there, clipped to [0, 1] and divided by its sum, are their probabilities. `frequencies` has means and
frequencies, `forest` is IterativeImputer with ExtraTreesRegressor, ten rounds at most.

Run: python benchmarks/mixed_imputation.py [--folder PATH] [--seeds 0 1 2] [--shares 0.25 0.5] [--tables ...] [--methods ...]
"""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
import pandas as pd
from cells import Cells, asked, table
from imputation import IMPUTERS, LEVEL, N_DRAWS
from mixed import LOADERS, frame_of
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from skcvae import CoupledVAE

Array = NDArray[np.float64]
MODEL = "CoupledVAE()"
METHODS = ["frequencies", "neighbours", "iterative", "forest", MODEL]
#: Of a probability, the share that is the category's frequency.
SMOOTHING = 0.01


class OneHot:
    """Numbers of a frame for an imputer: standardised, and an indicator for each category."""

    def __init__(self, fitted: pd.DataFrame, categories: dict[str, list[Any]]) -> None:
        self.categories = categories
        self.numbers = [name for name in fitted if name not in categories]
        self.mean, self.deviation = fitted[self.numbers].mean(), fitted[self.numbers].std(ddof=0)

    def of(self, frame: pd.DataFrame) -> Array:
        parts = [((frame[self.numbers] - self.mean) / self.deviation).to_numpy(np.float64)]
        for name, known in self.categories.items():
            indicators = np.stack([(frame[name] == category).to_numpy(np.float64) for category in known], 1)
            indicators[frame[name].isna().to_numpy()] = np.nan
            parts.append(indicators)
        return np.concatenate(parts, 1)

    def back(self, rows: Array) -> tuple[pd.DataFrame, dict[str, Array]]:
        """Numbers in their units, and probabilities of the categories."""
        numbers = pd.DataFrame(rows[:, : len(self.numbers)], columns=self.numbers) * self.deviation + self.mean
        probabilities, place = {}, len(self.numbers)
        for name, known in self.categories.items():
            found = np.clip(rows[:, place : place + len(known)], 0, 1)
            total = found.sum(1, keepdims=True)
            probabilities[name] = np.where(total > 0, found / np.where(total > 0, total, 1), 1 / len(known))
            place += len(known)
        return numbers, probabilities


def by_imputer(
    method: str, fitted: pd.DataFrame, asked: pd.DataFrame, categories: dict[str, list[Any]], seed: int
) -> tuple[pd.DataFrame, dict[str, Array], float | None]:
    one_hot = OneHot(fitted, categories)
    imputer = IMPUTERS["mean" if method == "frequencies" else method](seed).set_params(keep_empty_features=True)
    return *one_hot.back(imputer.fit(one_hot.of(fitted)).transform(one_hot.of(asked))), None


def by_model(
    fitted: pd.DataFrame,
    asked: pd.DataFrame,
    whole: pd.DataFrame,
    hidden: pd.DataFrame,
    categories: dict[str, list[Any]],
    seed: int,
) -> tuple[pd.DataFrame, dict[str, Array], float]:
    model = CoupledVAE(random_state=seed).fit(fitted)
    means = model.impute(asked).reset_index(drop=True)
    drawn = model.sample_conditional(asked, N_DRAWS, random_state=0).reset_index(drop=True)
    row = np.repeat(np.arange(len(asked)), N_DRAWS)
    probabilities = {}
    for name, known in categories.items():
        counts = pd.crosstab(row, pd.Categorical(drawn[name], categories=known), dropna=False).reindex(columns=known, fill_value=0)
        probabilities[name] = counts.to_numpy() / N_DRAWS
    numbers = [name for name in asked if name not in categories]
    within = []
    for name in numbers:
        draws = drawn[name].to_numpy(np.float64).reshape(len(asked), N_DRAWS)
        low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
        values = whole[name].to_numpy(np.float64)
        within.append(((values >= low) & (values <= high))[hidden[name]])
    return means[numbers], probabilities, float(np.concatenate(within).mean()) if within else np.nan


def cell(frame: pd.DataFrame, method: str, share: float, seed: int) -> dict[str, float]:
    fitted, whole = (part.reset_index(drop=True) for part in train_test_split(frame, random_state=seed))
    rng = np.random.default_rng([seed, 1])
    holes, hidden = (pd.DataFrame(rng.random(part.shape) < share, columns=part.columns) for part in (fitted, whole))
    known = CoupledVAE(max_iter=1, random_state=0)
    known._rows(fitted, fitting=True)  # the kinds of columns, without a fit
    categories = {column.name: list(column.categories) for column in known.columns_.columns if column.kind == "categorical"}
    hidden &= whole.notna()
    fitted, asked = fitted.mask(holes), whole.mask(hidden)
    begin = time.process_time()
    if method == MODEL:
        numbers, probabilities, cover = by_model(fitted, asked, whole, hidden, categories, seed)
    else:
        numbers, probabilities, cover = by_imputer(method, fitted, asked, categories, seed)
    result: dict[str, float] = {"seconds": time.process_time() - begin}
    errors, losses = [], []
    for name in frame:
        places = hidden[name].to_numpy()
        if name in categories:
            frequency = np.array([(fitted[name] == category).sum() + 0.5 for category in categories[name]], dtype=np.float64)
            smooth = (1 - SMOOTHING) * probabilities[name] + SMOOTHING * frequency / frequency.sum()
            codes = pd.Categorical(whole[name], categories=categories[name]).codes
            is_told = places & (codes >= 0)
            losses.append(-np.log(smooth[is_told, codes[is_told]]))
        else:
            gap = numbers[name].to_numpy(np.float64) - whole[name].to_numpy(np.float64)
            errors.append((gap / fitted[name].std(ddof=0))[places])
    result["nrmse"] = float(np.sqrt(np.square(np.concatenate(errors)).mean())) if errors else np.nan
    result["log_loss"] = float(np.concatenate(losses).mean()) if losses else np.nan
    if cover is not None:
        result["cover"] = cover
    return {**result, "n": frame.shape[0], "d": frame.shape[1], "n_categorical": len(categories)}


def main() -> None:
    arguments = asked(__doc__.splitlines()[0], METHODS, shares={"type": float, "nargs": "+", "default": [0.25, 0.5]})
    cells = Cells("mixed_imputation")
    for share in arguments.shares:
        lines, rows = [], []
        for name in arguments.tables or [*arguments.files, *LOADERS]:
            frame = frame_of(name, arguments.folder)
            line = [name, f"{frame.shape[0]} x {frame.shape[1]}"]
            for method in arguments.methods:
                found = [
                    cells.row(
                        functools.partial(cell, frame, method, share, seed), table=name, method=method, share=share, seed=seed
                    )
                    for seed in arguments.seeds
                ]
                mean = {
                    key: float(np.mean([one.get(key, np.nan) for one in found]))
                    for key in ("nrmse", "log_loss", "cover", "seconds")
                }
                rows.append({"table": name, "method": method, **mean})
                covered = f", {100 * mean['cover']:.0f} %" if method == MODEL else ""
                line.append(f"{mean['nrmse']:.3f}, {mean['log_loss']:.3f}{covered}, {mean['seconds']:.0f} s")
            lines.append(line)
        ranks = pd.DataFrame(rows)
        found_ranks = {
            key: ranks[key].groupby(ranks["table"]).rank().groupby(ranks["method"]).mean() for key in ("nrmse", "log_loss")
        }
        lines.append(
            [
                "mean rank",
                f"{len(lines)} tables",
                *(f"{found_ranks['nrmse'][m]:.1f}, {found_ranks['log_loss'][m]:.1f}" for m in arguments.methods),
            ]
        )
        print(f"\n{share:.0%} of the cells are hidden: nrmse, log-loss\n")
        print(table(["table", "rows x columns", *arguments.methods], lines))


if __name__ == "__main__":
    main()
