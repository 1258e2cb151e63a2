"""scikit-learn's callbacks, where the installed version has them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing to support."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """The method as it is."""
        return method


class Watch:
    """Tells an estimator's callbacks of its fit, as tasks within the task of the whole, and takes their wish to stop.

    Parameters
    ----------
    estimator : the one that is fitted
    X, y : what its `fit` was given

    `as_if_ended` gives the attributes of a model fitted so far, from the state of the loop that is under way.
    """

    as_if_ended: Callable[[Any], dict[str, Any] | None]

    def __init__(self, estimator: Any, X: Any, y: Any) -> None:
        self.estimator, self.data = estimator, {"estimator": estimator, "X": X, "y": y}
        self.context = estimator._init_callback_context(max_subtasks=None).call_on_fit_task_begin(**self.data)

    @classmethod
    def of(cls, estimator: Any, X: Any, y: Any) -> Watch | None:
        """The watch of a fit, or None where nobody watches."""
        return cls(estimator, X, y) if getattr(estimator, "_skl_callbacks", None) else None

    def begin(self, name: str) -> None:
        """A task begins."""
        self.task = self.context.subcontext(task_name=name).call_on_fit_task_begin(**self.data)

    def end(self, owner: Any) -> bool:
        """The task has ended; True when a callback asks to stop."""
        so_far = functools.partial(self.as_if_ended, owner)
        return bool(self.task.call_on_fit_task_end(**self.data, reconstruction_attributes=so_far))

    def close(self) -> None:
        """The fit has ended."""
        self.context.call_on_fit_task_end(**self.data, reconstruction_attributes={})
