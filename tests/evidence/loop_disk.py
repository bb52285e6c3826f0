"""A disk that can fail: an ext4 file system of its own in a file, mounted by a loop device. Needs root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
from pathlib import Path

_EXT4_IOC_SHUTDOWN = 0x8004587D  # linux/fs/ext4/ext4.h


class LoopDisk:
    """Raises PermissionError where mounting is not allowed. Use as a context manager."""

    def __init__(self, scratch: Path, megabytes: int) -> None:
        self.mount_point = scratch / "disk"
        self._image = scratch / "disk.img"
        self._devices: list[str] = []
        self._frozen = False
        self.mount_point.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(megabytes * 1_000_000)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
        try:
            self._mount()
        except subprocess.CalledProcessError as error:
            self.close()
            raise PermissionError(f"cannot mount a file system: {error.stderr.strip()}") from error

    def __enter__(self) -> LoopDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fill(self) -> None:
        """Leave no room at all."""
        with contextlib.suppress(OSError), (self.mount_point / "ballast").open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        pass

    def make_room(self) -> None:
        """Take back what `fill` has done."""
        (self.mount_point / "ballast").unlink()

    def freeze(self) -> None:
        """Let every write wait until `thaw`."""
        _run("fsfreeze", "-f", str(self.mount_point))
        self._frozen = True

    def thaw(self) -> None:
        """Let writes go on."""
        _run("fsfreeze", "-u", str(self.mount_point))
        self._frozen = False

    def make_read_only(self) -> None:
        """As the kernel does when it finds the file system damaged: nothing can be written until it is mounted anew."""
        device = Path(self._devices[-1]).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("found broken", encoding="ascii")

    def fail(self) -> None:
        """Answer everything with EIO from now on, as when the disk has been pulled out."""
        descriptor = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", 2))
        finally:
            os.close(descriptor)

    def come_back(self) -> None:
        """Mount what the disk really holds in the same place."""
        _run("umount", "-l", str(self.mount_point))
        self._mount()

    def power_on(self) -> None:
        """After `fail`, with no file open any more: mount what had reached the disk, as after a power cut."""
        _run("umount", str(self.mount_point))
        _run("losetup", "-d", self._devices.pop())
        self._mount()

    def close(self) -> None:
        """Unmount it and give the devices back."""
        if self._frozen:
            self.thaw()
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("umount", "-l", str(self.mount_point))
        for device in self._devices:
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("losetup", "-d", device)

    def _mount(self) -> None:
        # A device of its own each time: the kernel keeps what it knows of the old one while a file on it is open.
        device = _run("losetup", "-f", "--show", str(self._image)).strip()
        self._devices.append(device)
        _run("mount", "-o", "errors=remount-ro", device, str(self.mount_point))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
