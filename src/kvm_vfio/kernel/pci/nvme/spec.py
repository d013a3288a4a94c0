# SPDX-License-Identifier: GPL-2.0-only
"""The numbers of the NVM Express Base Specification 1.4, under its names.

Rule of this file: no behaviour.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

VERSION = 0x0001_0400
PAGE_SHIFT = 12  # CC.MPS and CAP.MPSMIN count from here
SQ_ENTRY, CQ_ENTRY = 64, 16  # bytes
SQ_ENTRY_SHIFT, CQ_ENTRY_SHIFT = 6, 4
EVERY_NAMESPACE = 0xFFFF_FFFF

# CC
CC_EN = 1 << 0
CC_CSS = 7 << 4
CC_MPS_SHIFT, CC_MPS_MASK = 7, 0xF
CC_AMS = 7 << 11
CC_SHN = 3 << 14
CC_IOSQES_SHIFT, CC_IOCQES_SHIFT, CC_ENTRY_MASK = 16, 20, 0xF
CC_WRITABLE = 0x00FF_FFF1

# CSTS
CSTS_RDY = 1 << 0
CSTS_CFS = 1 << 1
CSTS_SHST = 3 << 2
CSTS_SHST_COMPLETE = 2 << 2


class Admin(IntEnum):
    """Opcodes of the Admin Command Set."""

    DELETE_SQ = 0x00
    CREATE_SQ = 0x01
    GET_LOG_PAGE = 0x02
    DELETE_CQ = 0x04
    CREATE_CQ = 0x05
    IDENTIFY = 0x06
    ABORT = 0x08
    SET_FEATURES = 0x09
    GET_FEATURES = 0x0A
    ASYNCHRONOUS_EVENT_REQUEST = 0x0C


class Nvm(IntEnum):
    """Opcodes of the NVM Command Set."""

    FLUSH = 0x00
    WRITE = 0x01
    READ = 0x02
    COMPARE = 0x05
    WRITE_ZEROES = 0x08
    DATASET_MANAGEMENT = 0x09


class Feature(IntEnum):
    """Feature identifiers."""

    ARBITRATION = 0x01
    POWER_MANAGEMENT = 0x02
    TEMPERATURE_THRESHOLD = 0x04
    ERROR_RECOVERY = 0x05
    VOLATILE_WRITE_CACHE = 0x06
    NUMBER_OF_QUEUES = 0x07
    INTERRUPT_COALESCING = 0x08
    INTERRUPT_VECTOR_CONFIGURATION = 0x09
    WRITE_ATOMICITY = 0x0A
    ASYNCHRONOUS_EVENT_CONFIGURATION = 0x0B


class Log(IntEnum):
    """Log page identifiers."""

    ERROR = 0x01
    SMART = 0x02
    FIRMWARE_SLOT = 0x03


class Cns(IntEnum):
    """What Identify is about."""

    NAMESPACE = 0x00
    CONTROLLER = 0x01
    ACTIVE_NAMESPACES = 0x02
    NAMESPACE_DESCRIPTORS = 0x03


class Status(IntEnum):
    """Status Code Type (bits 10:8) and Status Code (7:0) of a completion."""

    SUCCESS = 0x000
    INVALID_OPCODE = 0x001
    INVALID_FIELD = 0x002
    DATA_TRANSFER_ERROR = 0x004
    INTERNAL_ERROR = 0x006
    ABORT_REQUESTED = 0x007
    INVALID_NAMESPACE = 0x00B
    COMMAND_SEQUENCE_ERROR = 0x00C
    PRP_OFFSET_INVALID = 0x013
    LBA_OUT_OF_RANGE = 0x080
    COMPLETION_QUEUE_INVALID = 0x100
    INVALID_QUEUE_IDENTIFIER = 0x101
    INVALID_QUEUE_SIZE = 0x102
    EVENT_REQUEST_LIMIT_EXCEEDED = 0x105
    INVALID_INTERRUPT_VECTOR = 0x108
    INVALID_LOG_PAGE = 0x109
    INVALID_QUEUE_DELETION = 0x10C
    FEATURE_NOT_SAVEABLE = 0x10D
    FEATURE_NOT_CHANGEABLE = 0x10E
    WRITE_FAULT = 0x280
    UNRECOVERED_READ_ERROR = 0x281
    COMPARE_FAILURE = 0x285


DO_NOT_RETRY = 0x4000
"""In the status of a completion: the same command would fail again."""

MAY_BE_RETRIED = frozenset(
    {
        Status.DATA_TRANSFER_ERROR,
        Status.INTERNAL_ERROR,
        Status.ABORT_REQUESTED,
        Status.WRITE_FAULT,
        Status.UNRECOVERED_READ_ERROR,
        Status.COMPARE_FAILURE,
    }
)


class Event(NamedTuple):
    """An asynchronous event: its type, what happened, and the log page that tells more."""

    kind: int
    information: int
    log: Log

    @property
    def result(self) -> int:
        """Dword 0 of the completion."""
        return self.kind | self.information << 8 | self.log << 16


INVALID_DOORBELL_REGISTER = Event(0, 0, Log.ERROR)
INVALID_DOORBELL_VALUE = Event(0, 1, Log.ERROR)
TEMPERATURE_EVENT = Event(1, 1, Log.SMART)

_COMMAND = Struct("<BBHI8x8xQQ6I")
COMPLETION = Struct("<IIHHHH")  # dwords 0 and 1, SQ head, SQ identifier, command, status


class Command(NamedTuple):
    """A submission queue entry."""

    opcode: int
    flags: int
    identifier: int
    nsid: int
    prp1: int
    prp2: int
    cdw10: int
    cdw11: int
    cdw12: int
    cdw13: int
    cdw14: int
    cdw15: int

    @classmethod
    def parse(cls, data: bytes, at: int = 0) -> Command:
        """The entry at `at`."""
        return cls._make(_COMMAND.unpack_from(data, at))


class Refused(Exception):  # what the specification calls it is aborted, with a status
    """The command ends with this status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status
