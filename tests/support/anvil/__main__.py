"""Install anvil: ``python -m tests.support.anvil``; say what its tests will do where that is not possible."""

import sys

from tests.support.anvil import program
from tests.support.npm import NodeError

try:
    program()
except NodeError as error:
    print(f"anvil can't be installed ({error}): its tests are left out", file=sys.stderr)
