"""Certificates for one test run, made on the spot by an authority of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM."""

    certificate: str
    private_key: str
    ca: str

    def settings(self) -> dict[str, str]:
        """As sip.tls takes them."""
        return {"certificate": self.certificate, "private_key": self.private_key, "ca": self.ca}


class Authority:
    """A certificate authority whose files are put into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.path = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.path)

    def issue(self, *names: str) -> Certificate:
        """A certificate for these host names or addresses."""
        issued = self._ca.issue_cert(*names)
        stem = self._folder / names[0].replace(":", "_")
        certificate, key = stem.with_suffix(".crt"), stem.with_suffix(".key")
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return Certificate(str(certificate), str(key), str(self.path))
