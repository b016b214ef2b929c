"""`signal` without its enums, which take 6 of the launcher's 30 ms and all of `functools` to build.

`_signal` is the C module that `signal` wraps name by name; signal numbers are plain integers in it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

__all__ = ["signal"]
