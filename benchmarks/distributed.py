"""One fit by several processes beside one process: seconds, what is sent, and whether the models are as good.

Each process has one thread and a shard of the rows; `1 x 2 threads` is one process with two. All run alone, one after the other.

- `gaussians`: 25 Gaussians, 7500 rows in the plane, the default decoder.
- `table`: 1e6 rows of 16 features, the surface of scaling.py, the default decoder.
- `images`: 60000 images of 28 x 28 pixels, scikit-learn's digits three times as large and moved at random, `network="conv"`.

Plain fits (`likelihood="gaussian"`) of some rounds of polishing, so that all take the same steps: `ROUNDS` says how many.
`seconds` are those of the fit by the clock, `received` what a process receives from the others, `nats` the score of 2000 other
rows, `same` whether all processes end with the same decoder.

Run: python benchmarks/distributed.py [--cases ...] [--processes 1 2 4] [--seeds 0]
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import multiprocessing
import tempfile
import time
import warnings
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from cells import Cells, table
from numpy.typing import NDArray
from scaling import surface
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

from skcvae import CoupledVAE
from skcvae.datasets import make_gaussian_grid
from skcvae.distributed import Shards
from skcvae.schedule import Schedule

N_HELD_OUT = 2000
ROUNDS = {"gaussians": 4, "table": 4, "images": 2}


def images(n: int, seed: int) -> NDArray[np.float32]:
    """Digits of 24 x 24 pixels at random places of 28 x 28, (n, 784), in [0, 1]."""
    rng, digits = np.random.default_rng(seed), load_digits().images / 16
    large = np.stack([zoom(digit, 3, order=1) for digit in digits]).astype(np.float32)
    found = np.zeros((n, 28, 28), np.float32)
    chosen, places = rng.integers(len(large), size=n), rng.integers(5, size=(n, 2))
    for image, which, (row, column) in zip(found, chosen, places, strict=True):
        image[row : row + 24, column : column + 24] = large[which]
    return np.clip(found.reshape(n, -1) + 0.05 * rng.standard_normal((n, 784), np.float32), 0, 1)


def rows_of(case: str, seed: int, is_held_out: bool) -> NDArray[Any]:
    seed = 2 * seed + is_held_out
    if case == "gaussians":
        return make_gaussian_grid(N_HELD_OUT if is_held_out else 7500, random_state=seed)[0]
    if case == "table":
        return surface(N_HELD_OUT if is_held_out else 1_000_000, seed)
    return images(N_HELD_OUT if is_held_out else 60_000, seed)


def model_of(case: str, seed: int) -> CoupledVAE:
    params: dict[str, Any] = {"schedule": Schedule(polish_rounds=ROUNDS[case]), "random_state": seed, "likelihood": "gaussian"}
    if case == "images":
        params |= {"network": "conv", "n_components": 8}
    return CoupledVAE(tol=0.0, **params)


def counted(received: list[int]) -> None:
    """Let communication say how many bytes this process receives."""
    gather, reduce = dist.all_gather, dist.all_reduce

    def all_gather(tensors: list[torch.Tensor], tensor: torch.Tensor, group: Any = None) -> Any:
        received[0] += tensor.nbytes * (len(tensors) - 1)
        return gather(tensors, tensor, group=group)

    def all_reduce(tensor: torch.Tensor, group: Any = None) -> Any:
        size = dist.get_world_size(group)
        received[0] += 2 * tensor.nbytes * (size - 1) // size
        return reduce(tensor, group=group)

    dist.all_gather, dist.all_reduce = all_gather, all_reduce


def work(case: str, seed: int, n_threads: int, rank: int, size: int, address: str, results: Any) -> None:
    torch.set_num_threads(n_threads)
    warnings.simplefilter("ignore")
    X, received = rows_of(case, seed, False), [0]
    model = model_of(case, seed)
    if size > 1:
        counted(received)
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=size)
        shard = Shards(np.ascontiguousarray(np.array_split(X, size)[rank]))
        del X
        dist.barrier()
        begin = time.perf_counter()
        model.fit(shard)
    else:
        begin = time.perf_counter()
        model.fit(X)
    seconds = time.perf_counter() - begin
    weights = b"".join(value.numpy().tobytes() for value in model._fitted.decoder.state_dict().values())
    score = float(model.score_samples(rows_of(case, seed, True)).mean()) if rank == 0 else 0.0
    coupling = model.coupling_
    results.put((rank, seconds, received[0], score, coupling.marginal_error, hashlib.sha256(weights).hexdigest()))
    if size > 1:
        dist.destroy_process_group()


def cell(case: str, seed: int, size: int, n_threads: int) -> dict[str, float]:
    context, found = multiprocessing.get_context("spawn"), []
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        address = f"file://{folder}/group"
        arguments = [(case, seed, n_threads, rank, size, address, results) for rank in range(size)]
        processes = [context.Process(target=work, args=one) for one in arguments]
        for process in processes:
            process.start()
        found = sorted(results.get() for _ in processes)
        for process in processes:
            process.join()
    rank_zero = found[0]
    return {
        "seconds": max(one[1] for one in found),
        "received": max(one[2] for one in found) / 2**20,
        "nats": rank_zero[3],
        "marginal_error": rank_zero[4],
        "same": float(len({one[5] for one in found}) == 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=list(ROUNDS))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    cells, lines = Cells("distributed"), []
    kinds = [(size, 1) for size in arguments.processes] + [(1, 2)]
    for case in arguments.cases:
        alone = None
        for size, n_threads in kinds:
            found = [
                cells.row(
                    functools.partial(cell, case, seed, size, n_threads), case=case, seed=seed, processes=size, threads=n_threads
                )
                for seed in arguments.seeds
            ]
            mean = {
                key: float(np.mean([one[key] for one in found]))
                for key in ("seconds", "received", "nats", "marginal_error", "same")
            }
            alone = mean["seconds"] if alone is None else alone
            name = f"{size} x {n_threads} thread{'s' if n_threads > 1 else ''}"
            seconds = f"{mean['seconds']:.0f} | {alone / mean['seconds']:.2f}"
            lines.append(
                [
                    case,
                    name,
                    *seconds.split(" | "),
                    f"{mean['received']:.0f}",
                    f"{mean['nats']:.3f}",
                    f"{mean['marginal_error']:.1e}",
                ]
            )
            lines[-1].append("yes" if mean["same"] == 1 else "no")
    print(table(["case", "processes", "s", "times as fast", "received, MiB", "nats", "marginal error", "same"], lines))


if __name__ == "__main__":
    main()
