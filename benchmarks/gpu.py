"""The two passes on a GPU: pairs of data and prior draws a second, beside the chip's rates of exponentials and of products.

What is computed is as in `kernels.py`. For each shape, in turns, medians of the repetitions:

- `skcvae`: `transport.evaluate` with barycentres, as in a training step; `without barycentres`: as in an iteration of a solver.
- `skcvae, compiled`: the same through `torch.compile`.
- `flex_attention`: torch's attention with a bias of the keys and its log-sum-exp, compiled, once in each direction.
- `limit`: what the chip could do if nothing but its slower rate counted, min(exp rate, product rate / (4 d)), of an element-wise
  exponential of 2^26 numbers and of a product of two 8192 x 8192 matrices, each measured here; a product's rate counts its
  multiplications and its additions.

`error` is the largest difference of the log masses from plain torch in float64 on the CPU. Then one default fit of the 25 Gaussians
on the device and on the CPU: seconds, and the share of samples within 4 standard deviations.

Run: python benchmarks/gpu.py [--device cuda] [--shapes ...] [--dtypes float32 float64] [--methods ...] [--repeats 20] [--no-fit]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from cells import table
from gaussians25 import STD, make_grid, within
from kernels import DTYPES, Case, exact
from torch import Tensor

from skcvae import CoupledVAE
from skcvae.transport import Source, Target, evaluate

SHAPES = ("7500x256x2", "7500x65536x2", "60000x4096x8", "60000x1024x64", "1000000x1024x16", "2560x16384x784")
Method = Callable[[], Any]


def moved(case: Case, device: str) -> Case:
    """The case on the device."""
    for name in ("x", "y", "f", "h", "a", "log_b"):
        setattr(case, name, getattr(case, name).to(device))
    return case


def ours(case: Case, with_barycentres: bool) -> Method:
    source, target = Source(case.x, case.h), Target(case.y, case.a, case.log_b)

    def run() -> Tensor:
        state = evaluate(source, target, case.f, case.epsilon, with_barycentres)
        if with_barycentres:
            _ = state.barycentre
        return state.log_mass

    return run


def compiled(case: Case) -> Method:
    return torch.compile(ours(case, True))  # type: ignore[no-any-return]


def flex(case: Case) -> Method:
    from torch.nn.attention.flex_attention import flex_attention

    attention = torch.compile(flex_attention, dynamic=False)

    def one(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        def score_mod(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return score + bias[j]

        heads = (_padded(tensor)[None, None] for tensor in (query, key, value))
        average, log_sum = attention(*heads, score_mod=score_mod, scale=1.0, return_lse=True)
        return average[0, 0, :, : value.shape[1]], log_sum[0, 0]

    def run() -> Tensor:
        _, log_sum = one(case.y / case.epsilon, case.x, case.x, (case.f - case.h) / case.epsilon)
        _, back = one(case.x / case.epsilon, case.y, case.y, case.log_b - log_sum)
        return back + (case.f - case.h) / case.epsilon + float(np.log(len(case.x)))

    return run


def _padded(tensor: Tensor) -> Tensor:
    """Columns up to a power of two of at least 16, which the attention needs."""
    width = max(16, 1 << (tensor.shape[1] - 1).bit_length())
    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[1]))


METHODS: dict[str, Callable[[Case], Method]] = {
    "skcvae": lambda case: ours(case, True),
    "without barycentres": lambda case: ours(case, False),
    "skcvae, compiled": compiled,
    "flex_attention": flex,
}


def seconds(run: Method, device: str, repeats: int) -> float:
    """Median seconds of a run, the device idle before and after."""
    taken = []
    for _ in range(repeats):
        wait(device)
        begin = time.perf_counter()
        run()
        wait(device)
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def rates(device: str, dtype: str, repeats: int) -> tuple[float, float]:
    """Exponentials a second, and multiplications and additions a second in a product of matrices."""
    numbers, size = torch.zeros(2**26, dtype=DTYPES[dtype], device=device), 8192 if device.startswith("cuda") else 1024
    matrix, out = torch.ones(size, size, dtype=DTYPES[dtype], device=device), torch.empty_like(numbers)
    exponentials = len(numbers) / seconds(lambda: torch.exp(numbers, out=out), device, repeats)
    return exponentials, 2 * size**3 / seconds(lambda: matrix @ matrix, device, repeats)


def rows(shape: str, dtype: str, device: str, repeats: int, rate: tuple[float, float], methods: list[str]) -> list[list[str]]:
    """The lines of one shape."""
    n, m, d = (int(size) for size in shape.split("x"))
    limit, case, lines = min(rate[0], rate[1] / (4 * d)), moved(Case(shape, dtype), device), []
    for name in methods:
        try:
            run = METHODS[name](case)
            error = float((run().double().cpu() - exact(shape)).abs().max())
            pairs = n * m / seconds(run, device, repeats)
            lines.append([shape, dtype, name, f"{pairs:.2e}", f"{100 * pairs / limit:.0f}", f"{error:.0e}"])
        except Exception as failure:  # what does not run here is a result
            lines.append([shape, dtype, name, type(failure).__name__, "-", "-"])
    return lines


def fit_row(device: str) -> list[str]:
    """One default fit of the 25 Gaussians."""
    begin = time.perf_counter()
    model = CoupledVAE(hidden_layer_sizes=(256, 256, 256), device=device, random_state=0).fit(make_grid(STD, 0))
    spent = time.perf_counter() - begin
    return [device, f"{spent:.0f}", f"{within(model.sample(20000, random_state=1)):.2f}", f"{model.coupling_.marginal_error:.1e}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES))
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--no-fit", action="store_true")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("this machine has no GPU that torch sees; give --device cpu to try the script.")
    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    lines, device = [], arguments.device
    for dtype in arguments.dtypes:
        rate = rates(device, dtype, arguments.repeats)
        print(f"{dtype}: {rate[0]:.2e} exponentials a second, {rate[1]:.2e} operations in products", flush=True)
        for shape in arguments.shapes:
            lines += rows(shape, dtype, device, arguments.repeats, rate, arguments.methods)
    print(table(["n x m x d", "precision", "method", "pairs a second", "% of limit", "error"], lines))
    if not arguments.no_fit:
        torch.set_grad_enabled(True)
        print(table(["device", "fit, s", "within 4 std, %", "marginal error"], [fit_row(name) for name in (device, "cpu")]))


if __name__ == "__main__":
    main()
