"""The Ray that this process talks to: connected to, or started for the purpose, quietly and small."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from emp_gym.extras import MissingPackage, pip_line
from emp_gym.types import ConfigError

STORE = 200 * 1024**2
"""Bytes of the object store of a Ray that is started here: what travels is small."""
ALONE = {"NUMBA_NUM_THREADS": "1"}
"""Of worker processes, before they load numba."""
PATIENCE = {
    "RAY_gcs_rpc_server_connect_timeout_s": "60",  # Ray's own: 5
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",  # 60
    "RAY_raylet_start_wait_time_s": "120",  # 10
    "RAY_raylet_client_num_connect_attempts": "100",  # 10, one a second
    "RAY_worker_register_timeout_seconds": "600",  # 60
    "RAY_health_check_failure_threshold": "50",  # 5, one every 3 s
}
"""How long the parts of a Ray wait for each other. By Ray's own word a part that is slow is dead, and a program whose Ray is dead
is aborted without a Python error: a busy machine is slow, and so is one that starts many at once."""
DEFAULTS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", **PATIENCE}
"""No reports to Ray's makers; workers as urgent as this process (Ray's own default is to let all others go first); patience."""


def package() -> Any:
    """Ray itself; raises `MissingPackage` with the pip line."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise MissingPackage(f"this needs the package ray: {pip_line('ray')}") from error


def start(workers: int, address: str | None = None) -> bool:
    """Connects to the cluster at `address` or ``RAY_ADDRESS``; else starts a Ray of `workers` CPUs on this machine, which looks
    for modules where this process does. False where this process has a Ray already: that one is used."""
    ray = package()
    if ray.is_initialized():
        return False
    terminated = signal.getsignal(signal.SIGTERM)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
            with environment(ALONE | {"PYTHONPATH": path}):
                ray.init(num_cpus=workers, include_dashboard=False, object_store_memory=STORE, **quiet)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(f"Ray at {address or 'this machine'}: {error}; give another --ray-address") from error
    finally:
        if terminated is not None:
            signal.signal(signal.SIGTERM, terminated)  # Ray puts a handler of its own in its place
    return True


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that children inherit: they must stand before a child loads numba or torch."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        put(before)


def put(variables: Mapping[str, str | None]) -> None:
    """Sets environment variables, and takes away those that are None."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
