"""Sealing: the children's processes can't read the worker's token, though they run as the same user.

Linux's Landlock lets a process without rights give up access for itself and all that it starts. It knows only what is
allowed: here everything but one folder, by its neighbours and those of the folders above it. Only reading files is
concerned. A sealed process also can't look into the memory of those that are not.

Source:
    Linux kernel documentation, userspace-api/landlock: Landlock is in Linux 5.13 and newer, where it is turned on.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from workerjobs.worker.forking import LIBC

# The same numbers on all architectures; include/uapi/linux/landlock.h.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_READ_FILE = 1 << 2
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def can_seal() -> bool:
    """Whether this kernel can do it."""
    return int(LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)) > 0


def seal(folder: str) -> None:
    """Keep this process and its descendants from reading files below a folder, for ever.

    Files that are made later directly in the folders above it are out of reach as well.

    Raises:
        OSError: The kernel refuses.
    """
    handled = ctypes.c_uint64(_READ_FILE)
    rules = _call(_CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(ctypes.sizeof(handled)), 0)
    try:
        sealed = Path(folder).resolve()
        for above, hidden in zip(sealed.parents, [sealed, *sealed.parents], strict=False):
            for entry in above.iterdir():
                # What a link leads to has a place of its own.
                if entry != hidden and not entry.is_symlink():
                    _allow(rules, entry)
        if LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS is refused")
        _call(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: Path) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return  # it went meanwhile, or is not to be read anyway
    try:
        rule = _Rule(_READ_FILE, place)
        _call(_ADD_RULE, rules, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    result: int = LIBC.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock: {os.strerror(error)}")
    return result
