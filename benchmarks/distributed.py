"""One fit by several processes beside one process: seconds, what is sent, and whether the models are as good.

Each process has one thread and a shard of the rows; `1 x 2 threads` is one process with two. All run alone, one after the other.

- `gaussians`: 25 Gaussians, 7500 rows in the plane, the default decoder.
- `table`: 1e6 rows of 16 features, the surface of scaling.py, the default decoder.
- `images`: 60000 images of 28 x 28 pixels, scikit-learn's digits three times as large and moved at random, `network="conv"`, at
  most 30 steps of 512 draws a round, plans of 8192 rows and draws.

Plain fits (`likelihood="gaussian"`) of some rounds of polishing, so that all take the same steps: `ROUNDS` says how many.
`trained` are the seconds by the clock until the frozen solve begins, `seconds` those of the whole fit, which needs more or fewer
pools by chance. `received` is what a process receives from the others, `nats` the score of 2000 other rows, and `same` whether all
processes end with the same decoder.

- `disk`: 3.125e7 rows of the surface, 5e8 numbers in float64, in eight Parquet files (4 GB). Two processes write their halves to
  arrays on disk (`load_parquet`), fit, and give `transform` and `score_samples` of 1e6 rows each. `resident` is the most memory of
  both together that is no page of a file, every 0.2 s. The score is compared with that of a fit to a tenth of the rows in memory.
- `kills`: ten fits of two processes with checkpoints, of which one or both are killed at a random time, again and again until the
  fit has ended; printed is how many of these end with the weights of a fit that was not killed.

Run: python benchmarks/distributed.py [--parts speed disk kills] [--cases ...] [--processes 1 2 4] [--seeds 0] [--folder PATH]
"""

from __future__ import annotations

import argparse
import datetime
import functools
import hashlib
import multiprocessing
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
import torch.distributed as dist
from cells import Cells, table
from numpy.typing import NDArray
from scaling import surface
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

from skcvae import CoupledVAE, _coupled
from skcvae.datasets import load_parquet, make_gaussian_grid
from skcvae.distributed import Shards
from skcvae.schedule import Schedule, Stage

N_HELD_OUT, N_ON_DISK = 2000, 31_250_000
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
        stage = Stage(share=1.0, draws=8192, batch=2, rate=1.0, visits=20.0, fewest=30, moves=False)
        schedule = Schedule(polish_rounds=ROUNDS[case], max_rows=8192, max_draws=8192, trial=stage, stages=(stage,))
        params |= {"network": "conv", "n_components": 8, "max_iter": 30, "schedule": schedule}
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
    X, received, trained = rows_of(case, seed, False), [0], [0.0]
    freeze = _coupled._phases.freeze

    def timed(*arguments: Any) -> Any:
        trained[0] = time.perf_counter() - begin
        return freeze(*arguments)

    _coupled._phases.freeze = timed
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
    results.put((rank, seconds, received[0], score, coupling.marginal_error, hashlib.sha256(weights).hexdigest(), trained[0]))
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
        "trained": max(one[6] for one in found),
        "seconds": max(one[1] for one in found),
        "received": max(one[2] for one in found) / 2**20,
        "nats": rank_zero[3],
        "marginal_error": rank_zero[4],
        "same": float(len({one[5] for one in found}) == 1),
    }


def resident() -> int:
    """Bytes of memory of this process that are no pages of files."""
    status = Path("/proc/self/status").read_text()
    return 1024 * sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem")))


def sampled(largest: Any, stop: threading.Event) -> None:
    """Note how much memory this process has, until it is asked to stop."""
    while not stop.wait(0.2):
        largest.value = max(largest.value, resident())


def on_disk(folder: str, rank: int, size: int, address: str, largest: Any, results: Any) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    stop = threading.Event()
    watcher = threading.Thread(target=sampled, args=(largest, stop))
    watcher.start()
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=size)
    seconds, begin = [], time.perf_counter()
    rows = load_parquet(f"{folder}/table", to=f"{folder}/rows-{rank}.npy", part=(rank, size), dtype="float64")
    model = model_of("table", 0)
    for job in (
        lambda: model.fit(Shards(rows)),
        lambda: model.transform(rows[:1_000_000]),
        lambda: model.score_samples(rows[:1_000_000]),
    ):
        seconds.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        job()
    seconds.append(time.perf_counter() - begin)
    results.put((rank, seconds, float(model.score_samples(rows_of("table", 0, True)).mean()), model.coupling_.marginal_error))
    stop.set()
    watcher.join()
    dist.destroy_process_group()


