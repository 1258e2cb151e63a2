"""The two passes of the semi-dual over all pairs of n data and m prior draws, beside other libraries and the machine's floor.

What is computed: with squared Euclidean costs and a potential f, the log-sum-exp of each draw's column of the plan, the barycentre
of the data under it, and the log of the plan's mass on each datum. The data are standard normal in d dimensions, the temperature is
a tenth of the median cost, f is standard normal times the temperature.

- `skcvae`: `transport.evaluate`, then its barycentres; `without barycentres` is the first of the two, which is what an iteration of
  a solver costs.
- `torch`: the formulas with `logsumexp` and `softmax` on the matrix of all scores; `torch.compile`: the same, compiled.
- `fused attention`: torch's operation for attention on the CPU, once in each direction.
- `POT`: `ot.semidiscrete`'s c-transform and atom weights, of which barycentres and masses are products and means.
- `KeOps`: lazy tensors' `logsumexp` in both directions and `sumsoftmaxweight`; GeomLoss's online backend is built on the first.
- `OTT`: a `PointCloud` in batches of 256: `apply_lse_kernel` in both directions, `apply_transport_from_potentials`.
- `floor`: the products alone, of scores and of barycentres, in blocks that stay in a cache, plus the exponential of every pair.

All methods of a shape take turns in one process; medians of the repetitions; ratios are to the floor. `error` is the largest
difference of the log masses from plain torch in float64, `MB` the rise of the resident memory's peak over one pass in a process of
its own, after one at a tenth of the size (Linux only). A method that is not installed or fails is shown as such.

The table was made with pykeops 2.3, ott-jax 0.6.0 and jax 0.7.2 in an environment of their own; none is needed for the others.

Run: python benchmarks/kernels.py [--shapes 7500x256x2 ...] [--methods ...] [--threads 1] [--repeats 5]
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import table
from torch import Tensor

from skcvae import _kernels
from skcvae.transport import Source, Target, evaluate

SHAPES = ("7500x256x2", "2560x256x784", "60000x1024x64", "1000000x256x16")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
Result = tuple[Tensor, Tensor, Tensor]
Method = Callable[[], Any]


class Case:
    """Data x (n, d), draws y (m, d), potential f (n,) and temperature."""

    def __init__(self, shape: str, dtype: str) -> None:
        n, m, d = (int(size) for size in shape.split("x"))
        generator = torch.Generator().manual_seed(0)
        x, y, f = (torch.randn(*s, generator=generator) for s in ((n, d), (m, d), (n,)))
        self.epsilon = 0.1 * float(0.5 * (x[:500, None] - y[:256]).square().sum(2).median())
        self.x, self.y, self.f = (tensor.to(DTYPES[dtype]) for tensor in (x, y, self.epsilon * f))
        self.h, self.a = 0.5 * self.x.square().sum(1), 0.5 * self.y.square().sum(1)
        self.log_b = torch.full_like(self.a, -np.log(m))

    def scores(self) -> Tensor:
        """(f - h + x . y)/epsilon, (m, n)."""
        return torch.addmm((self.f - self.h) / self.epsilon, self.y / self.epsilon, self.x.T)


def ours(case: Case) -> Method:
    def run() -> Result:
        state = _state(case, with_barycentres=True)
        return state.prior_potential, state.barycentre, state.log_mass

    return run


def without_barycentres(case: Case) -> Method:
    def run() -> Any:
        state = _state(case, with_barycentres=False)
        return state.prior_potential, None, state.log_mass

    return run


def _state(case: Case, with_barycentres: bool) -> Any:
    source, target = Source(case.x, case.h), Target(case.y, case.a, case.log_b)
    return evaluate(source, target, case.f, case.epsilon, with_barycentres)


def _plain(scores: Tensor, x: Tensor, log_b: Tensor) -> Result:
    log_sum = torch.logsumexp(scores, 1)
    barycentre = torch.softmax(scores, 1) @ x
    return log_sum, barycentre, torch.logsumexp(scores + (log_b - log_sum)[:, None], 0) + np.log(len(x))


def plain(case: Case) -> Method:
    return lambda: _plain(case.scores(), case.x, case.log_b)


def compiled(case: Case) -> Method:
    function = torch.compile(_plain, dynamic=False)
    return lambda: function(case.scores(), case.x, case.log_b)


def fused(case: Case) -> Method:
    def run() -> Result:
        log_sum, barycentre = _kernels.attend_fused(case.y / case.epsilon, case.x, case.x, (case.f - case.h) / case.epsilon)
        back = _kernels.attend_fused(case.x / case.epsilon, case.y, case.y, case.log_b - log_sum)[0]
        return log_sum, barycentre, back + (case.f - case.h) / case.epsilon + np.log(len(case.x))

    return run


def pot(case: Case) -> Method:
    import ot.semidiscrete as ot

    settings = {"metric": _half_squared, "reg": case.epsilon}

    def run() -> Result:
        transform = ot.semidiscrete_c_transform(case.x, case.y, case.f, **settings)
        weights = ot.semidiscrete_atom_weights(case.x, case.y, case.f, **settings)
        return transform, weights @ case.x, (len(case.x) * weights.mean(0)).log()

    return run


def _half_squared(x: Tensor, y: Tensor) -> Tensor:
    import ot

    return 0.5 * ot.dist(x, y)


def keops(case: Case) -> Method:
    from pykeops.torch import LazyTensor

    y, x = LazyTensor(case.y[:, None] / case.epsilon), LazyTensor(case.x[None])

    def run() -> Result:
        scores = (y * x).sum(-1) + LazyTensor(((case.f - case.h) / case.epsilon)[None, :, None])
        log_sum = scores.logsumexp(1)[:, 0]
        barycentre = scores.sumsoftmaxweight(x, 1)
        back = (scores + LazyTensor((case.log_b - log_sum)[:, None, None])).logsumexp(0)[:, 0]
        return log_sum, barycentre, back + np.log(len(case.x))

    return run


def ott(case: Case) -> Method:
    import jax

    jax.config.update("jax_enable_x64", case.x.dtype == torch.float64)
    from ott.geometry import costs, pointcloud

    x, y, f = (jax.numpy.asarray(tensor.numpy()) for tensor in (case.x, case.y, case.f))

    @jax.jit
    def passes(x: Any, y: Any, f: Any) -> Any:
        geometry = pointcloud.PointCloud(y, x, cost_fn=costs.SqEuclidean(), epsilon=2 * case.epsilon, batch_size=256)
        zero = jax.numpy.zeros(len(y))
        g = -geometry.apply_lse_kernel(zero, 2 * f, geometry.epsilon, axis=1)[0] + 2 * case.epsilon * np.log(len(x))
        mass = (geometry.apply_lse_kernel(g, 2 * f, geometry.epsilon, axis=0)[0] + 2 * f) / geometry.epsilon
        return g, geometry.apply_transport_from_potentials(g, 2 * f, x.T, axis=1).T / len(x), mass - np.log(len(y))

    def run() -> Result:
        g, barycentre, mass = (torch.as_tensor(np.array(part)) for part in jax.block_until_ready(passes(x, y, f)))
        return g, barycentre, mass

    return run


def floor(case: Case) -> Method:
    length = max(_kernels.ROWS_PER_SWEEP, _kernels.PAIRS_PER_SWEEP // len(case.x))
    block = torch.empty(length, len(case.x), dtype=case.x.dtype)

    def run() -> None:
        for rows in case.y.split(length):
            scores = torch.mm(rows, case.x.T, out=block[: len(rows)])
            scores @ case.x
            torch.exp(scores.clamp_(max=0), out=scores)

    return run


METHODS: dict[str, Callable[[Case], Method]] = {
    "floor": floor,
    "skcvae": ours,
    "without barycentres": without_barycentres,
    "torch": plain,
    "torch.compile": compiled,
    "fused attention": fused,
    "POT": pot,
    "KeOps": keops,
    "OTT": ott,
}


def ready(case: Case, names: list[str]) -> tuple[dict[str, Method], dict[str, str]]:
    """The methods that can be run, each run once, and why others cannot."""
    methods, missing = {}, {}
    for name in names:
        try:
            methods[name] = METHODS[name](case)
            methods[name]()
        except ImportError:
            missing[name] = "not installed"
        except Exception as error:  # a peer's failure is a result
            missing[name] = type(error).__name__
            methods.pop(name, None)
    return methods, missing


def times(methods: dict[str, Method], repeats: int) -> dict[str, float]:
    """Median seconds of each, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            begin = time.perf_counter()
            method()
            taken[name].append(time.perf_counter() - begin)
    return {name: float(np.median(values)) for name, values in taken.items()}


