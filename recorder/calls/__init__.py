"""The pure core: what a call does, as data.

No I/O, no threads, no pjsua2; events in, actions out, `now` is an argument.
"""
