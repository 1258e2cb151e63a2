"""Whether a wrong formula is noticed: each of these changes to the sources, one at a time in a copy, must make a test fail.

Run: python benchmarks/mutations.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cells import table

ROOT = Path(__file__).parents[1]
TESTS = [
    f"tests/test_{name}.py"
    for name in (
        "kernels",
        "transport",
        "propositions",
        "likelihoods",
        "solvers",
        "data",
        "factors",
        "training",
        "autoencoders",
        "coupled",
        "priors",
        "posteriors",
        "encoders",
        "encoders_laplace",
        "real_sizes",
        "weights",
        "sample_weight",
        "tables",
        "noise",
        "missing",
        "mixed",
    )
]
#: Tests that come first for a file or a room, as they are the likeliest to fail.
LIKELIEST = {
    "posteriors": ("encoders", "posteriors", "real_sizes", "coupled"),
    "priors": ("priors",),
    "_data.py": ("noise", "weights", "sample_weight"),
    "_base.py": ("posteriors",),
    "_autoencoder.py": ("autoencoders",),
    "likelihoods": ("likelihoods", "tables", "noise", "mixed"),
    "_crossfit.py": ("noise", "mixed"),
    "_columns.py": ("mixed",),
    "_missing.py": ("missing",),
    "_fitting.py": ("noise",),
    "transport": ("transport", "propositions", "weights"),
    "_amortise.py": ("autoencoders", "encoders"),
    "_fitted.py": ("factors", "coupled"),
    "_phases": ("coupled", "solvers", "sample_weight"),
}
#: File, what stands there, and what is put in its place.
MUTATIONS = [
    ("_kernels.py", "return 2 * log_sum - log_sum_squares", "return log_sum - log_sum_squares"),
    ("_kernels.py", ".expm1() for mass in", ".exp() for mass in"),
    ("_kernels.py", "largest[:, 0] - shares.amax(1).log()", "largest[:, 0]"),
    ("_kernels.py", "+ softness * log_sum", "- softness * log_sum"),
    ("_kernels.py", "_softmax(scores)[1] @ value", "scores @ value"),
    ("transport/_problem.py", "log_weight + _kernels.KNOWN_ABOVE", "log_weight - 1e4"),
    ("transport/_problem.py", "log_density, g = -rho * hard / epsilon", "log_density, g = rho * hard / epsilon"),
    ("transport/_problem.py", "following - state.epsilon * (1 / rho - 1)", "following - state.epsilon * (1 / rho)"),
    ("transport/_problem.py", "exact_rows = state.potential - state.epsilon * state.log_mass", "exact_rows = state.potential"),
    (
        "transport/_problem.py",
        "bias = (potential - self.carrier) / epsilon",
        "bias = (potential + self.carrier) / epsilon",
    ),
    ("transport/_networks.py", "v if rho == 0 else", "v if rho == 0 else 2 *"),
    ("transport/_networks.py", "clamp(max=LARGEST_EXPONENT).expm1())", "clamp(max=LARGEST_EXPONENT).exp())"),
    ("transport/_semidual.py", "weights / weights.sum()", "weights"),
    (
        "objectives.py",
        "(mass * family.divergence(output, barycentre)).sum() / epsilon",
        "family.divergence(output, barycentre).sum() / epsilon",
    ),
    ("objectives.py", "(1 + 2 * family.divergence", "(1 + family.divergence"),
    ("objectives.py", "loss + kl_weight * kl.mean()", "loss + kl.mean()"),
    ("objectives.py", "divergence_weight * divergence", "divergence"),
    ("likelihoods/_gaussian.py", "return output / self.scale.square(), 0.5", "return output / self.scale, 0.5"),
    ("likelihoods/_gaussian.py", "self.scale * math.sqrt(epsilon)", "self.scale * epsilon"),
    ("likelihoods/_gaussian.py", "mean.square() * precision + deviation.log()", "mean.square() * precision"),
    ("likelihoods/_gaussian.py", "log_scale + 0.5 * x.shape[1] * LOG_2PI", "0.5 * x.shape[1] * LOG_2PI"),
    ("likelihoods/_bernoulli.py", "x_log_x(p) + x_log_x(1 - p)", "_x_log_x(p) + _x_log_x(p)"),
    ("likelihoods/_family.py", "torch.maximum(variance - epsilon,", "torch.maximum(variance,"),
    ("_phases/_problem.py", "return -epsilon * log_mass(", "return epsilon * log_mass("),
    ("_phases/_freeze.py", "log_density, log_weights + side.log_density)", "log_density, log_weights)"),
    ("_phases/_freeze.py", "(side.prior_potential - gauge - normaliser) / epsilon", "(side.prior_potential - gauge) / epsilon"),
    ("_fitted.py", "self.temperature * self.holes.planes", "self.holes.planes"),
    ("_amortise.py", "return log_q[:, 0] - self.coordinates", "return self.coordinates"),
    ("posteriors/_pool.py", "(1 / size - 1 / n_draws)", "(1 / size)"),
    ("posteriors/_pool.py", "log_sum - self.family.carrier(x), relative", "log_sum, relative"),
    ("posteriors/_inference.py", "- first[:, :, None] * first[:, None, :]", "+ first[:, :, None] * first[:, None, :]"),
    ("posteriors/_pool.py", "weights.double().cumsum(1)", "weights.double().square().cumsum(1)"),
    ("posteriors/_inference.py", "(1 - self.softness) * (normaliser", "(normaliser"),
    ("posteriors/_local.py", "coordinates.latent(y), log_p - log_mixture", "coordinates.latent(y), -log_mixture"),
    ("posteriors/_local.py", "torch.logaddexp(log_pooled, log_own[-1])", "log_own[-1]"),
    ("posteriors/_encoder.py", "+ 0.5 * self._white(y)", "+ self._white(y)"),
    ("posteriors/_encoder.py", "candidates = y - torch.tensor(STEP", "candidates = y + torch.tensor(STEP"),
    ("posteriors/_conditional.py", "0.5 * (trace + distance - location.shape[1])", "0.5 * (trace + distance)"),
    ("posteriors/_conditional.py", "white.shape[-1] * LOG_2PI) - log_volume", "white.shape[-1] * LOG_2PI) + log_volume"),
    ("posteriors/_coordinates.py", "return log_prob + (volume", "return log_prob - (volume"),
    ("priors/_base.py", "/ np.sqrt(variance[kept])", "/ variance[kept]"),
    ("priors/_base.py", "centred.T * weights) @ centred", "centred.T) @ centred"),
    ("priors/_given.py", "(total + 1).unsqueeze(-1)", "total.unsqueeze(-1)"),
    ("priors/_given.py", "within + _square(means - mean)", "within"),
    ("transport/_problem.py", "masses = masses - source.log_weights", "masses = masses + 0 * source.log_weights"),
    ("transport/_problem.py", "else bias + self.log_weights", "else bias"),
    ("transport/_semidual.py", "(0.5 * self.source.log_weights).exp()", "(0.0 * self.source.log_weights).exp()"),
    ("_phases/_train.py", "(unbiased * variance_of_rows(scores, counts)).sqrt()", "(unbiased * variance_of_rows(scores)).sqrt()"),
    ("_phases/_propose.py", "bias = source.bias(potential, epsilon)", "bias = (potential - source.carrier) / epsilon"),
    ("_data.py", "np.log(weights / weights.mean())", "np.log(weights)"),
    ("_data.py", "(positions + offset)", "positions"),
    ("_base.py", "error[tail[0] > posteriors.LARGEST_TAIL] = np.inf", "pass"),
    ("_autoencoder.py", "residual / math.sqrt(kl_weight)", "residual"),
    ("_autoencoder.py", "return trained, 1.0", "return trained, kl_weight"),
    (
        "likelihoods/_family.py",
        "self.row_map.mean_log_slope - self.row_map.log_slope",
        "self.row_map.mean_log_slope + self.row_map.log_slope",
    ),
    ("likelihoods/_family.py", "constant + self.row_map.log_volume -", "constant -"),
    ("likelihoods/_rows.py", "self.powers[moved]) - np.log(self.spread[moved])", "self.powers[moved])"),
    ("likelihoods/_rows.py", "(power - 1) * np.log1p", "power * np.log1p"),
    ("likelihoods/_rows.py", "float(np.square(covariance).sum())) / total", "float(np.square(covariance).sum()))"),
    ("likelihoods/_gaussian.py", "np.diff(few))) / math.sqrt(12)", "np.diff(few)))"),
    ("likelihoods/_gaussian.py", "smallest[varies] = np.maximum(", "smallest[varies] = np.minimum("),
    ("likelihoods/_rows.py", "values[-n_components:] *= ENCODED_SHARE", "values[:n_components] *= ENCODED_SHARE"),
    ("likelihoods/_rows.py", "(n * moment + d * before) / (n + d)", "(n * moment + before) / (n + 1)"),
    ("likelihoods/_rows.py", "self.log_slope(others) - 0.5", "-0.5"),
    ("_crossfit.py", "[(one, two), (two, one)]", "[(one, one), (two, two)]"),
    ("_crossfit.py", "gain < -CLEARLY * error", "gain > -CLEARLY * error"),
    ("_crossfit.py", "factor @ moment.numpy() @ factor.T", "factor.T @ moment.numpy() @ factor"),
    ("posteriors/_local.py", "torch.logsumexp(log_weights, 1) - self.mixture", "torch.logsumexp(log_weights, 1) + self.mixture"),
    ("transport/_problem.py", "_processes.summed(values.sum())", "values.sum()"),
    ("transport/_problem.py", "return target.log_total(log_sum) +", "return log_sum +"),
    ("_processes.py", "return slice(rank(), n, size())", "return slice(0, n, size())"),
    ("_amortise.py", "0.0, kl_weight, 0.0) * (len(z) / len(x))", "0.0, kl_weight, 0.0)"),
    ("_crossfit.py", "moment = _processes.summed(moment)", "moment = 2 * moment"),
    ("likelihoods/_given.py", "np.clip(location, centre - reach, centre + reach)", "location"),
    ("posteriors/_local.py", "return low * log_weights", "return log_weights / low"),
    ("posteriors/_pool.py", "self.family.mean_at(self.scores._scaled(key)", "self.family.mean_at((key)"),
    ("posteriors/_encoder.py", "np.concatenate([half, -half])[:n_draws]", "np.concatenate([half, half])[:n_draws]"),
    ("_fitting.py", "without_folds() if mapped is None else likelihood.with_numbers(mapped)", "without_folds()"),
    ("_fitting.py", "return data.taken(~is_alone)", "return data"),
    ("_crossfit.py", "Table(asked.X, kept * asked.counts)", "Table(asked.X, asked.counts)"),
    ("_crossfit.py", "asked if is_off else", "asked if not is_off else"),
    ("_autoencoder.py", 'get("_likelihood", self.likelihood)', 'get("_likelihood")'),
    ("_crossfit.py", "if gap <= error)", "if gap < 0 or gap > error)"),
    ("_crossfit.py", "return gap > CLEARLY * error", "return gap < CLEARLY * error"),
    ("likelihoods/_background.py", "math.log(self.share) + broad", "broad"),
    ("likelihoods/_background.py", "0.5 * (nu + d) * np.log1p", "0.5 * nu * np.log1p"),
    ("likelihoods/_background.py", "counts[places].sum() < math.sqrt", "counts[places].sum() > math.sqrt"),
    ("likelihoods/_background.py", "np.maximum(1, deviation / length)", "np.minimum(1, deviation / length)"),
    ("likelihoods/_family.py", "kept * error, 0.0)", "error, 0.0)"),
    ("likelihoods/_family.py", "rng.random(len(X)) < self.background.share", "rng.random(len(X)) > self.background.share"),
    ("_data.py", "torch.logaddexp(self.log_kept + values", "torch.logaddexp(values"),
    ("posteriors/_local.py", "log_pool + math.log(len(self.of_prior))", "log_pool"),
    ("posteriors/_partial.py", "self.log_weights - normaliser", "self.log_weights + normaliser"),
    ("posteriors/_partial.py", "kept * means + (1 - kept)", "means + (1 - kept)"),
    ("_fitted.py", "self.pool.log_density + matched", "self.pool.log_coupling + matched"),
    ("likelihoods/_gaussian.py", "slope=family.unit * R", "slope=R"),
    ("likelihoods/_gaussian.py", "solve_triangular(factor, R[observed], lower=True)", "R[observed]"),
    ("likelihoods/_given.py", "+ residual @ self.gain.T", "- residual @ self.gain.T"),
    ("likelihoods/_rows.py", "- gain @ beside.T", "+ gain @ beside.T"),
    ("likelihoods/_background.py", "marginal._distance(y)) / (self.degrees + n_observed)", "marginal._distance(y)) / self.degrees"),
    ("_missing.py", "scores[np.ix_(places, observed)] @ gain.T + noise", "noise"),
    ("_missing.py", "range(N_ROUNDS)", "range(0)"),
    ("likelihoods/_discrete.py", "(eta.exp() @ self.blocks.to(eta)).log().sum(1)", "eta.exp().sum(1).log()"),
    ("likelihoods/_discrete.py", "1 / deviation, self.frequencies.log()", "1 / deviation, torch.zeros_like(deviation)"),
    ("likelihoods/_discrete.py", "torch.lgamma(x + 1).sum(1)", "torch.zeros_like(x[:, 0])"),
    ("likelihoods/_discrete.py", "total + PSEUDO_ROWS * np.repeat(sizes, sizes)", "total"),
    (
        "likelihoods/_product.py",
        "dtype=torch.float64).repeat_interleave(widths)",
        "dtype=torch.float64).mean().expand(sum(widths))",
    ),
    ("likelihoods/_given.py", "return int((~self.observed).sum())", "return int(self.observed.sum())"),
    ("likelihoods/_product.py", "[:, np.concatenate(self.columns).argsort()]", "[:, np.concatenate(self.columns)]"),
    ("_columns.py", "np.where(is_atom, np.nan, numbers)", "numbers"),
    ("_columns.py", "np.rint(numbers / self.step) * self.step", "np.rint(numbers)"),
    ("_columns.py", "values.mean(1)", "drawn[is_open, :, place + 1].mean(1)"),
    ("_crossfit.py", "broad + likelihood.log_marginal(fitted.X, fitted.weights, asked.X)", "broad"),
]


def check_places() -> None:
    """ValueError unless every change has its one place in the sources."""
    for name, before, _ in MUTATIONS:
        found = (ROOT / "skcvae" / name).read_text().count(before)
        if found != 1:
            raise ValueError(f"{before!r} occurs {found} times in {name}. Mend the list.")


def killed_by(mutation: tuple[str, str, str]) -> str:
    """The first test that fails on a mutated copy, or "none"."""
    name, before, after = mutation
    likeliest = LIKELIEST.get(name.split("/")[0], ())
    tests = sorted(TESTS, key=lambda test: not any(word in test for word in likeliest))
    with tempfile.TemporaryDirectory() as folder:
        for part in ("skcvae", "tests", "benchmarks"):
            shutil.copytree(ROOT / part, Path(folder) / part, ignore=shutil.ignore_patterns("results", "__pycache__"))
        path = Path(folder) / "skcvae" / name
        path.write_text(path.read_text().replace(before, after))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, f"{folder}/tests"])}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].removeprefix("tests/") if failed else "none"


def main() -> None:
    check_places()
    rows = []
    for mutation in MUTATIONS:
        rows.append([mutation[0], f"`{mutation[1]}`", f"`{mutation[2]}`", killed_by(mutation)])
        print(*rows[-1], flush=True)
    print(f"\n{table(['file', 'before', 'after', 'killed by'], rows)}")
    sys.exit(any(row[-1] == "none" for row in rows))


if __name__ == "__main__":
    main()
