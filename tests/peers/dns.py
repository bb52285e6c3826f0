"""A nameserver on loopback whose zone the test writes: it answers, counts what it is asked, and can fall silent."""

from __future__ import annotations

import socket
import threading
from collections import Counter

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset


class Nameserver:
    """Serves `zone`, whose keys are (name, type) such as ("ivr.test", "A") and whose values are texts of records.

    `ttl` goes with every record from then on. `silent` has it take questions and answer none. `questions` counts them.
    """

    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], list[str]] = {}
        self.ttl = 60
        self.silent = False
        self.questions: Counter[tuple[str, str]] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, name="nameserver", daemon=True)

    @property
    def address(self) -> str:
        """`address:port`, as `sip.nameservers` takes it."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Nameserver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            packet, peer = self._socket.recvfrom(4096)
            if not packet:
                return
            query = dns.message.from_wire(packet)
            [question] = query.question
            key = (question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype))
            self.questions[key] += 1
            if self.silent:
                continue
            answer = dns.message.make_response(query)
            answer.flags |= dns.flags.RA
            if records := self.zone.get(key):
                answer.answer.append(dns.rrset.from_text(question.name, self.ttl, "IN", key[1], *records))
            elif not any(name == key[0] for name, _ in self.zone):
                answer.set_rcode(dns.rcode.NXDOMAIN)
            self._socket.sendto(answer.to_wire(), peer)
