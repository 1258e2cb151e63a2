"""What several processes do together in test_distributed.py, and how they are started."""

import hashlib
import multiprocessing
import os
import pickle
import queue
import tempfile
import time
import warnings
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from sklearn.base import clone

from skcvae import VAE, WAE, CoupledVAE, InfoVAE, _checkpoint, _processes, transport
from skcvae.distributed import ShardedRows, Shards
from skcvae.schedule import Schedule

#: Seconds in which all that processes do must have ended.
LIMIT = 300
SHORT = Schedule(polish_rounds=3, max_draws=4096)
MODELS = {
    "CoupledVAE": CoupledVAE(max_iter=60, hidden_layer_sizes=(32,), pool_size=1024, schedule=SHORT, random_state=0),
    "VAE": VAE(max_iter=60, hidden_layer_sizes=(32,), pool_size=512, random_state=0),
    "WAE": WAE(max_iter=60, hidden_layer_sizes=(32,), pool_size=512, early_stopping=True, random_state=0),
    "InfoVAE": InfoVAE(max_iter=60, hidden_layer_sizes=(32,), pool_size=512, random_state=0),
}


def rows(n=400, d=2):
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [2.0, 1.0], [-2.0, 1.0]])[rng.integers(0, 3, n)]
    return np.hstack([centres + 0.2 * rng.normal(size=(n, 2)), rng.normal(size=(n, d - 2))])


