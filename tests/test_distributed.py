"""One fit by several processes, each with rows of its own."""

import numpy as np
import processes
import pytest
import torch
from processes import MODELS, digest, ran, rows
from sklearn.base import clone

from skcvae.distributed import Shards

SIZE = 2


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes have found."""
    jobs = [
        ("exchanged", processes.exchanged, ()),
        ("solved", processes.solved, ()),
        ("alike", processes.fits, (False,)),
        ("shared", processes.fits, (True,)),
        ("cases", processes.cases, ()),
        ("refusals", processes.refusals, ()),
        ("resumed", processes.resumed, (str(tmp_path_factory.mktemp("resumed")),)),
    ]
    return ran(jobs, SIZE)


@pytest.fixture(scope="module")
def alone():
    """What one process finds with all rows."""
    return {name: clone(model).fit(rows()) for name, model in MODELS.items()}


def test_what_is_exchanged(found):
    X = rows(30)
    for rank, one in enumerate(found["exchanged"]):
        assert one["part"].tolist() == list(range(rank, 7, SIZE))
        assert one["joined"].tolist() == list(range(7))
        assert one["heads"] == [len(range(rank, m, SIZE)) for m in range(8)]
        assert one["summed"].tolist() == [2.0, 1.0]
        torch.testing.assert_close(one["log_summed"], torch.tensor([np.log(2), -np.inf, np.log(1 + np.e)], dtype=torch.float32))
        assert one["in_place"].tolist() == [1.0] * 3
        assert one["agreed"] == "of 0"
        assert one["reduced"] == [[1, -1], [1, 0], [0, -1]]
        assert one["is_any"] == [True, False]
        assert one["shape"] == (30, 2)
        np.testing.assert_array_equal(one["some"], X[[29, 0, 5, 5]])
        np.testing.assert_array_equal(one["slice"], X[3:20])
        np.testing.assert_array_equal(one["one"], X[7])
        np.testing.assert_array_equal(one["masked"], X[::3])
    assert found["exchanged"][0]["digest"] == found["exchanged"][1]["digest"]


def test_shared_draws_are_solved_as_all_are(found):
    for one in found["solved"]:
        for shared, whole in one.values():
            for value, expected in zip(shared, whole, strict=True):
                torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_rows_of_two_processes_are_those_of_one(found, alone, name):
    """Where each computes all that one does, bit for bit; draws of a coupled model's plans are always shared."""
    results = [one[name] for one in found["alike"]]
    assert results[0][0] == results[1][0]
    if name != "CoupledVAE":
        assert results[0][0] == digest(alone[name])


@pytest.mark.parametrize("name", MODELS)
def test_shared_work_gives_the_same_model(found, alone, name):
    """Bit for bit in both processes, and to what other sums round to as one process's."""
    results = [one[name] for one in found["shared"]]
    assert results[0][0] == results[1][0]
    assert results[0][1] == pytest.approx(float(alone[name].score_samples(rows()).mean()), abs=0.05)
    if name != "CoupledVAE":  # whose plans move whole draws by a rounding
        np.testing.assert_allclose(results[0][2], alone[name].transform(rows(50)), atol=0.02)


def test_all_processes_end_with_the_same_model(found):
    first, second = found["cases"]
    assert first == second
    same = {first[key] for key in ("whole", "an empty shard", "on disk")}
    assert len(same) == 1
    assert first["the first one's validation rows"] == first["validation rows"]
    assert len(set(first.values())) == len(first) - 3


def test_what_one_process_refuses_all_refuse(found):
    first, second = found["refusals"]
    assert first["kept"]
    assert second["kept"]
    assert first["infinite"].startswith("ValueError: Process 1 of 2 refused its part. ValueError: X must be finite, got infinity")
    assert second["infinite"].startswith("ValueError: X must be finite, got infinity")
    texts = {
        "missing": "ValueError: Shards must have no missing cells. Fill them",
        "columns": "ValueError: All processes must have the same columns, got 2, 1 of them",
        "parameters": "ValueError: All processes must fit with the same parameters",
        "weights": "ValueError: All processes must fit with the same parameters, and all or none with sample_weight",
        "one row": "ValueError: X must have at least 2 rows in all processes together, got 1",
        "constant": "ValueError: X has zero variance",
        "names": "ValueError: The columns of all processes must have the same names",
        "transform": "TypeError: Shards is for fit",
        "counts": "ValueError: BernoulliLikelihood expects values in [0, 1]",
    }
    assert first["folder"].startswith("ValueError: checkpoint must be a folder in a folder that exists, got '/no such folder/0")
    assert second["folder"] == f"ValueError: Process 0 of 2 refused its part. {first['folder']}"
    for key, text in texts.items():
        assert first[key].startswith(text)
        assert second[key].startswith(text)


def test_a_killed_fit_goes_on_bit_for_bit(found):
    for left, model, exists in found["resumed"]:
        assert left == 1
        assert model == found["cases"][0]["whole"]
        assert not exists


def test_a_lost_process_is_told_by_the_others():
    results = ran([("lost", processes.lost, ())], SIZE)["lost"]
    text, seconds = results[0]
    assert results[1] is None
    assert text.startswith("ProcessLostError: Process 0 of 2 has lost another one")
    assert "Nothing was changed by this fit" in text
    assert seconds < 60


def test_shards_need_a_group():
    with pytest.raises(RuntimeError, match=r"Shards needs a process group, and there is none\. Call torch"):
        clone(MODELS["VAE"]).fit(Shards(rows()))
