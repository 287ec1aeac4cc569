"""What goes wrong, as exceptions: one for each code of docs/errors.md, in its order.

Every exception is a `cxlspeckv.Error` and the builtin that a Python programmer expects.
"""

from enum import IntEnum


class Code(IntEnum):
    """How one block of an operation ended. The numbers are those of `speckv::Code`."""

    OK = 0
    INVALID_ARGUMENT = 1
    NOT_FOUND = 2
    NO_SPACE = 3
    BUSY = 4
    CANCELLED = 5
    TIMED_OUT = 6
    CORRUPTED = 7
    IO_ERROR = 8
    UNSUPPORTED = 9
    INTERNAL = 10


class Error(Exception):
    """A call of cxlspeckv failed. `code` says how."""

    code: Code = Code.INTERNAL


class InvalidArgument(Error, ValueError):
    """A stated rule was broken: a size, a range, an unknown option."""

    code = Code.INVALID_ARGUMENT


class NotFound(Error, LookupError):
    """There is no such block, device, codec or name."""

    code = Code.NOT_FOUND


class NoSpace(Error, MemoryError):
    """Every byte is taken and nothing may be evicted, or a quota is spent."""

    code = Code.NO_SPACE


class Busy(Error, BlockingIOError):
    """A queue is full, or somebody holds the object: try again later."""

    code = Code.BUSY


class Cancelled(Error):
    """The caller cancelled before this block was begun."""

    code = Code.CANCELLED


class TimedOut(Error, TimeoutError):
    """A deadline passed, or a device did not answer in time."""

    code = Code.TIMED_OUT


class Corrupted(Error):
    """Bytes failed their checksum or did not decode; a pool is not ours."""

    code = Code.CORRUPTED


class DeviceError(Error, OSError):
    """The device said no."""

    code = Code.IO_ERROR


class Unsupported(Error, NotImplementedError):
    """This device, kernel or build cannot do it."""

    code = Code.UNSUPPORTED


class Internal(Error, RuntimeError):
    """A bug in this library."""

    code = Code.INTERNAL


# By code; the bindings raise from this tuple.
BY_CODE: tuple[type[Error], ...] = (
    Error,
    InvalidArgument,
    NotFound,
    NoSpace,
    Busy,
    Cancelled,
    TimedOut,
    Corrupted,
    DeviceError,
    Unsupported,
    Internal,
)
