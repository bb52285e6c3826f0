"""Keeping and finding what was recorded: manifests, the index, the usage ledger, crash recovery.

The order is the contract, and `keeper` holds it: durable file, manifest, index row, CDR, usage entry. What a crash
interrupts, `recovery` takes up again at the next start, from the files alone; the index can always be made anew from
the manifests. Nothing here knows how audio is made, how a call is joined, or how any of it is served.
"""
