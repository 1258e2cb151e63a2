"""Tensor kernels: the two attention-like passes of the semi-dual, what is measured on their results, and dense pairs of points.

Every exponential-family cost is bilinear, C_ij = A_j + h_i - t_i . eta_j, so a pass over all pairs of data and prior draws is
an attention operation, which holds no more than a bounded number of pairs at a time. The dense ones hold a minibatch's pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from skcvae._threads import mapped

#: Pairs (query, key) that the chunked kernel holds at once: 16 MiB in float32.
PAIRS_PER_CHUNK = 2**22
#: Parts of a pass, at most, each of at least `PAIRS_PER_CHUNK` pairs: several threads may take one after the other.
MOST_PARTS = 16
#: Pairs and rows that one block of `both_passes` holds on a CPU, about: 4 MiB in float32, which stays in a cache.
PAIRS_PER_SWEEP, ROWS_PER_SWEEP = 2**20, 16
#: The most keys for which that beats two fused passes.
MOST_SWEPT = 2**16
#: Pairs of held products that a sum works on at once: 4 MiB in float32, which stays in a cache.
PAIRS_PER_SUM = 2**20
#: Numbers of keys in another precision that are converted at once: 4 MiB in float64, which stays in a cache.
NUMBERS_CONVERTED = 2**19
#: Up to this width plain torch in blocks is faster than the fused operation, which is made for tens of features.
NARROW = 4
#: From this width of the keys on the product costs more than the exponentials, and the fused operation's second one is not paid.
WIDE = 64
#: exp(-80) is the smallest weight that is not denormal in float32; smaller ones only slow products and sums down.
SMALLEST_LOGIT = -80.0
#: `_softmax` raises logits to at least the smallest one. A sum whose logarithm is above this is right to a relative exp(-16).
KNOWN_ABOVE = SMALLEST_LOGIT + 16
#: Weights above exp(40) say "starved", and their squares would overflow float32.
LARGEST_LOG_MASS = 40.0


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    r"""Log-sum-exp of the scores of each query, and the average of the values under their softmax.

    .. math:: l_j = \log \sum_i e^{q_j \cdot k_i + b_i}, \qquad o_j = \sum_i e^{q_j \cdot k_i + b_i - l_j} v_i

    Parameters
    ----------
    query : Tensor of shape (m, p)
    key : Tensor of shape (n, p)
    value : Tensor of shape (n, r)
    bias : Tensor of shape (n,)

    Returns
    -------
    log_sum : Tensor of shape (m,)
    average : Tensor of shape (m, r)
    """
    is_narrow = query.device.type == "cpu" and max(key.shape[1], value.shape[1]) <= NARROW and len(key) <= MOST_SWEPT
    wide = attend_fused if fused_is_available(query.device.type, query.dtype) else attend_chunked
    kernel = attend_swept if is_narrow else wide
    results = mapped(lambda rows: kernel(rows, key, value, bias), query.split(part_length(query, len(key))))
    log_sum, average = zip(*results, strict=True)
    return torch.cat(log_sum), torch.cat(average)


def part_length(rows: Tensor, n_columns: int) -> int:
    """Rows of a part of a pass over pairs of rows and columns: a function of the sizes alone, and on a GPU all rows."""
    return max(chunk_length(n_columns), -(-len(rows) // MOST_PARTS)) if rows.device.type == "cpu" else len(rows)


def attend_swept(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """`attend` in plain torch, in blocks that stay in a cache; its sums over many keys are the most accurate."""
    log_sum, average, values = [], [], value.T.contiguous()
    for scores in swept(query, key, bias):
        found, shares = _softmax(scores)
        log_sum.append(found)
        average.append(_averages(values, _in_parts(shares)))
    return torch.cat(log_sum), torch.cat(average)


def _averages(values: Tensor, parts: Tensor) -> Tensor:
    """Averages (m, r) of values (r, n) under shares in parts (p, m/p, n)."""
    return torch.bmm(values.expand(len(parts), -1, -1), parts.mT).mT.flatten(0, 1)


def attend_chunked(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """`attend` in plain torch, a bounded block of queries at a time."""
    results = [_attend_block(rows, key, value, bias) for rows in query.split(chunk_length(len(key)))]
    log_sum, average = zip(*results, strict=True)
    return torch.cat(log_sum), torch.cat(average)


def _attend_block(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    log_sum, shares = _softmax(pair_scores(query, key, bias))  # (chunk, n)
    return log_sum, shares @ value


def _softmax(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of each row and its softmax, without denormal shares, in the place of the scores."""
    largest = scores.amax(1, keepdim=True)
    shares = torch.softmax(torch.maximum(scores, largest + SMALLEST_LOGIT, out=scores), 1, out=scores)
    return largest[:, 0] - shares.amax(1).log(), shares


