"""The displays hold what the estimator's methods give, and draw it."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from conftest import QUICK

from skcvae import VAE, WAE, CoupledVAE, InfoVAE, display
from skcvae.schedule import Schedule

mpl.use("agg")
import matplotlib.pyplot as plt

X = np.random.default_rng(0).random((60, 64))
Y = np.arange(60) % 3


@pytest.fixture(scope="module", params=[CoupledVAE, VAE, WAE, InfoVAE], ids=lambda model: model.__name__)
def models(request):
    """A model of images and one of points of the plane."""
    more = {"schedule": Schedule(polish_rounds=1, max_draws=2048)} if request.param is CoupledVAE else {}
    return [request.param(**QUICK, **more).fit(data) for data in (X, X[:, :2])]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def offsets(artist):
    return np.asarray(artist.get_offsets())


@pytest.mark.filterwarnings("ignore:The median effective")
def test_samples(models):
    images, points = models
    shown = display.SamplesDisplay.from_estimator(images, n_samples=9, noise="mean", random_state=3)
    np.testing.assert_array_equal(shown.samples, images.sample(9, noise="mean", random_state=3))
    assert shown.ax_.get_images()[0] is shown.artists_[0]
    ax = plt.subplots()[1]
    shown = display.SamplesDisplay.from_estimator(points, X[:, :2], n_samples=50, random_state=3, ax=ax, s=3)
    assert (shown.ax_, shown.figure_) == (ax, ax.figure)
    np.testing.assert_array_equal(offsets(shown.artists_[0]), points.sample(50, random_state=3))
    np.testing.assert_array_equal(offsets(shown.artists_[1]), X[:, :2])
    assert shown.artists_[0].get_sizes().tolist() == [3]


def test_reconstructions(models):
    images, points = models
    shown = display.ReconstructionDisplay.from_estimator(images, X[:5])
    np.testing.assert_array_equal(shown.reconstructions, images.reconstruct(X[:5]))
    np.testing.assert_array_equal(shown.X, X[:5])
    assert len(shown.ax_.get_images()) == 1
    assert len(display.ReconstructionDisplay.from_estimator(points, X[:5, :2]).artists_) > 1


@pytest.mark.parametrize("y", [None, Y, np.linspace(0, 1, 60)], ids=["plain", "classes", "numbers"])
def test_latent(models, y):
    means = display.LatentDisplay.from_estimator(models[0], X, y)
    np.testing.assert_array_equal(means.Z, models[0].transform(X))
    drawn = np.concatenate([offsets(artist) for artist in means.ax_.collections])
    np.testing.assert_array_equal(np.sort(drawn, 0), np.sort(means.Z, 0))
    draws = display.LatentDisplay.from_estimator(models[0], X, y, kind="draws", random_state=1)
    np.testing.assert_array_equal(draws.Z, models[0].sample_posterior(X, random_state=1)[:, 0])


@pytest.mark.parametrize("kind", ["overlaid", "beside"])
def test_aggregate_posterior(models, kind):
    shown = display.AggregatePosteriorDisplay.from_estimator(models[0], X, random_state=1, kind=kind)
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(shown.draws, models[0].sample_posterior(X, random_state=rng)[:, 0])
    np.testing.assert_array_equal(shown.prior_draws, models[0].prior_.sample(60, rng))
    np.testing.assert_array_equal(offsets(shown.artists_[0]), shown.draws)
    assert np.size(shown.ax_) == (1 if kind == "overlaid" else 2)


def test_posterior(models):
    shown = display.PosteriorDisplay.from_estimator(models[0], X, row=4, n_samples=200, random_state=1)
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(shown.draws, models[0].sample_posterior(X[4:5], 200, random_state=rng)[0])
    assert shown.ax_.has_data()


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_interpolation(models, path):
    shown = display.InterpolationDisplay.from_estimator(models[0], X, rows=(2, 7), n_steps=5, path=path)
    ends = models[0].transform(X[[2, 7]])
    np.testing.assert_allclose(shown.Z[[0, -1]], ends, atol=1e-12)
    np.testing.assert_allclose(shown.means, models[0].inverse_transform(shown.Z), atol=1e-12)
    if path == "linear":
        np.testing.assert_allclose(shown.Z[2], ends.mean(0), atol=1e-12)


def test_training(models):
    shown = display.TrainingDisplay.from_estimator(models[0])
    assert shown.loss == models[0].loss_curve_
    assert (shown.marginal_error is not None) == isinstance(models[0], CoupledVAE)


def test_components():
    rows = np.random.default_rng(0).normal(size=(60, 3))
    model = VAE("auto", **{**QUICK, "likelihood": "gaussian"}).fit(rows)
    shown = display.ComponentsDisplay.from_estimator(model, linewidth=3)
    np.testing.assert_array_equal(shown.n_components, model.evidence_.n_components)
    np.testing.assert_array_equal(shown.scores, model.evidence_.scores)
    line, _, bars = shown.artists_[0]
    np.testing.assert_array_equal(line.get_xydata(), np.c_[shown.n_components, shown.scores])
    heights = [np.ptp(segment[:, 1]) / 2 for segment in bars[0].get_segments()]
    np.testing.assert_allclose(heights, shown.errors)
    assert line.get_linewidth() == 3
    chosen = shown.scores[list(shown.n_components).index(model.n_components_)]
    np.testing.assert_array_equal(offsets(shown.artists_[1]), [[model.n_components_, chosen]])


def test_holes(models):
    if not isinstance(models[0], CoupledVAE):
        with pytest.raises(TypeError, match=r"must have hole_score, as a CoupledVAE has, got .*Use AggregatePosteriorDisplay"):
            display.HoleDisplay.from_estimator(models[0])
        return
    shown = display.HoleDisplay.from_estimator(models[0], X, n_grid=6, random_state=0)
    corner = np.array([[shown.z0[5], shown.z1[2]]])
    np.testing.assert_allclose(shown.score[2, 5], models[0].hole_score(corner)[0], rtol=1e-9)
    assert shown.artists_[0].get_zorder() < shown.artists_[1].get_zorder()
    np.testing.assert_array_equal(np.asarray(shown.artists_[0].get_array()).ravel(), shown.score.ravel())


def test_names_of_a_data_frame_label_the_axes():
    frame = pd.DataFrame(X[:, :2], columns=["length", "width"])
    shown = display.SamplesDisplay.from_estimator(VAE(**QUICK).fit(frame), frame, n_samples=5, random_state=0)
    assert (shown.ax_.get_xlabel(), shown.ax_.get_ylabel()) == ("length", "width")


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda m: display.LatentDisplay.from_estimator(m, X, components=(0, 2)), ValueError, "integers from 0 to 1, got"),
        (lambda m: display.SamplesDisplay.from_estimator(m, X[:, :3]), ValueError, "X must have 64 columns"),
        (lambda m: display.PosteriorDisplay.from_estimator(m, X, row=60), ValueError, "row"),
        (lambda m: display.TrainingDisplay.from_estimator(m, ax=3), TypeError, "must be .*matplotlib Axes"),
        (lambda m: display.ComponentsDisplay.from_estimator(m), ValueError, "must have compared numbers .*n_components=.auto"),
        (lambda m: display.InterpolationDisplay.from_estimator(m, X, path="up"), ValueError, "path"),
        (lambda m: display.AggregatePosteriorDisplay.from_estimator(m, X, kind="both"), ValueError, "kind"),
    ],
)
def test_what_is_wrong_is_said(models, draw, error, message):
    with pytest.raises(error, match=message):
        draw(models[0])


def test_matplotlib_is_imported_when_something_is_drawn():
    code = "import sys, skcvae.display; assert not any(name.startswith('matplotlib') for name in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
