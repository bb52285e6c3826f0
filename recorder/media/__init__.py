"""From two taps to one file: timeline, redaction, mixer, `.part` file, and the thread that does it for all recordings.

    tap a ┐
          ├ timeline (aligned blocks) -> redactions (zeros) -> mixer (mono) -> part file -> commit -> `….wav`
    tap b ┘

`writer.Writer` pumps each `recording.Recording`; positions are samples of the media clock everywhere. Nothing here
knows how the legs are joined: a source is anything that fits `source.SampleSource`.
"""
