# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that gives prepared answers, for what the model does not do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvm_vfio import ModelSyscalls, model
from kvm_vfio.syscalls import Buffer


class Scripted(ModelSyscalls):
    """Each ioctl gives the next of its request's answers: bytes for its structure, or an error."""

    def __init__(self, answers: Mapping[int, Sequence[bytes | OSError]]) -> None:
        super().__init__(model().kernel)
        self.answers = {request: list(given) for request, given in answers.items()}

    def ioctl(self, fd: int, request: int, arg: int | Buffer = 0) -> int:
        answer = self.answers[request].pop(0)
        if isinstance(answer, OSError):
            raise answer
        if isinstance(arg, int):
            raise TypeError("an answer needs a structure")
        arg.write(answer)
        return 0
