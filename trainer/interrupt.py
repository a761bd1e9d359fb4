"""Ctrl-C between two steps, never within one: a step half done has moved running statistics but not the weights."""

import signal
import threading
from types import FrameType, TracebackType

from trainer.log import say

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Within its block the first SIGINT or SIGTERM only sets `asked`; the second ends the program at once.

    In a thread other than the main one, where Python delivers no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        say("stopping after this step; once more to stop at once, without saving")
