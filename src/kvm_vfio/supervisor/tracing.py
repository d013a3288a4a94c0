# SPDX-License-Identifier: GPL-2.0-only
"""What a trace says of a call.

Rule of this file: it only runs when somebody wants a trace, and changes no answer. It reads what a
call points to once more, before the call is answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from errno import errorcode
from typing import Any

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.supervisor.calls import call_name, find_request
from kvm_vfio.supervisor.libc import NR
from kvm_vfio.supervisor.memory import AddressSpace
from kvm_vfio.supervisor.processes import comm
from kvm_vfio.supervisor.syscalls import ARGUMENTS, CONTINUE
from kvm_vfio.trace.jsonl import Trace

_IOCTL = NR.get("ioctl")
_PATHS = {NR.get("open"): 0, NR.get("openat"): 1, NR.get("openat2"): 1}
_PATH_LIMIT = 4096


class Tracer:
    """Writes the calls of a program; `call` is what `Listener.receive` returned."""

    def __init__(self, fd: int) -> None:
        self.trace = Trace(fd)

    def arguments(
        self, call: tuple[int, ...], file: File | None, memory: AddressSpace
    ) -> Mapping[str, Any]:
        """The arguments of a call that is about to be answered."""
        nr, words = call[3], call[ARGUMENTS:]
        try:
            if nr == _IOCTL:
                return _of_ioctl(words, file, memory)
            if nr in _PATHS:
                path = memory.read_string(words[_PATHS[nr]], _PATH_LIMIT)
                return {"path": path.decode(errors="replace")}
        except KernelError as error:
            return {"words": words, "unreadable": error.why}
        return {"words": words}

    def answered(
        self,
        call: tuple[int, ...],
        file: File | None,
        arguments: Mapping[str, Any],
        result: int,
        why: str | None,
        effects: list[str],
    ) -> None:
        """A call has its answer; with `why`, if it failed or is not known."""
        record: dict[str, Any] = {"comm": comm(call[1]), "tid": call[1]}
        kind = type(file) if file is not None else None
        record["call"] = call_name(call[3], kind, call[ARGUMENTS + 1] & 0xFFFF_FFFF)
        if file is not None:
            record["file"] = file.name
        record["arguments"] = arguments
        if result == CONTINUE:
            record["answer"] = "continue"
        else:
            record["answer"] = result if result >= 0 else errorcode.get(-result, str(result))
        if why is not None:
            record["why"] = why
        if effects:
            record["effects"] = effects
        self.trace.write(record)

    def released(self, file: File, effects: list[str]) -> None:
        """No program has `file` any more."""
        self.trace.write({"call": "last close", "file": file.name, "effects": effects})


def _of_ioctl(words: tuple[int, ...], file: File | None, memory: AddressSpace) -> Mapping[str, Any]:
    request = find_request(type(file) if file is not None else None, words[1] & 0xFFFF_FFFF)
    arguments: dict[str, Any] = {"fd": words[0] & 0xFFFF_FFFF, "argument": words[2]}
    if request.layout is not None and words[2]:
        fields = request.layout.unpack(memory.read(words[2], request.layout.size))
        arguments[request.layout.name] = {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in fields._asdict().items()
        }
    return arguments
