"""A fit computes in one thread of torch, shares large passes among as many as it found, and leaves the setting as it was."""

import os
import threading
import time

import numpy as np
import pytest
import torch
from conftest import QUICK

from skcvae import VAE, CoupledVAE, _kernels, _threads


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def seen_by_a_new_thread():
    found = []
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    return found[0]


@pytest.mark.parametrize("kind", [CoupledVAE, VAE])
def test_steps_of_a_fit_have_one_thread_and_the_setting_is_put_back(kind, three_threads, monkeypatch):
    steps, from_inside, step = [], [], torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: (steps.append(torch.get_num_threads()), step(self))[1])
    monkeypatch.setattr(torch.optim.Adam, "zero_grad", lambda self: from_inside.append(seen_by_a_new_thread()))
    kind(**QUICK).fit(np.random.default_rng(0).normal(size=(60, 3)))
    assert set(steps) == {1}
    assert set(from_inside) == {3}
    assert torch.get_num_threads() == seen_by_a_new_thread() == 3


def test_the_setting_is_put_back_after_an_error(three_threads):
    with pytest.raises(KeyError), _threads.apart(), _threads.shared(1e12):
        raise KeyError
    assert torch.get_num_threads() == seen_by_a_new_thread() == 3


def test_large_steps_share_the_threads_that_were_found(three_threads):
    with _threads.shared(1e12):
        assert torch.get_num_threads() == 3
    with _threads.apart():
        for n_operations, n_threads in ((1e12, 3), (1e6, 1)):
            with _threads.shared(n_operations), _threads.apart():
                assert torch.get_num_threads() == n_threads
            assert torch.get_num_threads() == 1


def test_parts_have_one_thread_each_and_keep_their_order(three_threads):
    barrier = threading.Barrier(3, timeout=60)

    def part(number):
        barrier.wait()  # passes only where three are at work
        return number, torch.get_num_threads(), torch.is_grad_enabled()

    with _threads.apart(), torch.no_grad():
        assert _threads.mapped(part, range(6)) == [(number, 1, False) for number in range(6)]
        with pytest.raises(ZeroDivisionError):
            _threads.mapped(lambda number: 1 // number, range(6))
    assert _threads.mapped(lambda number: number + 1, range(3)) == [1, 2, 3]


def test_an_interrupt_in_a_part_leaves_no_worker_behind(three_threads):
    def interrupted(number):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), _threads.apart():
        _threads.mapped(interrupted, range(6))
    assert torch.get_num_threads() == seen_by_a_new_thread() == 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("skcvae")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore")
def test_a_child_that_is_forked_within_a_fit_does_not_wait_for_workers(three_threads):
    with _threads.apart():
        _threads.mapped(abs, range(6))  # starts the workers, which the child does not have
        child = os.fork()
        if child == 0:
            os._exit(int(_threads.mapped(abs, [-1, 2]) != [1, 2]))
        for _ in range(600):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.05)
        else:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_user_s_single_thread_is_not_exceeded(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(_threads, "ThreadPoolExecutor", None)
    try:
        with _threads.apart(), _threads.shared(1e12):
            assert torch.get_num_threads() == 1
            assert _threads.mapped(abs, [-1, 2]) == [1, 2]
    finally:
        torch.set_num_threads(before)


def test_fits_in_several_threads_leave_every_thread_s_setting(three_threads):
    """A thread that enters or leaves while another computes changes neither its number nor that of threads that begin."""
    inside, leave, numbers = threading.Event(), threading.Event(), []

    def other():
        torch.set_num_threads(2)
        with _threads.apart():
            inside.set()
            leave.wait(60)
            numbers.append(torch.get_num_threads())
        numbers.append(torch.get_num_threads())

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(60)
    assert torch.get_num_threads() == 3
    with _threads.apart():
        leave.set()
        thread.join()
        assert torch.get_num_threads() == 1
    assert numbers == [1, 2]
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("n", "m", "d"), [(9000, 2000, 2), (1500, 9000, 40)])
def test_passes_are_the_same_bit_for_bit_for_any_number_of_threads(n, m, d):
    """Their parts are a function of the sizes, and sums are made in one order."""
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(m, d, generator=generator), torch.randn(n, d, generator=generator)
    bias = torch.randn(n, generator=generator)
    before, found = torch.get_num_threads(), []
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        with _threads.apart():
            products = query @ key.T if d > 4 else None
            results = [*_kernels.attend(query, key, key, bias), _kernels.log_sum_scores(query, key, bias)]
            if products is not None:
                results += [_kernels.row_log_sums(products, bias, 1.3), _kernels.column_log_sums(products, query[:, 0], 1.3)]
                results += [_kernels.row_averages(products, bias, key, 1.3)]
            found.append(results)
    torch.set_num_threads(before)
    assert len(query.split(_kernels.part_length(query, n))) > 2
    for results in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(results, found[0], strict=True))


def test_a_fit_is_the_same_bit_for_bit_for_any_number_of_threads():
    X, before, samples = np.random.default_rng(0).normal(size=(5000, 2)), torch.get_num_threads(), []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        samples.append(CoupledVAE(hidden_layer_sizes=(16,), max_iter=20, random_state=0).fit(X).sample(100, random_state=0))
    torch.set_num_threads(before)
    np.testing.assert_array_equal(*samples)
