import logging

from drfpn.utils.errors import UsageError, UserError, message_of
from drfpn.utils.messages import log_to_stderr


def test_messages_reach_stderr_only_inside_of_the_context(capsys) -> None:
    logger = logging.getLogger("drfpn.somewhere")
    level = logging.getLogger("drfpn").level
    with log_to_stderr(str.upper):
        logger.debug("hidden")
        logger.info("a %s with [markup] in it and %d %%", "message", 5)
        logger.warning("a warning")
    logger.info("later")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "A MESSAGE WITH [MARKUP] IN IT AND 5 %\nA WARNING\n"
    assert logging.getLogger("drfpn").level == level


def test_long_messages_are_one_line(capsys) -> None:
    with log_to_stderr():
        logging.getLogger("drfpn").info("word " * 100)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_traceback_of_a_worker_is_not_part_of_the_message() -> None:
    for error in (UserError, UsageError):
        worker = f"Caught {error.__name__} in DataLoader worker process 0.\nOriginal Traceback:\n"
        text = f"{worker}{error.__name__}: a.jpg is bad."
        assert message_of(error(text)) == message_of(error("a.jpg is bad.")) == "a.jpg is bad."
