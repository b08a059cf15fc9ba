"""Become another user if need be, tie the life of this process to its parent's, and exec.

Run as `python guard.py PARENT USER SIGNAL PROGRAM ARGUMENT…`, on the standard library alone.
USER is `same`, `namespace` (root looks like nobody from inside a user namespace, so PostgreSQL
runs, while all files stay root's) or `uid:gid`. SIGNAL is what a parent's death sends.
"""

import ctypes
import os
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
NOBODY = 65534


def main(parent: int, user: str, death_signal: int, program: str, *arguments: str) -> None:
    """Replace this process by the program; exits with 1 if the parent is gone already."""
    change_user(user)
    if sys.platform == "linux":
        # After the change of user, which clears it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(program, [program, *arguments])  # noqa: S606 - our own command line


def change_user(user: str) -> None:
    """Become the user for the rest of this process's life; raises OSError where not allowed."""
    if user == "namespace":
        libc = ctypes.CDLL(None, use_errno=True)
        uid, gid = os.geteuid(), os.getegid()
        if libc.unshare(CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "no user namespace")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} {gid} 1")
        Path("/proc/self/uid_map").write_text(f"{NOBODY} {uid} 1")
    elif user != "same":
        uid_text, gid_text = user.split(":")
        os.setgroups([])
        os.setgid(int(gid_text))
        os.setuid(int(uid_text))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