def share(X, rank, size):
    """Shards of unlike sizes."""
    return np.split(X, [len(X) // 4 * (place + 1) // (size - 1) for place in range(size - 1)] if size > 1 else [])[rank]


def digest(model):
    """What all numbers of a fit say."""
    found = hashlib.sha256()
    for module in (model._fitted.decoder, model._fitted.family):
        for name, value in module.state_dict().items():
            found.update(name.encode() + value.numpy().tobytes())
    found.update(np.ascontiguousarray(model.score_samples(rows(50, model.n_features_in_))).tobytes())
    return found.hexdigest()


def refusal(work):
    """Which error the work ends with."""
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def exchanged(rank, size):
    """What is exchanged, of numbers that say whose they are."""
    values = torch.arange(7.0)
    with Shards(np.zeros((1, 1))).entered():
        whole = ShardedRows(share(rows(30), rank, size))
        mask = np.arange(30) % 3 == 0
        own = values[_processes.part(7)]
        total = torch.full((3,), float(rank))
        _processes.sum_in_place([total])
        return {
            "part": own,
            "joined": _processes.joined(own, 7),
            "heads": [_processes.n_own(m) for m in range(8)],
            "summed": _processes.summed(torch.tensor([1.0, rank])),
            "log_summed": _processes.log_summed(torch.tensor([0.0, -torch.inf, float(rank)])),
            "in_place": total,
            "agreed": _processes.agreed(f"of {rank}"),
            "reduced": [_processes.reduced([rank, -rank], how).tolist() for how in ("sum", "max", "min")],
            "is_any": [_processes.is_any(rank == 0), _processes.is_any(False)],
            "shape": whole.shape,
            "some": whole[np.array([29, 0, 5, 5])],
            "slice": whole[3:20],
            "one": whole[7],
            "masked": whole[mask][:],
            "digest": whole.digest(),
        }


def solved(rank, size):
    """Sums over draws that are shared and over draws that are not, of two problems: narrow ones, and products that are held."""
    found = {}
    with Shards(np.zeros((1, 1))).entered():
        for width in (3, 40):
            for softness in (0.0, 0.3):
                rng = torch.Generator().manual_seed(0)
                t, eta = (torch.randn(n, width, generator=rng, dtype=torch.float64) / width**0.5 for n in (50, 33))
                carrier, normaliser = t.square().sum(1) / 2, eta.square().sum(1) / 2
                log_weights = torch.log_softmax(torch.randn(33, generator=rng, dtype=torch.float64), 0)
                tilt = torch.log_softmax(torch.randn(50, generator=rng, dtype=torch.float64), 0) + np.log(50)
                source, f = transport.Source(t, carrier, log_weights=tilt), torch.randn(50, generator=rng, dtype=torch.float64)
                f[7] -= 300.0  # whose sum underflows
                share = _processes.part(33)
                whole = transport.Target(eta, normaliser, log_weights, softness=softness)
                own = transport.Target(eta[share], normaliser[share], log_weights[share], softness=softness, is_part=True)
                states = [transport.evaluate(source, target, f, 0.5, True) for target in (whole, own)]
                parts = states[1].prior_potential, states[1].log_density, states[1].barycentre
                joined = [_processes.joined(part, 33) for part in parts]
                mass = transport.log_mass(source, own, f, states[1].prior_potential, 0.5)
                side = transport.prior_side(source, own, f, 0.5).dual_value
                solutions = [
                    transport.SemiDual(marginal_tol=1e-9).solve(source, target, 0.5).state.potential for target in (whole, own)
                ]
                expected = (
                    states[0].prior_potential,
                    states[0].log_density,
                    states[0].barycentre,
                    states[0].log_mass,
                    states[0].log_mass,
                )
                both = [*joined, states[1].log_mass, mass, states[1].dual_value, side, solutions[1]]
                found[width, softness] = both, [*expected, states[0].dual_value, states[0].dual_value, solutions[0]]
    return found


def fits(rank, size, is_shared):
    """A fit of each model, of steps that are shared or not."""
    found = {}
    _processes.SHARED_STEP = 0.0 if is_shared else np.inf
    for name, model in MODELS.items():
        model.fit(Shards(share(rows(), rank, size)))
        found[name] = digest(model), float(model.score_samples(rows()).mean()), model.transform(rows(50))
    return found


def cases(rank, size):
    """Fits of other kinds than one to arrays with whole shards."""
    model, X, found = MODELS["CoupledVAE"], rows(), {}
    own = share(X, rank, size)

    def fitted(key, shard, **params):
        arguments = {name: params.pop(name) for name in ("sample_weight", "X_val") if name in params}
        model.set_params(**params).fit(Shards(shard), **arguments)
        found[key] = digest(model)
        model.set_params(random_state=0, early_stopping=False, likelihood="auto")

    fitted("whole", own)
    fitted("an empty shard", X if rank == 0 else X[:0])
    fitted("weights", own, sample_weight=1.0 + (share(np.arange(len(X)), rank, size) % 3))
    fitted("no seed", own, random_state=None)
    fitted("a generator", own, random_state=np.random.default_rng(rank))
    fitted("validation rows", own, X_val=Shards(share(rows(60) + 0.01, rank, size)))
    fitted("the first one's validation rows", own, X_val=rows(60) + 0.01 + rank)
    fitted("rows held out", own, early_stopping=True)
    fitted("a table", share(rows(300, 5), rank, size), likelihood="table")
    with tempfile.TemporaryDirectory() as folder:
        disk = np.memmap(Path(folder) / "rows", "float64", "w+", shape=own.shape)
        disk[:] = own
        fitted("on disk", disk)
    return found


def refusals(rank, size):
    """Errors, which all processes have, and a fit from before, which stays."""
    model, X = MODELS["VAE"], share(rows(), rank, size)
    model.fit(Shards(X))
    before = digest(model)
    found = {
        "infinite": refusal(lambda: model.fit(Shards(np.where(rank == 1, np.inf, X)))),
        "missing": refusal(lambda: model.fit(Shards(np.where(rank == 1, np.nan, X)))),
        "columns": refusal(lambda: model.fit(Shards(X[:, : 2 - rank]))),
        "parameters": refusal(lambda: VAE(max_iter=10 + rank).fit(Shards(X))),
        "weights": refusal(lambda: model.fit(Shards(X), sample_weight=None if rank else np.ones(len(X)))),
        "one row": refusal(lambda: model.fit(Shards(X[: 1 - rank]))),
        "constant": refusal(lambda: model.fit(Shards(0 * X))),
        "names": refusal(lambda: model.fit(Shards(pd.DataFrame(X, columns=list(["ab", "ba"][rank]))))),
        "folder": refusal(lambda: clone(model).set_params(checkpoint=f"/no such folder/{rank}/states").fit(Shards(X))),
        "transform": refusal(lambda: model.transform(Shards(X))),
        "counts": refusal(lambda: VAE(likelihood="bernoulli").fit(Shards(X if rank else X[:0]))),
    }
    return {**found, "kept": digest(model) == before}


def resumed(rank, size, folder):
    """A fit that is killed when it has written some states, and goes on."""
    model, X = MODELS["CoupledVAE"], share(rows(), rank, size)
    model.set_params(checkpoint=Path(folder) / "states")
    write, n_written = _checkpoint.Checkpoint.write, []

    def counted(self, state):
        write(self, state)
        n_written.append(len(n_written))
        if len(n_written) == 5:
            raise KeyboardInterrupt

    _checkpoint.Checkpoint.write = counted
    try:
        model.fit(Shards(X))
    except KeyboardInterrupt:
        dist.barrier()
    left = len(list((Path(folder) / "states").iterdir()))
    dist.barrier()
    model.fit(Shards(X))
    model.set_params(checkpoint=None)
    return left, digest(model), (Path(folder) / "states").exists()


def lost(rank, size):
    """One process ends in the middle of a fit."""
    if rank == 1:
        write = _processes.gathered

        def ended(value):
            os._exit(3)
            return write(value)

        _processes.gathered = ended
    begin = time.monotonic()
    return refusal(lambda: MODELS["VAE"].fit(Shards(share(rows(), rank, size)))), time.monotonic() - begin


def _work(jobs, rank, size, address, results):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=size, timeout=timedelta(seconds=60))
    for key, job, arguments in jobs:
        try:
            results.put(pickle.dumps((rank, key, job(rank, size, *arguments))))
        except BaseException as error:
            results.put(pickle.dumps((rank, key, error)))
            raise
    dist.destroy_process_group()


def ran(jobs, size):
    """What each of the processes has found by each of the jobs, {key: [results]}; no process is left."""
    context = multiprocessing.get_context("spawn")
    results, found = context.Queue(), {key: [None] * size for key, _, _ in jobs}
    with tempfile.TemporaryDirectory() as folder:
        address = f"file://{folder}/group"
        processes = [context.Process(target=_work, args=(jobs, rank, size, address, results)) for rank in range(size)]
        for process in processes:
            process.start()
        deadline = time.monotonic() + LIMIT
        try:
            while any(process.is_alive() for process in processes) or not results.empty():
                try:
                    rank, key, value = pickle.loads(results.get(timeout=0.2))
                    found[key][rank] = value
                except queue.Empty:
                    if time.monotonic() > deadline:
                        raise TimeoutError("the processes have not ended") from None
        finally:
            for process in processes:
                process.kill()
                process.join()
    return found