@functools.cache
def exact(shape: str) -> Tensor:
    """Log masses by plain torch in float64."""
    return plain(Case(shape, "float64"))()[2]  # type: ignore[no-any-return]


def risen(method: str, shape: str, dtype: str) -> float:
    """Rise of this process's peak memory over one pass, in MB; the small one before brings imports and compilers along."""
    n, rest = shape.split("x", 1)
    METHODS[method](Case(f"{int(n) // 10}x{rest}", dtype))()
    run = METHODS[method](Case(shape, dtype))
    Path("/proc/self/clear_refs").write_text("5")
    before = resident()
    run()
    return resident() - before


def resident() -> float:
    """The peak of this process's resident memory since it was last reset, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def peak(method: str, shape: str, dtype: str, threads: int) -> float:
    """Peak memory of a process that makes one pass, in MB."""
    command = [sys.executable, __file__, "--peak", method, "--shapes", shape, "--dtypes", dtype, "--threads", str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def rows(shape: str, dtype: str, names: list[str], repeats: int, threads: int) -> list[list[str]]:
    """The lines of one shape."""
    case = Case(shape, dtype)
    methods, missing = ready(case, names)
    seconds, lines = times(methods, repeats), []
    for name in names:
        if name in missing:
            lines.append([shape, dtype, name, missing[name], "-", "-", "-"])
            continue
        found = methods[name]()
        error = "-" if found is None else f"{float((found[2].double() - exact(shape)).abs().max()):.0e}"
        memory = f"{peak(name, shape, dtype, threads):.0f}"
        lines.append([shape, dtype, name, f"{1e3 * seconds[name]:.1f}", f"{seconds[name] / seconds['floor']:.2f}", error, memory])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES))
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    if arguments.peak:
        print(risen(arguments.peak, arguments.shapes[0], arguments.dtypes[0]))
        return
    names = ["floor", *(name for name in arguments.methods if name != "floor")]
    cases = ((shape, dtype) for shape in arguments.shapes for dtype in arguments.dtypes)
    lines = [line for shape, dtype in cases for line in rows(shape, dtype, names, arguments.repeats, arguments.threads)]
    print(table(["n x m x d", "precision", "method", "ms", "of floor", "error", "MB"], lines))


if __name__ == "__main__":
    main()
