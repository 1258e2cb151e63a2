"""A killed benchmark goes on at the next cell."""

import sys
from pathlib import Path

import pytest


@pytest.fixture
def cells(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path))
    monkeypatch.delitem(sys.modules, "cells", raising=False)
    import cells

    return cells


def test_a_row_is_computed_once(cells, capsys):
    assert cells.Cells("trial").row(lambda: {"nats": 1.5}, model="a", seed=0) == {"model": "a", "seed": 0, "nats": 1.5}
    again = cells.Cells("trial")
    assert again.row(lambda: pytest.fail("computed again"), model="a", seed=0)["nats"] == 1.5
    assert again.row(lambda: {"nats": 2.5}, model="a", seed=1)["nats"] == 2.5
    assert capsys.readouterr().out == "model=a seed=0 nats=1.5\nmodel=a seed=1 nats=2.5\n"


def test_a_row_that_failed_or_was_cut_off_is_computed_again(cells, capsys):
    run = cells.Cells("trial")
    run.row(lambda: {"nats": 1.0}, seed=0)
    with pytest.raises(KeyboardInterrupt):
        run.row(lambda: (_ for _ in ()).throw(KeyboardInterrupt), seed=1)
    with run.path.open("a") as file:
        file.write('{"seed": 1, "na')
    assert cells.Cells("trial").row(lambda: {"nats": 3.0}, seed=1)["nats"] == 3.0
    assert [row["nats"] for row in cells.Cells("trial").rows] == [1.0, 3.0]


def test_a_model_is_fitted_once(cells):
    first, seconds = cells.Cells("trial").model(lambda: [1, 2], model="a b", seed=0)
    assert (first, seconds) == cells.Cells("trial").model(lambda: pytest.fail("fitted again"), model="a b", seed=0)


def test_tables_and_spreads(cells):
    assert cells.spread([1.0, 2.0, 3.0]) == "2.0 ± 1.0"
    assert cells.spread([1.25], ".2f") == "1.25"
    assert cells.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_every_mutation_has_its_place(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import mutations

    mutations.check_places()
