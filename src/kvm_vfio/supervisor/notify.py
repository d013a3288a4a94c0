# SPDX-License-Identifier: GPL-2.0-only
"""The listener of a seccomp filter: receive a call that waits, answer it.

Rule of this file: it knows how to talk to the kernel and nothing of what the calls mean. Buffers
are made once and used for every call, because this is the path whose speed is felt.

A call may end before its answer comes: its thread is killed, or (before Linux 5.19) interrupted by
a signal. Its `id` is then not valid any more, and the answer goes nowhere.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from errno import EBADF, EMFILE, ENOENT
from fcntl import ioctl

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.supervisor.libc import seccomp_notif_size
from kvm_vfio.uapi.seccomp import (
    SECCOMP_IOCTL_NOTIF_ADDFD,
    SECCOMP_IOCTL_NOTIF_ID_VALID,
    SECCOMP_IOCTL_NOTIF_RECV,
    SECCOMP_IOCTL_NOTIF_SEND,
    SECCOMP_IOCTL_NOTIF_SET_FLAGS,
    SECCOMP_NOTIF,
    SECCOMP_NOTIF_ADDFD,
    SECCOMP_NOTIF_RESP,
    SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP,
    SECCOMP_USER_NOTIF_FLAG_CONTINUE,
)

# A plain int is quicker to pass than a Request, and a bare Struct than a Layout.
_RECV = int(SECCOMP_IOCTL_NOTIF_RECV)
_SEND = int(SECCOMP_IOCTL_NOTIF_SEND)
_VALID = int(SECCOMP_IOCTL_NOTIF_ID_VALID)
_NO_FD = 0xFFFF_FFFF
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")


class Gone(Exception):
    """The call ended before it was answered; nobody waits any more."""


class Listener:
    """The supervisor's end of a filter. `receive` and the answers are meant for one thread."""

    __slots__ = ("_notification", "_response", "_zero", "call", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.call = 0  # the id of the call received last, which all but `receive` are about
        sizes = seccomp_notif_size()
        # The kernel fills in as much as it knows, which may be more than we do.
        self._notification = bytearray(max(sizes.seccomp_notif, SECCOMP_NOTIF.size))
        self._zero = bytes(len(self._notification))
        self._response = bytearray(max(sizes.seccomp_notif_resp, SECCOMP_NOTIF_RESP.size))
        with suppress(OSError):  # before Linux 6.6: right, and slower
            ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)

    def require_add_fd(self) -> None:
        """OSError: this kernel cannot put a file of ours into the program."""
        request = SECCOMP_NOTIF_ADDFD.pack(SECCOMP_NOTIF_ADDFD.type(0, 0, _NO_FD, 0, 0))
        try:
            ioctl(self.fd, SECCOMP_IOCTL_NOTIF_ADDFD, request)
        except OSError as error:
            if error.errno != EBADF:  # it knows the request, and looked for the file
                raise

    def receive(self) -> tuple[int, ...]:
        """Wait for a call: (id, tid, flags, nr, arch, instruction pointer, six arguments).

        InterruptedError; ENOENT: the call was over before we saw it, or nobody is left to call.
        """
        self._notification[:] = self._zero  # or it would be EINVAL
        ioctl(self.fd, _RECV, self._notification)
        fields = _NOTIFICATION.unpack_from(self._notification)
        self.call = fields[0]
        return fields

    def answer(self, value: int) -> None:
        """The call returns `value`, which is -errno for an error."""
        if value < 0:
            _RESPONSE.pack_into(self._response, 0, self.call, 0, value, 0)
        else:
            _RESPONSE.pack_into(self._response, 0, self.call, value, 0, 0)
        self._send()

    def let_continue(self) -> None:
        """The kernel itself goes on with the call."""
        _RESPONSE.pack_into(self._response, 0, self.call, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE)
        self._send()

    def _send(self) -> None:
        try:
            ioctl(self.fd, _SEND, self._response)
        except OSError as error:
            if error.errno != ENOENT:
                raise

    def require_valid(self) -> None:
        """Raise Gone unless somebody still waits for this call."""
        try:
            ioctl(self.fd, _VALID, self._notification)  # which begins with the id
        except OSError:
            raise Gone from None

    def add_fd(self, fd: int, *, close_on_exec: bool) -> int:
        """Give the caller our file `fd` under its lowest free number. Gone; KernelError(EMFILE)."""
        request = bytearray(
            SECCOMP_NOTIF_ADDFD.pack(
                SECCOMP_NOTIF_ADDFD.type(self.call, 0, fd, 0, os.O_CLOEXEC if close_on_exec else 0)
            )
        )
        try:
            number: int = ioctl(self.fd, SECCOMP_IOCTL_NOTIF_ADDFD, request)
        except OSError as error:
            if error.errno == ENOENT:
                raise Gone from None
            raise KernelError(error.errno or EMFILE, "the program can open no more") from error
        return number

    def close(self) -> None:
        """Calls that still wait, and all later ones, get ENOSYS."""
        os.close(self.fd)
