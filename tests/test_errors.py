"""The likeliest mistakes: each is told what was expected, what came and what to do, before any work starts."""

import dataclasses
import datetime
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from conftest import QUICK
from safetensors.torch import save_file
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from torch import nn

from skcvae import VAE, WAE, CoupledVAE, InfoVAE, _amortise, _phases, datasets, display, load, metrics
from skcvae.likelihoods import GaussianLikelihood
from skcvae.networks import MLP, Conv
from skcvae.priors import CategoricalPrior, GaussianPrior, UniformPrior
from skcvae.schedule import Schedule
from skcvae.transport import Dual, SemiDual

QUICK = {**QUICK, "max_iter": 10, "pool_size": 256}
X = np.random.default_rng(0).normal(size=(60, 4))
FRAME = pd.DataFrame(X, columns=list("abcd"))
GREY = np.tile(np.arange(256.0), (4, 1)).T


def fit(data=X, kind=CoupledVAE, **params):
    return kind(**{**QUICK, **params}).fit(data)


def put(value):
    """X with one entry replaced."""
    return np.where(np.arange(X.size).reshape(X.shape) == 5, value, X)


@pytest.fixture(scope="module")
def models():
    """Fitted models: one of each estimator, one of named columns, one of binary data, one with a layer of the user's."""
    fitted = {kind.__name__: fit(kind=kind) for kind in (VAE, WAE, InfoVAE)}
    coupled = fit(schedule=Schedule(polish_rounds=1, max_draws=1024))
    named, binary = fit(FRAME, VAE), fit((X > 0).astype(float), VAE, likelihood="bernoulli")
    given = fit(kind=WAE, network=(nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 4), nn.LeakyReLU())))
    return SimpleNamespace(CoupledVAE=coupled, **fitted, named=named, binary=binary, given=given)


@pytest.fixture
def given(models, tmp_path, monkeypatch):
    """What a mistake is made with; a training that begins is an error."""
    (tmp_path / "notes.txt").write_text("not a model")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    monkeypatch.chdir(tmp_path)

    def begun(*_):
        raise AssertionError("the training has begun")

    monkeypatch.setattr(_phases, "start", begun)
    monkeypatch.setattr(_amortise, "start", begun)
    return models


RESHAPE = (
    "Reshape your data either using array.reshape(-1, 1) if your data has a single feature or array.reshape(1, -1) if it contains "
    "a single sample."
)
MISSING = ("X must be finite", "got NaN in row 1 of column 1", "Fill what is missing (SimpleImputer), or leave these rows out")
ENCODE = "Give a data frame with likelihood='auto', encode text and categories as numbers (OneHotEncoder), or leave them out"
NAMES = "The feature names should match those that were passed during fit.\n"
PRIORS = (
    "prior must be one of 'gaussian', 'uniform', 'dirichlet', 'categorical', 'mixture', a skcvae.priors.Prior, a torch "
    "distribution, an array of atoms, a tuple (atoms, weights) or a function sampler(n_samples, random_state), got "
)
SCALES = (
    "scale must be one of 'auto', 'per_feature', 'learned', 'learned_per_feature', 'network', a positive number or 4 of them, got "
)
SEEDS = "random_state must be None, a non-negative integer, a numpy RandomState or Generator, got "
NETWORKS = "network must be one of 'mlp', 'conv', a skcvae.networks.Network or a tuple (encoder, decoder), got "
WIDTHS = "Give a module of these widths, or a function: Given({0}=lambda n_inputs, n_outputs: ...)."
NO_DENSITY = "has none. Give the prior as a torch distribution, or use WAE or CoupledVAE, which need only its draws."
ROOM = "for which this machine has no memory."
SMALLER = "Lower pool_size, draws_per_step or batch_size, hidden_layer_sizes or n_components. Nothing was changed by this fit."


def device(name):
    """The message for a device that is not there; which are there depends on the machine."""
    remedy = "Use device='auto', or install a torch and a driver that see the device."
    return re.compile(
        rf"device must be 'auto' or a device that torch finds here \('cpu'[^)]*\), got {re.escape(name)}\. {re.escape(remedy)}"
    )


def of_one_argument(expected):
    """The message for a function that takes too few; its representation has an address."""
    return re.compile(re.escape(expected) + r"<function .*>: too many positional arguments\. Give a function of both arguments\.")


