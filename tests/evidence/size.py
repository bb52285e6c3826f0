"""How large the proofs are: small in the test run, as large as promised with `scripts/evidence`."""

from __future__ import annotations

import logging
import os

FULL = os.environ.get("RECORDER_EVIDENCE") == "full"
figures = logging.getLogger("evidence")
