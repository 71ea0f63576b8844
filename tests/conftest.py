# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Fixtures that several test files share."""
import signal
from pathlib import Path

import pytest
import torch

import mmaction_tokenreduce  # noqa: F401  (compat comes before mmaction)


def pytest_configure() -> None:
    """Let tests press Ctrl-C in processes that they start.

    A shell's background jobs ignore it, and so would all that they start.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope='session')
def repo_dir() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def shared_dir(repo_dir) -> Path:
    """The folder with parity tensors and videos, beside (or in) the checkout."""
    if (folder := find_shared(repo_dir)) is not None:
        return folder
    pytest.skip('needs ../shared (parity tensors, real videos), which is not here')


def find_shared(repo_dir: Path) -> Path | None:
    """That folder, if it is there."""
    for candidate in (repo_dir.parent / 'shared', repo_dir / 'shared'):
        if (candidate / 'parity').is_dir():
            return candidate
    return None


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every test draws the same numbers, in whatever order tests run."""
    torch.manual_seed(0)
