"""Compile the sample contracts into ``contracts.json``: ``make contracts``."""

from tests.support.contracts import ARTEFACT, compile_contracts

ARTEFACT.write_text(compile_contracts())
