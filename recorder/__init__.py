"""A SIP back-to-back user agent that records whole calls.

The way of a call: an INVITE comes in on the A leg, `recorder.sip` translates it to an event, `recorder.calls` decides,
the actions are carried out on the sip thread. Once both legs have media, `recorder.session` attaches one native tap a
leg; `recorder.media` puts both on one timeline, redacts, mixes and writes; `recorder.library` keeps and finds the result;
`recorder.web` serves it. `recorder.app` builds all of it and holds the start and stop order.
"""

__version__ = "0.1.0"
