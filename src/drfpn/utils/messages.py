"""Log records of the library on stderr, for the command line."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StderrHandler(logging.Handler):
    """Logging handler that writes messages to stderr, above a progress bar if there is one; from rank 0 only.

    Args:
        render: function that is applied to each message.
    """

    def __init__(self, render: Callable[[str], str] = str) -> None:
        super().__init__(logging.INFO)
        self.render = render

    def emit(self, record: logging.LogRecord) -> None:
        """Write the message of a record.

        Args:
            record: of the logger ``drfpn`` or one below it.
        """
        from drfpn.utils.console import say  # not at the top: imports torch, which is slow

        try:
            say(self.render(record.getMessage()))
        except Exception:  # as in logging.StreamHandler
            self.handleError(record)


@contextmanager
def log_to_stderr(render: Callable[[str], str] = str) -> Iterator[None]:
    """Write the library's messages of level INFO and above to stderr while the context is entered.

    Args:
        render: function that is applied to each message.
    """
    logger, handler = logging.getLogger("drfpn"), StderrHandler(render)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
