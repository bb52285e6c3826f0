"""Load tests: SIPp as both ends of many calls through a recorder, each recording judged by its content.

`run` carries one out. `peers` (SIPp), `subject` (the recorder as a process), `tones` and `verify` are what the
project's own tests use as well.
"""

from recorder.loadtest.bench import run
from recorder.loadtest.options import Options, Phase
from recorder.loadtest.tones import Codec

__all__ = ["Codec", "Options", "Phase", "run"]
