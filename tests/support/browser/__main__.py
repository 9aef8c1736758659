"""Install the browser: ``python -m tests.support.browser``; say what its tests will do where that is not possible."""

import sys

from tests.support.browser import FOLDER, find_chromium
from tests.support.node import node
from tests.support.npm import NodeError
from tests.support.packages import install_or_say

if find_chromium() is None:
    install_or_say("chromium")
try:
    node(FOLDER)
except NodeError as error:
    print(f"what drives Chromium can't be installed ({error}): its tests are left out", file=sys.stderr)