def attend_fused(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """`attend` by torch's fused CPU operation; the narrower of key and value is padded with zeros."""
    width = max(key.shape[1], value.shape[1])
    padded = [_pad(tensor, width)[None, None] for tensor in (query, key, value)]
    mask = bias.expand(len(query), len(key))[None, None]
    operation = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    average, log_sum = operation(*padded, 0.0, False, attn_mask=mask, scale=1.0)
    return log_sum.reshape(-1).to(query.dtype), average[0, 0, :, : value.shape[1]]


def _pad(tensor: Tensor, width: int) -> Tensor:
    missing = width - tensor.shape[1]
    return torch.nn.functional.pad(tensor, (0, missing)) if missing else tensor.contiguous()


@functools.cache
def fused_is_available(device_type: str, dtype: torch.dtype) -> bool:
    """Whether the installed torch has the private fused operation and it gives the chunked kernel's numbers."""
    if device_type != "cpu":
        return False
    query = torch.linspace(-2, 2, 12, dtype=dtype).reshape(4, 3)
    key = torch.linspace(-1, 3, 21, dtype=dtype).reshape(7, 3)
    arguments = query, key, key[:, :2], torch.linspace(0, 5, 7, dtype=dtype)
    try:
        pairs = zip(attend_fused(*arguments), attend_chunked(*arguments), strict=True)
        return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)
    except (AttributeError, RuntimeError, TypeError):
        return False


