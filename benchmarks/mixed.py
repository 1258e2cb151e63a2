"""New rows of mixed tables, with text, codes, counts and holes, beside forests, TVAE, CTGAN and ForestDiffusion.

Tables are the csv files of a folder and those of scikit-learn, with their classes as text. 75 % of the rows are fitted, and each
method draws as many. `skcvae.metrics.table_report` compares these with the held-out rows (shapes, trends), with the fitted ones
(detection), and both as training data for a target (utility).

- `real rows` are the fitted rows themselves, and `columns apart` each column shuffled: what is possible, and what is easy.
- arfpy, TVAE and CTGAN take no missing cells: they are fitted to rows with the median or the most frequent category there.
  Columns of integers are rounded for arfpy, which has no integers. ForestDiffusion takes missing cells, and 48 s on the 112
  rows of iris: it is run where it is asked for by name.
- No method draws missing cells: each drawn row has the holes of a fitted one, so that they tell nothing.
- `distance`: median distance to the closest fitted row, over that of held-out rows.
- `nats`: held-out log-likelihood a row of CoupledVAE(), of rows whose categories the fit had. `date` and `versions`: of the run.

Peers need their own packages (pip install arfpy ctgan ForestDiffusion) and are left out where they are missing.

Run: python benchmarks/mixed.py [--folder PATH] [--seeds 0 1 2] [--tables ...] [--methods ...]
"""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from cells import Cells, asked, table
from sklearn import datasets
from sklearn.model_selection import train_test_split

from skcvae import CoupledVAE
from skcvae.metrics import table_report

Draw = Callable[[pd.DataFrame, int], pd.DataFrame]
MOST_ROWS, MOST_COLUMNS = 2000, 25
#: What utility predicts; the last column elsewhere.
TARGETS = {
    "penguins": "species",
    "hitters": "Salary",
    "titanic": "survived",
    "diamonds": "price",
    "weather_nyc": "temp",
    "airquality": "Ozone",
}
MEASURES = {"shapes": 1, "trends": 1, "detection": -1, "utility": 1}


def of_sklearn(name: str, text: str | None) -> pd.DataFrame:
    found = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = found.frame
    if text is None:
        names = np.asarray(found.target_names, dtype=object)
        return frame.assign(target=names[found.target.to_numpy()])
    return frame.assign(**{text: np.where(frame[text] > 0, "male", "female")})


LOADERS: dict[str, Callable[[], pd.DataFrame]] = {
    "wine": lambda: of_sklearn("wine", None),
    "breast_cancer": lambda: of_sklearn("breast_cancer", None),
    "iris": lambda: of_sklearn("iris", None),
    "diabetes": lambda: of_sklearn("diabetes", "sex"),
}


def frame_of(name: str, folder: Path | None) -> pd.DataFrame:
    frame = LOADERS[name]() if name in LOADERS or folder is None else pd.read_csv(folder / f"{name}.csv")
    frame = frame.drop(columns=[column for column in ("rownames", "time_hour") if column in frame]).iloc[:, :MOST_COLUMNS]
    frame = frame.sample(min(MOST_ROWS, len(frame)), random_state=0).reset_index(drop=True)
    texts = [column for column in frame if not pd.api.types.is_numeric_dtype(frame[column])]
    return frame.astype(dict.fromkeys(texts, "category"))


def filled(frame: pd.DataFrame) -> pd.DataFrame:
    """The most frequent category, or the median, in missing cells."""
    return frame.apply(lambda c: c.fillna(c.mode()[0] if c.dtype == "category" else c.median()) if c.isna().any() else c)


def as_fitted(drawn: pd.DataFrame, fitted: pd.DataFrame) -> pd.DataFrame:
    """Columns in the types of the fitted rows."""
    columns = {}
    for name, column in fitted.items():
        values = drawn[name]
        is_integer = pd.api.types.is_integer_dtype(column)
        columns[name] = np.rint(values.astype(float)).astype(column.dtype) if is_integer else values.astype(column.dtype)
    return pd.DataFrame(columns)


def coupled(fitted: pd.DataFrame, seed: int) -> Any:
    return CoupledVAE(random_state=seed).fit(fitted)


def forest(fitted: pd.DataFrame, seed: int) -> pd.DataFrame:
    from arfpy import arf

    np.random.seed(seed)  # noqa: NPY002
    model = arf.arf(
        x=filled(fitted).astype({c: float for c in fitted if fitted[c].dtype != "category"}), random_state=seed, verbose=False
    )
    model.forde()
    return as_fitted(model.forge(n=len(fitted)), fitted)


def ctgan(name: str, fitted: pd.DataFrame, seed: int) -> pd.DataFrame:
    import ctgan

    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    model = getattr(ctgan, name)(epochs=300)
    model.fit(filled(fitted), [column for column in fitted if fitted[column].dtype == "category"])
    return as_fitted(model.sample(len(fitted)), fitted)


