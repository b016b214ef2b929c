"""The load process without the guard of its appends: what the chaos suite must notice. The product has no such switch.

`python -m tests.support.unguarded`
"""

import sys

from podium.eventlog import appends
from tests.support.load import main

# The header that the server guards an append by gets a name it does not know.
appends.EXPECTED_POSITION = "Not-A-Guard"

if __name__ == "__main__":
    sys.exit(main())