# fmt: off
DATA = [
    ("no data", lambda m: fit(None), TypeError, ("X must be an array", "got None", "Give the data")),
    ("one feature without its axis", lambda m: fit([1.0, 2.0]), ValueError,
     f"Expected 2D array, got 1D array instead:\narray=[1. 2.].\n{RESHAPE}"),
    ("images that are not flat", lambda m: fit(X.reshape(-1, 2, 2)), ValueError,
     "Found array with dim 3, while dim <= 2 is required by CoupledVAE."),
    ("an empty selection", lambda m: fit(X[:0]), ValueError,
     "Found array with 0 sample(s) (shape=(0, 4)) while a minimum of 2 is required by CoupledVAE."),
    ("one row", lambda m: fit(X[:1], VAE), ValueError,
     "Found array with 1 sample(s) (shape=(1, 4)) while a minimum of 2 is required by VAE."),
    ("missing values in rows of validation", lambda m: CoupledVAE().fit(X, X_val=put(np.nan)), ValueError, MISSING),
    ("missing values of a posterior", lambda m: m.VAE.posterior(put(np.nan)), ValueError, MISSING),
    ("a column without values", lambda m: fit(np.where(np.arange(4) == 2, np.nan, X)), ValueError,
     "Column 2 of X has no observed cell. Leave it out, or give rows in which it is known."),
    ("a column of a frame without values", lambda m: fit(FRAME.assign(b=np.nan)), ValueError,
     "Column 'b' of X has no observed cell. Leave it out, or give rows in which it is known."),
    ("no such target", lambda m: m.VAE.score_conditional(X, "height"), ValueError,
     "target must be columns of X, got 'height'. Give places from 0 to 3."),
    ("no target", lambda m: m.VAE.score_conditional(X, []), ValueError,
     "target must have at least one column, got []. Give names or places of columns."),
    ("infinity", lambda m: fit(put(np.inf)), ValueError, ("X must be finite", "got infinity in row 1 of column 1", "Clip it")),
    ("a path instead of the data", lambda m: fit("data.csv"), ValueError, ("X must be an array of numbers", "'data.csv'", ENCODE)),
    ("a column of text", lambda m: fit(FRAME.assign(d="red")), ValueError,
     ("X must be an array of numbers", "got 'red' in row 0 of column 'd'", ENCODE)),
    ("text in an array", lambda m: fit(put(5).astype(str).astype(object) + "kg", VAE), ValueError,
     ("X must be an array of numbers", f"got '{X[0, 0]}kg' in row 0 of column 0", ENCODE)),
    ("a column of dates", lambda m: fit(FRAME.assign(a=pd.date_range("2020", periods=60))), ValueError,
     ("X must be an array of numbers", "2020-01-01", "in row 0 of column 'a'", "Give dates as numbers")),
    ("a column of durations", lambda m: fit(FRAME.assign(a=pd.to_timedelta(np.arange(60), "h"))), ValueError,
     ("X must be an array of numbers", "in row 0 of column 'a'", "Divide durations by a unit of time")),
    ("an array of dates", lambda m: fit(np.full((9, 2), np.datetime64("2020-01-01"))), ValueError,
     ("X must be an array of numbers", "2020", "Give dates as numbers")),
    ("dates in a polars frame", lambda m: fit(pl.DataFrame({"a": [datetime.date(2020, 1, 1)] * 9, "b": range(9)})), ValueError,
     ("X must be an array of numbers", "in row 0 of column 'a'", "Give dates as numbers")),
    ("a masked array", lambda m: metrics.sliced_wasserstein(np.ma.masked_array(X, X > 1), X), ValueError,
     ("must have a number in every entry", "masked", "Fill what is missing")),
    ("a sparse matrix", lambda m: fit(scipy.sparse.csr_matrix(X)), TypeError,
     "Sparse data was passed for X, but dense data is required. Use '.toarray()' to convert to a dense numpy array."),
    ("complex numbers", lambda m: fit(X + 1j), ValueError, ("X must be real", "got dtype complex128", "Give the real part")),
    ("data that do not vary", lambda m: fit(np.ones((9, 2))), ValueError,
     "X has zero variance: its largest standard deviation is 0 at values up to 1. Give data that vary, or rescale X."),
    ("a large sentinel value", lambda m: fit(put(-1e300)), ValueError,
     "X has values up to 1e+300, whose squares overflow. Rescale X."),
    ("grey values up to 255 as probabilities", lambda m: fit(GREY, likelihood="bernoulli"), ValueError,
     "BernoulliLikelihood expects values in [0, 1], got values from 0 to 255. Scale X (MinMaxScaler(clip=True)) or choose "
     "likelihood='gaussian'."),
    ("test data that were not scaled", lambda m: m.binary.score_samples(GREY), ValueError,
     "BernoulliLikelihood expects values in [0, 1], got values from 0 to 255. Scale X (MinMaxScaler(clip=True)) or choose "
     "likelihood='gaussian'."),
    ("another number of features", lambda m: m.CoupledVAE.transform(X[:, :3]), ValueError,
     "X has 3 features, but CoupledVAE is expecting 4 features as input."),
    ("columns of other names", lambda m: m.named.transform(FRAME.rename(columns={"a": "z"})), ValueError,
     NAMES + "Feature names unseen at fit time:\n- z\nFeature names seen at fit time, yet now missing:\n- a\n"),
    ("columns in another order", lambda m: m.named.reconstruct(FRAME[list("bacd")]), ValueError,
     NAMES + "Feature names must be in the same order as they were in fit.\n"),
    ("the label left in the data frame", lambda m: m.named.score(FRAME.assign(label="red")), ValueError,
     NAMES + "Feature names unseen at fit time:\n- label\n"),
    ("one row without its axis", lambda m: m.CoupledVAE.posterior([1.0, 2.0, 3.0, 4.0]), ValueError,
     f"Expected 2D array, got 1D array instead:\narray=[1. 2. 3. 4.].\n{RESHAPE}"),
]
NUMBERS = [
    ("no components", lambda m: fit(n_components=0), ValueError, "n_components must be an integer of at least 1, got 0."),
    ("components as a float", lambda m: fit(kind=VAE, n_components=2.0), TypeError,
     "n_components must be an integer of at least 1, got 2.0 (type float)."),
    ("components as text", lambda m: fit(kind=WAE, n_components="2"), ValueError,
     "n_components must be 'auto', None or an integer of at least 1, got '2'."),
    ("components to be found of a prior that has some", lambda m: fit(n_components="auto", prior=GaussianPrior(5)), ValueError,
     "n_components='auto' compares priors of several dimensions, and prior=GaussianPrior(n_components=5, mean=None, "
     "covariance=None) has its own. Give the prior by its name, or n_components=None."),
    ("components to be found of a part", lambda m: VAE("auto").partial_fit(X), ValueError,
     "n_components='auto' is found by fit, and partial_fit needs a number. Give one, or call fit first."),
    ("an unknown calibration", lambda m: fit(kind=VAE, calibration="plan"), ValueError,
     "calibration must be one of 'auto', 'temperature', 'residual', got 'plan'."),
    ("a temperature of a loss that has none", lambda m: fit(kind=WAE, calibration="temperature"), ValueError,
     "calibration='temperature' is that of a row's posterior, of which this loss says nothing. Use calibration='residual'."),
    ("a temperature of zero", lambda m: fit(epsilon=0), ValueError, "epsilon must be a finite number above 0, got 0."),
    ("a negative temperature", lambda m: fit(epsilon=-1.0), ValueError, "epsilon must be a finite number above 0, got -1.0."),
    ("a temperature that is NaN", lambda m: fit(epsilon=np.nan), ValueError, "epsilon must be a finite number above 0, got nan."),
    ("a grid where a number belongs", lambda m: fit(epsilon=[0.1, 1.0]), TypeError,
     "epsilon must be a finite number above 0, got [0.1, 1.0] (type list)."),
    ("a negative varsigma", lambda m: fit(varsigma=-1.0), ValueError, "varsigma must be a number of at least 0, got -1.0."),
    ("infinity as text", lambda m: fit(varsigma="inf"), TypeError,
     "varsigma must be a number of at least 0, got 'inf' (type str)."),
    ("no draws", lambda m: fit(draws_per_step=0), ValueError, "draws_per_step must be an integer of at least 1, got 0."),
    ("an empty batch", lambda m: fit(kind=WAE, batch_size=0), ValueError, "batch_size must be an integer of at least 1, got 0."),
    ("no batches at all", lambda m: fit(kind=VAE, batch_size=None), TypeError,
     "batch_size must be an integer of at least 1, got None (type NoneType)."),
    ("a batch of one with MMD", lambda m: fit(kind=WAE, batch_size=1), ValueError,
     "batch_size with MMD must be an integer of at least 2, got 1."),
    ("a batch of one with batch normalisation", lambda m: fit(kind=VAE, network=MLP((8,), batch_norm=True), batch_size=1),
     ValueError,
     "batch_size with batch normalisation must be an integer of at least 2, got 1."),
    ("no steps", lambda m: fit(kind=InfoVAE, max_iter=0), ValueError, "max_iter must be an integer of at least 1, got 0."),
    ("steps as 1e4", lambda m: fit(max_iter=1e4), TypeError,
     "max_iter must be an integer of at least 1, got 10000.0 (type float)."),
    ("steps as a truth value", lambda m: fit(max_iter=True), TypeError,
     "max_iter must be an integer of at least 1, got True (type bool)."),
    ("an empty pool", lambda m: fit(pool_size=0), ValueError, "pool_size must be an integer of at least 1, got 0."),
    ("no windows of patience", lambda m: fit(n_iter_no_change=0), ValueError,
     "n_iter_no_change must be an integer of at least 1, got 0."),
    ("a negative tolerance", lambda m: fit(tol=-1.0), ValueError, "tol must be a finite number of at least 0, got -1.0."),
    ("a learning rate of zero", lambda m: fit(learning_rate_init=0), ValueError,
     "learning_rate_init must be a finite number above 0, got 0."),
    ("a schedule for a learning rate", lambda m: fit(learning_rate_init="adaptive"), TypeError,
     "learning_rate_init must be a finite number above 0, got 'adaptive' (type str)."),
    ("a solver without iterations", lambda m: fit(solver=SemiDual(max_iter=0)), ValueError,
     "max_iter of SemiDual must be an integer of at least 1, got 0."),
    ("a solver's tolerance as text", lambda m: fit(solver=SemiDual(marginal_tol="1e-3")), TypeError,
     "marginal_tol of SemiDual must be a finite number of at least 0, got '1e-3' (type str)."),
    ("a VAE without KL", lambda m: fit(kind=VAE, beta=0), ValueError, "beta must be a finite number above 0, got 0."),
    ("annealing as a number of steps", lambda m: fit(kind=VAE, annealing=500), ValueError,
     "annealing must be a finite number of at least 0 and of at most 1, got 500."),
    ("a negative penalty", lambda m: fit(kind=WAE, penalty=-1), ValueError,
     "penalty must be a finite number of at least 0, got -1."),
    ("alpha above 1", lambda m: fit(kind=InfoVAE, alpha=2.0), ValueError, "alpha must be a finite number of at most 1, got 2.0."),
    ("weights that sum to too little", lambda m: fit(kind=InfoVAE, alpha=0.0, lambd=0.5), ValueError,
     "alpha + lambd must be at least 1, got 0 + 0.5: their sum less 1 weighs the divergence of the aggregate posterior. Raise "
     "lambd."),
    ("a coupled model of alpha 1", lambda m: CoupledVAE.from_infovae(alpha=1.0, lambd=2.0), ValueError,
     "alpha must be below 1, got 1.0: epsilon = 1 - alpha must be positive. Lower alpha."),
    ("a coupled model of alpha as text", lambda m: CoupledVAE.from_infovae(alpha="0.5", lambd=2.0), TypeError,
     "alpha must be a finite number of at most 1, got '0.5' (type str)."),
    ("a seed as text", lambda m: fit(random_state="seed"), ValueError, SEEDS + "'seed'."),
    ("a negative seed", lambda m: fit(kind=VAE, random_state=-1), ValueError, SEEDS + "-1."),
]
CHOICES = [
    ("an unknown strategy", lambda m: SemiDual(strategy="both"), ValueError,
     "strategy of SemiDual must be one of 'dual', 'primal', got 'both'."),
    ("an unknown solver", lambda m: fit(solver="primal"), ValueError,
     "solver must be one of 'semi-dual', 'semi-dual-network', 'dual', 'dual-network', 'semi-dual-primal', "
     "'semi-dual-network-primal', 'dual-primal', 'dual-network-primal' or an instance of skcvae.transport.Solver, got 'primal'."),
    ("a number of rounds for a schedule", lambda m: fit(schedule=3), TypeError,
     "schedule must be a skcvae.schedule.Schedule or None, got 3."),
    ("fewer rounds than none", lambda m: Schedule(polish_rounds=-1), ValueError,
     "polish_rounds of Schedule must be an integer of at least 0, got -1."),
    ("no stages", lambda m: Schedule(stages=()), TypeError, "stages of Schedule must be a tuple of at least one Stage, got ()."),
    ("a stage without draws", lambda m: dataclasses.replace(Schedule().trial, draws=0), ValueError,
     "draws of Stage must be an integer of at least 1, got 0."),
    ("a trial that is no stage", lambda m: Schedule(trial=1), TypeError, "trial of Schedule must be a Stage, got 1."),
    ("an unknown proposal", lambda m: fit(proposal="amortised"), ValueError,
     "proposal must be one of 'prior', 'encoder', got 'amortised'."),
    ("an encoder over atoms", lambda m: fit(proposal="encoder", prior="categorical"), ValueError,
     "proposal='encoder' weighs draws against the prior's density, and CategoricalPrior has none. Use proposal='prior', or give "
     "the prior as a torch distribution."),
    ("an unknown likelihood", lambda m: fit(likelihood="normal"), ValueError,
     "likelihood must be one of 'gaussian', 'bernoulli' or an instance of skcvae.likelihoods.Likelihood, got 'normal'."),
    ("a class of likelihoods", lambda m: fit(likelihood=GaussianLikelihood), TypeError,
     "likelihood must be one of 'gaussian', 'bernoulli' or an instance of skcvae.likelihoods.Likelihood, got <class "
     "'skcvae.likelihoods._gaussian.GaussianLikelihood'>. Give an object: GaussianLikelihood()."),
    ("a negative scale", lambda m: fit(likelihood=GaussianLikelihood(scale=-1)), ValueError, SCALES + "-1."),
    ("scales of too few features", lambda m: fit(likelihood=GaussianLikelihood(np.array([1.0, 2.0]))), ValueError,
     SCALES + "array([1., 2.])."),
    ("an unknown activation", lambda m: fit(activation="logistic"), ValueError,
     "activation must be one of 'relu', 'tanh', 'elu', 'silu', 'gelu', 'softplus', got 'logistic'."),
    ("a layer without units", lambda m: fit(hidden_layer_sizes=(0,)), ValueError,
     "each of hidden_layer_sizes must be an integer of at least 1, got 0."),
    ("layers as text", lambda m: fit(kind=VAE, hidden_layer_sizes="big"), TypeError,
     "hidden_layer_sizes must be a sequence of integers such as (256, 256), got 'big'."),
    ("an unknown network", lambda m: fit(network="resnet"), ValueError, NETWORKS + "'resnet'."),
    ("a decoder alone", lambda m: fit(network=nn.Linear(2, 4)), TypeError,
     NETWORKS + "Linear(in_features=2, out_features=4, bias=True). Give (None, decoder), or (encoder, decoder) where the estimator "
     "has an encoder."),
    ("a decoder of another width", lambda m: fit(network=(None, nn.Linear(2, 7))), ValueError,
     f"decoder must map shape (2, 2) to (2, 4), got (2, 7). {WIDTHS.format('decoder')}"),
    ("an encoder without scales", lambda m: fit(kind=VAE, network=(nn.Linear(4, 2), nn.Linear(2, 4))), ValueError,
     f"encoder must map shape (2, 4) to (2, 4), got (2, 2). {WIDTHS.format('encoder')}"),
    ("a VAE without an encoder", lambda m: fit(kind=VAE, network=(None, nn.Linear(2, 4))), ValueError,
     "The estimator needs the network's encoder, and it is None. Give Given(encoder=...)."),
    ("a function of one argument for a decoder", lambda m: fit(network=(None, lambda n: nn.Linear(n, 4))), TypeError,
     of_one_argument("decoder must be a function f(n_inputs, n_outputs), got ")),
    ("images that are not square", lambda m: fit(X[:, :3], network="conv"), ValueError,
     "Conv expects a square grey image unless it is told its shape, and 3 features are no square. Give "
     "Conv(image_shape=(height, width)) or Conv(image_shape=(channels, height, width))."),
    ("images of another size", lambda m: fit(network=Conv((3, 3))), ValueError,
     "image_shape=(3, 3) has 9 values and the data have 4 features. Make them agree: Conv(image_shape=...)."),
    ("an unknown encoder", lambda m: fit(kind=VAE, encoder="normal"), ValueError,
     "encoder must be one of 'point', 'gaussian', 'full', 'planar', 'spline' or an instance of "
     "skcvae.posteriors.PosteriorFamily, got 'normal'."),
    ("a parameter's former name", lambda m: VAE(posterior="full"), TypeError,
     "VAE has no parameter posterior any more. It is encoder now: write encoder='full'."),
    ("a strategy of its own", lambda m: CoupledVAE(strategy="primal"), TypeError,
     "CoupledVAE has no parameter strategy any more. It is part of solver now: write solver='dual-network', or another of "
     "skcvae.transport.SOLVERS."),
    ("draws as a batch", lambda m: CoupledVAE(batch_size=64), TypeError,
     "CoupledVAE has no parameter batch_size any more. It is draws_per_step now: write draws_per_step=64."),
    ("a solver's former tolerance", lambda m: SemiDual(tol=1e-4), TypeError,
     "SemiDual has no parameter tol any more. It is marginal_tol now: write marginal_tol=0.0001, or Schedule(marginal_tol=0.0001) "
     "for a fit's."),
    ("a step's former tolerance", lambda m: Dual(batch_tol=1e-4), TypeError,
     "Dual has no parameter batch_tol any more. It is batch_marginal_tol now: write batch_marginal_tol=0.0001."),
    ("rounds of a solver", lambda m: SemiDual(polish_rounds=2), TypeError,
     "SemiDual has no parameter polish_rounds any more. It is part of the schedule now: write "
     "CoupledVAE(schedule=Schedule(polish_rounds=2))."),
    ("a VAE of points", lambda m: fit(kind=VAE, encoder="point"), ValueError,
     "encoder='point' has no density, which this loss needs. Use encoder='gaussian', or WAE."),
    ("an unknown divergence", lambda m: fit(kind=WAE, divergence="kl"), ValueError,
     "divergence must be one of 'mmd', 'sinkhorn', 'sliced', 'adversarial' or an instance of skcvae.divergences.Divergence, got "
     "'kl'."),
    ("an unknown device", lambda m: fit(device="gpu"), ValueError, device("'gpu'")),
    ("a GPU that is absent", lambda m: fit(kind=VAE, device="cuda"), ValueError, device("'cuda'")),
]
GIVEN_PRIORS = [
    ("an unknown prior", lambda m: fit(prior="normal"), ValueError, PRIORS + "'normal'."),
    ("a number for a prior", lambda m: fit(prior=3), TypeError, PRIORS + "3."),
    ("a prior of more components", lambda m: fit(n_components=2, prior=GaussianPrior(5)), ValueError,
     "prior has 5 components and n_components is 2. Make them equal."),
    ("a distribution of more components", lambda m: fit(n_components=2, prior=torch.distributions.Normal(torch.zeros(3), 1.0)),
     ValueError,
     "prior has 3 components and n_components is 2. Make them equal."),
    ("a distribution of matrices", lambda m: fit(prior=torch.distributions.Normal(torch.zeros(3, 2), 1.0)), ValueError,
     "A prior's draws must be vectors, got a distribution with batch shape (3, 2), event shape (). Give one whose two shapes "
     "are together (n_components,)."),
    ("one atom", lambda m: fit(prior=[[0.0, 1.0]]), ValueError,
     "prior as an array must be two or more atoms, one in each row, got shape (1, 2). Give an array of shape (n_atoms, "
     "n_components)."),
    ("atoms that are NaN", lambda m: fit(prior=[[0.0, np.nan], [1.0, 0.0]]), ValueError,
     "atoms must be a finite array with ndim=2, got NaN or infinity. Remove what is not finite."),
    ("equal atoms", lambda m: fit(prior=([[0.0, 1.0], [0.0, 1.0]], [0.5, 0.5])), ValueError,
     "The atoms must differ from each other. Add up the probs of equal ones."),
    ("weights that sum to more than 1", lambda m: fit(prior=([[0.0, 1.0], [1.0, 0.0]], [0.5, 0.6])), ValueError,
     "probs must sum to 1, got a sum of 1.1. Divide them by their sum."),
    ("negative weights", lambda m: fit(prior=([[0.0, 1.0], [1.0, 0.0]], [1.5, -0.5])), ValueError,
     "probs must be finite and not negative, got [ 1.5 -0.5]. Remove or mend the bad ones."),
    ("too few weights", lambda m: fit(prior=([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], [0.5, 0.5])), ValueError,
     "There must be as many atoms as probs, got 3 atoms and 2 probs."),
    ("a number of atoms for their weights", lambda m: CategoricalPrior(10), ValueError,
     "probs must be at least two numbers, got an array of shape (). Equal ones are np.full(n, 1 / n)."),
    ("a box of another dimension", lambda m: UniformPrior(2, low=[0, 0, 0]), ValueError,
     "low must have 2 entries, one each component, got 3."),
    ("a sampler without a seed", lambda m: fit(prior=lambda n: np.zeros((n, 2))), TypeError,
     of_one_argument("The prior's sampler must be a function sampler(n_samples, random_state), got ")),
    ("a sampler of vectors without components", lambda m: fit(prior=lambda n, seed: np.zeros(n)), ValueError,
     ("The prior's sampler must return draws of shape (n_samples, n_components)", "got (16,)", "Mend it")),
    ("a sampler of NaN", lambda m: fit(prior=lambda n, seed: np.full((n, 2), np.nan)), ValueError,
     "The prior's sampler returned NaN or infinity. Return finite draws only."),
    ("a sampler of complex numbers", lambda m: fit(prior=lambda n, seed: np.zeros((n, 2), complex)), TypeError,
     "The prior's sampler must return real numbers, got dtype complex128. Return floats."),
    ("a VAE with draws only", lambda m: fit(kind=VAE, prior=lambda n, seed: np.zeros((n, 2))), ValueError,
     f"The loss weighs the posterior against the prior's density, and SamplerPrior {NO_DENSITY}"),
    ("an InfoVAE over atoms", lambda m: fit(kind=InfoVAE, prior="categorical"), ValueError,
     f"The loss weighs the posterior against the prior's density, and CategoricalPrior {NO_DENSITY}"),
]
METHODS = [
    ("latent points of the wrong width", lambda m: m.CoupledVAE.inverse_transform(np.zeros((5, 3))), ValueError,
     "Z must have n_components=2 columns, got 3. Give what transform returns."),
    ("data for latent points", lambda m: m.CoupledVAE.hole_score(X), ValueError,
     "Z must have n_components=2 columns, got 4. Give what transform returns."),
    ("latent points that are NaN", lambda m: m.VAE.inverse_transform([[np.nan, 0.0]]), ValueError,
     ("Z must be finite", "got NaN in row 0 of column 0", "Fill what is missing")),
    ("no samples", lambda m: m.CoupledVAE.sample(0), ValueError, "n_samples must be an integer of at least 1, got 0."),
    ("a negative number of samples", lambda m: m.WAE.sample(-1), ValueError,
     "n_samples must be an integer of at least 1, got -1."),
    ("samples as a float", lambda m: m.CoupledVAE.sample_posterior(X, 1.5), TypeError,
     "n_samples must be an integer of at least 1, got 1.5 (type float)."),
    ("samples as a shape", lambda m: m.CoupledVAE.posterior(X).sample((3, 2)), TypeError,
     "n_samples must be an integer of at least 1, got (3, 2) (type tuple)."),
    ("a posterior's draws with a seed as text", lambda m: m.VAE.posterior(X).sample(3, random_state="seed"), ValueError,
     SEEDS + "'seed'."),
    ("data for a number of samples", lambda m: m.VAE.sample(np.zeros((40, 4))), TypeError,
     f"n_samples must be an integer of at least 1, got array([{4 * '[0., 0., 0., 0.], '}[0., 0., 0., 0.], [0.... (type ndarray)."),
    ("an unknown noise", lambda m: m.CoupledVAE.sample(noise="none"), ValueError,
     "noise must be one of 'matched', 'model', 'mean', got 'none'."),
    ("noise as a truth value", lambda m: m.VAE.sample(noise=False), TypeError,
     "noise must be one of 'matched', 'model', 'mean', got False."),
    ("an unknown source", lambda m: m.InfoVAE.sample(source="posterior"), ValueError,
     "source must be one of 'prior', 'aggregate', got 'posterior'."),
    ("predict without atoms", lambda m: m.CoupledVAE.predict(X), AttributeError, "This 'CoupledVAE' has no attribute 'predict'"),
    ("a file that is missing", lambda m: load("model"), FileNotFoundError, ("There is no file 'model'", "Give the path")),
    ("a folder for a file", lambda m: load("."), IsADirectoryError, ("'.' is a folder", "Give the path")),
    ("a file of something else", lambda m: load("notes.txt"), ValueError,
     ("'notes.txt' is no file of skcvae", "Give the path")),
    ("tensors of something else", lambda m: load("other.safetensors"), ValueError,
     ("'other.safetensors' is no file of skcvae", "Give the path")),
    ("a folder that is missing", lambda m: m.VAE.save("runs/model"), FileNotFoundError,
     "'runs/model' has no folder to be in: there is no 'runs'. Make it first."),
    ("a folder to save to", lambda m: m.CoupledVAE.save("."), IsADirectoryError,
     "'.' is a folder. Give the path of a file in it, such as 'model'."),
    ("a layer that a file cannot hold", lambda m: m.given.save("model"), TypeError,
     ("A torch.nn.modules.activation.LeakyReLU cannot be saved", "Use pickle or joblib")),
]
MEMORY = [
    ("far too many samples", lambda m: m.CoupledVAE.sample(10**13), MemoryError,
     f"n_samples=10000000000000 needs an array of shape (10000000000000, 4), 291 TiB, {ROOM} Ask for fewer at a time."),
    ("more samples than an array can index", lambda m: m.VAE.sample(10**30, source="aggregate"), ValueError,
     ("n_samples must be an integer of at most 2^53", f"got {10**30}")),
    ("far too many draws of every row", lambda m: m.WAE.sample_posterior(X.astype("f4"), 10**13), MemoryError,
     f"n_samples=10000000000000 needs an array of shape (60, 10000000000000, 2), 4.263 PiB, {ROOM} Ask for fewer at a time."),
    ("far too many draws of a posterior", lambda m: m.CoupledVAE.posterior(X).sample(10**13), MemoryError,
     f"n_samples=10000000000000 needs an array of shape (60, 10000000000000, 2), 8.527 PiB, {ROOM} Ask for fewer at a time."),
    ("a pool that is far too large", lambda m: fit(pool_size=10**13), MemoryError,
     f"pool_size=10000000000000 needs an array of shape (10000000000000, 4), 291 TiB, {ROOM} Lower pool_size."),
    ("a network that is far too large", lambda m: fit(hidden_layer_sizes=(10**6, 10**8)), MemoryError,
     re.compile(rf"(?s)There is not enough memory: .*you tried to allocate 400000000000000 bytes.*\. {SMALLER}")),
]
AROUND = [
    ("a display of an unfitted model", lambda m: display.SamplesDisplay.from_estimator(CoupledVAE(), X), NotFittedError,
     "This CoupledVAE instance is not fitted yet. Call 'fit' with appropriate arguments before using this estimator."),
    ("a display of another estimator", lambda m: display.LatentDisplay.from_estimator(PCA().fit(X), X), TypeError,
     "estimator must have transform and sample_posterior, got PCA without sample_posterior. Give a fitted CoupledVAE, VAE, WAE "
     "or InfoVAE, out of its pipeline."),
    ("a component that is not there", lambda m: display.LatentDisplay.from_estimator(m.VAE, X, components=(0, 2)), ValueError,
     "components must be one or two different integers from 0 to 1, got (0, 2). Give for example (0, 1), or (0,) for a "
     "histogram."),
    ("labels of other rows", lambda m: display.LatentDisplay.from_estimator(m.VAE, X, y=np.zeros(3)), ValueError,
     "y must have shape (60,), one label for each row of X, got (3,). Give labels of these rows."),
    ("images of another shape", lambda m: display.SamplesDisplay.from_estimator(m.VAE, X, image_shape=(3, 3)), ValueError,
     "image_shape must be (height, width) or (channels, height, width) with a product of 4, the columns of the rows, got (3, "
     "3). Give None for points."),
    ("a row that is not there", lambda m: display.PosteriorDisplay.from_estimator(m.VAE, X, row=60), ValueError,
     "row must be an integer of at least 0 and of at most 59, got 60."),
    ("holes of a VAE", lambda m: display.HoleDisplay.from_estimator(m.VAE, X), TypeError,
     "estimator must have hole_score, as a CoupledVAE has, got VAE. Use AggregatePosteriorDisplay, where a hole is a place with "
     "draws of the prior and none of the aggregate posterior."),
    ("a figure for axes", lambda m: display.TrainingDisplay.from_estimator(m.VAE, ax=3), TypeError,
     "ax must be a matplotlib Axes or None, got ['int']. Give plt.subplots()[1]."),
    ("a data set without rows", lambda m: datasets.make_gaussian_grid(0), ValueError,
     "n_samples must be an integer of at least 1, got 0."),
    ("rows of no digits", lambda m: datasets.digit_images(X), ValueError,
     "X must have 64 or 61 columns, got 4. Give rows of digits, of 8 x 8 pixels."),
    ("samples of two widths", lambda m: metrics.mmd(X, X[:, :3]), ValueError,
     "x and y must have the same number of columns, got 4 and 3. Give points of one space."),
    ("a sample with missing values", lambda m: metrics.sliced_wasserstein(X, put(np.nan)), ValueError,
     ("y must be finite", "got NaN in row 1 of column 1", "Fill what is missing")),
    ("no sample", lambda m: metrics.mmd(X, None), TypeError, ("y must be an array", "got None", "Give the data")),
    ("too few samples for the neighbours", lambda m: metrics.precision_recall(X, X[:5]), ValueError,
     "generated must have more rows than n_neighbors=5, got 5. Lower n_neighbors."),
    ("an unknown kernel", lambda m: metrics.mmd(X, X, kernel="laplace"), ValueError,
     "kernel must be one of 'imq', 'rbf', got 'laplace'."),
]
# fmt: on
MISTAKES = [*DATA, *NUMBERS, *CHOICES, *GIVEN_PRIORS, *METHODS, *MEMORY, *AROUND]


@pytest.mark.parametrize(("call", "error", "message"), [pytest.param(*told, id=mistake) for mistake, *told in MISTAKES])
def test_a_mistake_is_told(given, request, call, error, message):
    if "absent" in request.node.name and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(error) as caught:
        call(given)
    said = str(caught.value)
    if isinstance(message, re.Pattern):
        assert message.fullmatch(said), said
        return
    for part in parts(message) if isinstance(message, str) else message:
        assert part in said, said


def parts(message):
    """What a message must say, whatever its words: what it speaks of, what came, and the names and values of the remedy."""
    what, came, rest = message.partition(", got ")
    got, _, remedy = rest.partition(". ") if came else ("", "", what.partition(". ")[2])
    return [what.split()[0], got.rstrip("."), *re.findall(r"[\w.]+\(|\w+=|'[^']*'", remedy)]