def log_sum_scores(query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
    """Only the log-sum-exp of `attend`, of shape (m,)."""
    if key.shape[1] < WIDE and key.dtype == query.dtype:
        return attend(query, key, key, bias)[0]
    parts = query.split(chunk_length(len(key)))
    return torch.cat(mapped(lambda rows: torch.logsumexp(pair_scores(rows, key, bias), 1), parts))


def both_passes(
    parts: Sequence[tuple[Callable[[], Iterable[Tensor]], Tensor]], softness: float, values: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    r"""Log-sum-exp of each row of scores, and of all rows' softmaxes over each column: both from one exponential a pair.

    .. math:: l_j = \log \sum_i e^{s_{ji}}, \qquad r_i = \log \sum_j e^{a_j + \rho l_j} e^{s_{ji} - l_j}

    Parameters
    ----------
    parts : pairs of a function that gives some rows of the scores s (m, n) in blocks, which are overwritten, and their a
    softness : float, rho
    values : Tensor of shape (p, n) or None, what is averaged under each row's softmax as well

    Returns
    -------
    log_sum : Tensor of shape (m,), l
    log_total : Tensor of shape (n,), r; where it is `KNOWN_ABOVE` below the next or less it has underflown
    log_weight : Tensor, scalar, of the sum of all rows' weights
    average : Tensor of shape (m, p) or None
    shares : Tensor of shape (m, n) or None, the softmax of each row where all rows are in one block
    """
    sums = mapped(lambda part: _sum_both(part[0](), part[1], softness, values), parts)
    log_sums, log_weights, log_totals, averages, shares = zip(*sums, strict=True)
    log_total, log_weight = functools.reduce(torch.logaddexp, log_totals), torch.cat(log_weights).logsumexp(0)
    average = None if values is None else torch.cat(averages)
    return torch.cat(log_sums), log_total, log_weight, average, shares[0] if len(parts) == 1 else None


def _sum_both(
    blocks: Iterable[Tensor], offset: Tensor, softness: float, values: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Of some rows: l, their weights' logs a + rho l, r, and the averages and shares of `both_passes`."""
    log_sums, log_weights, averages, log_total, begin = [], [], [], torch.tensor(-torch.inf).to(offset), 0
    for scores in blocks:
        log_sum, shares = _softmax(scores)
        log_sums.append(log_sum)
        log_weights.append(offset[begin : begin + len(shares)] + softness * log_sum)
        peak, begin = log_weights[-1].amax(), begin + len(shares)
        parts = _in_parts(shares)
        total = torch.bmm((log_weights[-1] - peak).exp().view(len(parts), 1, -1), parts).sum((0, 1))
        log_total = torch.logaddexp(log_total, total.log() + peak)
        if values is not None:
            averages.append(_averages(values, parts))
    average, whole = torch.cat(averages) if averages else None, shares if len(log_sums) == 1 else None
    return torch.cat(log_sums), torch.cat(log_weights), log_total, average, whole


def _in_parts(rows: Tensor) -> Tensor:
    """Rows (m, n) in one part for each of torch's threads, (p, m/p, n).

    The operation before split them in the same way, so that each thread finds its rows in its cache.
    """
    n_threads = torch.get_num_threads() if rows.device.type == "cpu" else 1
    return rows.view(n_threads if len(rows) % n_threads == 0 else 1, -1, rows.shape[1])


def row_log_sums(products: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    r"""Log-sum-exp over the columns of held products, :math:`\log \sum_i e^{s_{ji}/\epsilon + b_i}`, (m, n) and (n,) to (m,)."""

    def sums(rows: Tensor) -> Tensor:
        return torch.cat([torch.logsumexp(scores, 1) for scores in swept_products(rows, bias, epsilon)])

    return torch.cat(mapped(sums, products.split(part_length(products, products.shape[1]))))


def column_log_sums(products: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    r"""Log-sum-exp over the rows of held products, :math:`\log \sum_j e^{s_{ji}/\epsilon + b_j}`, (m, n) and (m,) to (n,)."""
    length = sum_length(products)
    blocks = list(zip(products.split(length), bias[:, None].split(length), strict=True))
    sums = mapped(lambda block: torch.logsumexp(torch.add(block[1], block[0], alpha=1 / epsilon), 0), blocks)
    return functools.reduce(torch.logaddexp, sums)


def row_averages(products: Tensor, bias: Tensor, value: Tensor, epsilon: float) -> Tensor:
    """Averages of the values (n, r) under the softmax of each row of held products (m, n), (m, r)."""

    def averages(rows: Tensor) -> Tensor:
        blocks = swept_products(rows, bias, epsilon, chunk_length(len(value)))
        return torch.cat([_softmax(scores)[1] @ value for scores in blocks])

    return torch.cat(mapped(averages, products.split(part_length(products, products.shape[1]))))


def sum_length(products: Tensor) -> int:
    """Rows of a block of held products that keep it within `PAIRS_PER_SUM`."""
    return _whole_parts(max(1, PAIRS_PER_SUM // products.shape[1]))


def _whole_parts(length: int) -> int:
    """The length of a block, less what does not divide by the number of threads."""
    return max(1, length - length % torch.get_num_threads())


def score_blocks(query: Tensor, key: Tensor, bias: Tensor) -> Iterator[Tensor]:
    """Scores q_j . k_i + b_i in blocks of rows, each of shape (chunk, n)."""
    for rows in query.split(chunk_length(len(key))):
        yield pair_scores(rows, key, bias)


def pair_scores(query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
    """Scores q_j . k_i + b_i, (m, n), in the query's precision; keys in another one are converted a bounded block at a time."""
    if key.dtype == query.dtype:
        return torch.addmm(bias, query, key.T)
    length = max(1, NUMBERS_CONVERTED // key.shape[1])
    result = query.new_empty(len(query), len(key))
    for begin in range(0, len(key), length):
        part = slice(begin, begin + length)
        result[:, part] = torch.addmm(bias[part], query, key[part].to(query.dtype).T)
    return result


def swept(query: Tensor, key: Tensor, bias: Tensor) -> Iterator[Tensor]:
    """`score_blocks` in the memory of the first block, which stays in a cache."""
    length = chunk_length(len(key))
    if query.device.type == "cpu":
        length = min(length, _whole_parts(max(ROWS_PER_SWEEP, PAIRS_PER_SWEEP // len(key))))
    block = torch.empty(min(length, len(query)), len(key), dtype=query.dtype, device=query.device)
    for rows in query.split(length):
        yield torch.addmm(bias, rows, key.T, out=block[: len(rows)])


def swept_products(products: Tensor, bias: Tensor, epsilon: float, length: int = 0) -> Iterator[Tensor]:
    """Scores s_ji/epsilon + b_i from held products in blocks of `length` rows, or of a sum's, in the memory of the first."""
    blocks = products.split(length or sum_length(products))
    block = torch.empty_like(blocks[0])
    return (torch.add(bias, rows, alpha=1 / epsilon, out=block[: len(rows)]) for rows in blocks)


def chunk_length(n_keys: int) -> int:
    """Rows of a block that keep it within `PAIRS_PER_CHUNK`."""
    return max(1, PAIRS_PER_CHUNK // n_keys)


def marginal_error(log_mass: Tensor, other: Tensor | None = None, log_weights: Tensor | None = None) -> float:
    r"""The :math:`\chi^2` of a marginal given as the log of its density with respect to the one that it should be.

    .. math:: \chi^2 = \sum_i a_i (\rho_i - 1) (\rho_i' - 1)

    with a = 1/n, or by the logs of n a. With two independent estimates of the density the error is unbiased; with one it also
    counts that estimate's own noise.
    """
    first, second = (mass.clamp(max=LARGEST_LOG_MASS).expm1() for mass in (log_mass, log_mass if other is None else other))
    product = first * second
    return float((product if log_weights is None else log_weights.exp() * product).mean())


def log_effective_size(log_sum: Tensor, log_sum_squares: Tensor) -> Tensor:
    r"""Log of the effective sample size :math:`(\sum_j w_j)^2 / \sum_j w_j^2` from the logs of both sums."""
    return 2 * log_sum - log_sum_squares


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances of all pairs of rows, (n, m), by differences: exact also far from the origin."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()


def softmin(scores: Tensor, potential: Tensor) -> Tensor:
    r"""The rows' potential :math:`f_i = -\log \frac1m \sum_j e^{s_{ij} + g_j}` from the columns', in units of epsilon."""
    shifted = scores + potential
    largest = shifted.detach().amax(1, keepdim=True)
    return -(shifted - largest).clamp(min=SMALLEST_LOGIT).exp().mean(1).log() - largest[:, 0]
