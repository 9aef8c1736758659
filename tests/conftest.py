"""Fixtures of all tests."""

import signal

pytest_plugins = ["tests.support.postgres", "tests.support.cluster.fixtures", "tests.support.quickdapp"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a run in the background of a script: programs that tests start would inherit it, and no Ctrl-C would reach
    # them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
