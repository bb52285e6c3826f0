"""Pack the compiled pjsua2 module as a wheel, which pip can install into any virtual environment.

The standard library is enough for it, so that building pjproject needs no virtual environment first.
Format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

import argparse
import base64
import hashlib
import sysconfig
import zipfile
from pathlib import Path


def main() -> None:
    """Write ``pjsua2-VERSION-TAG.whl`` for the interpreter that runs this."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", required=True)
    parser.add_argument("--into", required=True, type=Path)
    parser.add_argument("extension", type=Path)
    parser.add_argument("module", type=Path)
    arguments = parser.parse_args()

    interpreter = "cp" + sysconfig.get_config_var("py_version_nodot")
    tag = f"{interpreter}-{interpreter}-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
    info = f"pjsua2-{arguments.version}.dist-info"
    contents = {
        "_pjsua2" + sysconfig.get_config_var("EXT_SUFFIX"): arguments.extension.read_bytes(),
        "pjsua2.py": arguments.module.read_bytes(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: pjsua2\nVersion: {arguments.version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: make_wheel\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()

    arguments.into.mkdir(parents=True, exist_ok=True)
    wheel = arguments.into / f"pjsua2-{arguments.version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    main()
