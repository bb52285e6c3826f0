"""The HTTP interface: one module a resource, each with its handlers and its part of the API description.

`app.build_app` puts the resources together; `resource` guards each with its role; `problems` maps every error, once,
to RFC 9457; `observe` counts, logs and sets the security headers. Nothing here touches a call or audio samples: the
library finds and keeps, and what is live comes from callables that `services.Services` brings along. Everything that
may wait for the disk or the index runs in a thread.
"""
