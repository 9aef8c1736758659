"""Fixtures of all tests."""

pytest_plugins = ["tests.support.postgres", "tests.support.cluster.fixtures", "tests.support.quickdapp"]
