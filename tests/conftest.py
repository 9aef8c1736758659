"""Fixtures of all tests."""

import signal

# A shell that runs the tests in the background has Ctrl-C ignored, and so would all commands that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.support.postgres", "tests.support.cluster.fixtures", "tests.support.quickdapp"]