def forest_diffusion(fitted: pd.DataFrame, seed: int) -> pd.DataFrame:
    from ForestDiffusion import ForestDiffusionModel

    texts = [column for column in fitted if fitted[column].dtype == "category"]
    codes = fitted.assign(**{column: fitted[column].cat.codes.replace(-1, np.nan) for column in texts})
    model = ForestDiffusionModel(
        codes.to_numpy(np.float64),
        cat_indexes=[place for place, column in enumerate(fitted) if column in texts],
        int_indexes=[place for place, column in enumerate(fitted) if pd.api.types.is_integer_dtype(fitted[column])],
        n_jobs=1,
        seed=seed,
    )
    drawn = pd.DataFrame(model.generate(batch_size=len(fitted)), columns=fitted.columns)
    for column in texts:
        drawn[column] = fitted[column].cat.categories[drawn[column].astype(int)]
    return as_fitted(drawn, fitted)


def apart(fitted: pd.DataFrame, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: column.to_numpy()[rng.permutation(len(column))] for name, column in fitted.items()}).astype(
        fitted.dtypes
    )


METHODS: dict[str, tuple[str | None, Draw]] = {
    "real rows": (None, lambda fitted, seed: fitted),
    "columns apart": (None, apart),
    "CoupledVAE()": (None, coupled),
    "arfpy": ("arfpy", forest),
    "TVAE": ("ctgan", functools.partial(ctgan, "TVAE")),
    "CTGAN": ("ctgan", functools.partial(ctgan, "CTGAN")),
    "ForestDiffusion": ("ForestDiffusion", forest_diffusion),
}
SLOW = ("ForestDiffusion",)
PACKAGES = ("torch", "scikit-learn", "pandas", "numpy", "arfpy", "ctgan", "ForestDiffusion")


def calibration() -> float:
    """Seconds of a loop of matrix products of this machine."""
    a, begin = np.random.default_rng(0).normal(size=(500, 500)), time.process_time()
    for _ in range(50):
        a = np.tanh(a @ a / 500)
    return time.process_time() - begin


def versions() -> str:
    """Versions of the packages that are installed."""
    there = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()}
    return ", ".join(f"{name} {there[name.lower()]}" for name in PACKAGES if name.lower() in there)


def cell(frame: pd.DataFrame, name: str, method: str, seed: int) -> dict[str, Any]:
    fitted, held_out = (part.reset_index(drop=True) for part in train_test_split(frame, random_state=seed))
    loop, begin = calibration(), time.process_time()
    drawn, result = METHODS[method][1](fitted, seed), {}
    if not isinstance(drawn, pd.DataFrame):
        texts = [column.name for column in drawn.columns_.columns if column.categories]
        is_known = (held_out[texts].isna() | held_out[texts].apply(lambda column: column.isin(fitted[column.name]))).all(axis=1)
        result["nats"] = float(np.mean(drawn.score_samples(held_out[is_known])))
        result["k"] = drawn.n_components_
        drawn = drawn.sample(len(fitted), random_state=seed)
    result["seconds"] = time.process_time() - begin
    drawn = drawn if method == "real rows" else drawn.mask(fitted.isna().to_numpy())
    target = TARGETS.get(name, frame.columns[-1])
    report = table_report(fitted, drawn, held_out=held_out, target=target, random_state=seed)
    fresh = table_report(held_out, drawn, random_state=seed)
    result |= {"shapes": fresh.shapes, "trends": fresh.trends, "detection": report.detection_auc, "utility": report.utility}
    result |= {"detection_fresh": fresh.detection_auc, "distance": report.distance_ratio}
    place = {"date": datetime.date.today().isoformat(), "versions": versions()}
    return {**result, "loop": loop, "n": frame.shape[0], "d": frame.shape[1], **place}


def main() -> None:
    arguments = asked(__doc__.splitlines()[0], [method for method in METHODS if method not in SLOW])
    there = [m for m in arguments.methods if METHODS[m][0] is None or importlib.util.find_spec(str(METHODS[m][0])) is not None]
    for method in set(arguments.methods) - set(there):
        print(f"{method} is left out: {METHODS[method][0]} is not installed.")
    cells, lines, rows = Cells("mixed"), [], []
    for name in arguments.tables or [*arguments.files, *LOADERS]:
        frame = frame_of(name, arguments.folder)
        for method in there:
            found = [
                cells.row(functools.partial(cell, frame, name, method, seed), table=name, method=method, seed=seed)
                for seed in arguments.seeds
            ]
            keys = (*MEASURES, "distance", "seconds")
            mean = {key: float(np.nanmean([one[key] for one in found])) for key in keys}
            rows.append({"table": name, "method": method, **mean})
            line = [f"{mean[key]:.3f}" for key in (*MEASURES, "distance")]
            lines.append([name, method, *line, f"{mean['seconds']:.0f}"])
    print(table(["table", "method", *MEASURES, "distance", "seconds"], lines))
    compared = pd.DataFrame(rows).query("method not in ('real rows', 'columns apart')")
    ranks = {key: (-sign * compared[key]).groupby(compared["table"]).rank() for key, sign in MEASURES.items()}
    print("\nmean rank")
    print(pd.DataFrame(ranks).groupby(compared["method"]).mean().round(2).to_string())


if __name__ == "__main__":
    main()
