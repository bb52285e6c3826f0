"""A SIP back-to-back user agent that records whole calls.

The way of a call: an INVITE comes in on the A leg, `recorder.sip` translates it to an event, `recorder.calls` decides,
the actions are carried out on the sip thread by `recorder.session`. Legs of one codec are joined by relaying their RTP
packets, others by the media bridge. Once the call is answered, `recorder.take` attaches one native tap a leg, below the
jitter buffer: each packet stands where its RTP timestamp puts it. `recorder.media` puts both on one timeline, redacts,
mixes and hands on to the thread that writes; `recorder.library` keeps and finds the result; `recorder.web` serves it.
`recorder.exchange` holds all calls, `recorder.app` builds everything and keeps the order of start and stop.
"""

__version__ = "0.1.0"