def disk(folder: Path) -> dict[str, float]:
    (folder / "table").mkdir(parents=True, exist_ok=True)
    n_files, length = 8, N_ON_DISK // 8
    for number in range(n_files):
        path = folder / "table" / f"{number}.parquet"
        if not path.exists():
            X = surface(length, 100 + number).astype(np.float64)
            pyarrow.parquet.write_table(pyarrow.table({f"x{c}": X[:, c] for c in range(16)}), path, row_group_size=2**18)
            del X
    context = multiprocessing.get_context("spawn")
    results, largest = context.Queue(), [context.Value("q", 0) for _ in range(2)]
    address = f"file://{folder}/group"
    processes = [context.Process(target=on_disk, args=(str(folder), r, 2, address, largest[r], results)) for r in range(2)]
    for process in processes:
        process.start()
    found = sorted(results.get() for _ in processes)
    for process in processes:
        process.join()
    tenth = model_of("table", 0).fit(surface(N_ON_DISK // 10, 100))
    names = ("load", "fit", "transform", "score")
    seconds = {f"{name}_seconds": max(one[1][place] for one in found) for place, name in enumerate(names)}
    nats = float(tenth.score_samples(rows_of("table", 0, True)).mean())
    resident_most = sum(one.value for one in largest) / 2**30
    return {**seconds, "resident": resident_most, "nats": found[0][2], "nats_tenth": nats, "marginal_error": found[0][3]}


def killable(folder: str, rank: int, size: int, address: str, results: Any) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=size, timeout=datetime.timedelta(seconds=20))
    X = np.array_split(rows_of("gaussians", 0, False)[:1500], size)[rank]
    small = {"hidden_layer_sizes": (64, 64), "max_iter": 100, "schedule": Schedule(polish_rounds=4, max_draws=16384)}
    model = CoupledVAE(**small, random_state=0, likelihood="gaussian", checkpoint=f"{folder}/states")
    try:
        model.fit(Shards(X))
    except RuntimeError:  # the other process was killed
        raise SystemExit(1) from None
    weights = b"".join(value.numpy().tobytes() for value in model._fitted.decoder.state_dict().values())
    results.put(hashlib.sha256(weights).hexdigest())
    dist.destroy_process_group()


def killed(seed: int, longest: float | None) -> dict[str, Any]:
    """The weights of a fit whose processes are killed at random, how often, and how many seconds all took."""
    rng, context, n_kills, begin = np.random.default_rng(seed), multiprocessing.get_context("spawn"), 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        while True:
            results = context.Queue()
            address = f"file://{folder}/group{n_kills}"
            processes = [context.Process(target=killable, args=(folder, r, 2, address, results)) for r in range(2)]
            for process in processes:
                process.start()
            if longest is not None:
                processes[0].join(rng.uniform(2.0, longest))  # the first two seconds are imports
            is_ended = not any(process.is_alive() for process in processes)
            if longest is not None and not is_ended:
                n_kills += 1
                for process in processes if rng.random() < 0.5 else [processes[rng.integers(2)]]:
                    process.kill()
            for process in processes:
                process.join()
            if all(process.exitcode == 0 for process in processes):
                return {"weights": results.get(), "kills": n_kills, "seconds": time.perf_counter() - begin}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=["speed", "disk", "kills"])
    parser.add_argument("--folder", type=Path, help="with 9 GB of room, for the part `disk`")
    parser.add_argument("--cases", nargs="+", default=list(ROUNDS))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    cells, lines = Cells("distributed"), []
    if "disk" in arguments.parts and arguments.folder is not None:
        cells.row(functools.partial(disk, arguments.folder), part="disk")
    if "kills" in arguments.parts:
        whole = cells.row(lambda: killed(0, None), part="kills", seed=-1)
        ends = [cells.row(functools.partial(killed, seed, whole["seconds"]), part="kills", seed=seed) for seed in range(10)]
        n_same = sum(one["weights"] == whole["weights"] for one in ends)
        print(f"{n_same} of {len(ends)} killed fits ({sum(one['kills'] for one in ends)} kills) end as the one that was not killed")
    if "speed" not in arguments.parts:
        return
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
                for key in ("trained", "seconds", "received", "nats", "marginal_error", "same")
            }
            alone = mean if alone is None else alone
            name = f"{size} x {n_threads} thread{'s' if n_threads > 1 else ''}"
            times = [(f"{mean[key]:.0f}", f"{alone[key] / mean[key]:.2f}") for key in ("trained", "seconds")]
            rest = f"{mean['received']:.0f}", f"{mean['nats']:.3f}", f"{mean['marginal_error']:.1e}"
            lines.append([case, name, *times[0], *times[1], *rest])
            lines[-1].append("yes" if mean["same"] == 1 else "no")
    print(
        table(
            [
                "case",
                "processes",
                "trained, s",
                "times as fast",
                "whole, s",
                "times as fast",
                "received, MiB",
                "nats",
                "marginal error",
                "same",
            ],
            lines,
        )
    )


if __name__ == "__main__":
    main()
