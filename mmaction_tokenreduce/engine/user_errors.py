# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""A user's mistake ends a tool in one line; a bug in its traceback.

What counts as a mistake:

- in reading the config: whatever it raises;
- a file that is missing, of the wrong kind, or not to be read or written, and a full
  disk: at any time;
- a video or a checkpoint that cannot be read: at any time;
- a selector that does not fit the grid that it meets: at any time;
- until training or testing begins: one of `WRITTEN_ERRORS` with a message that
  somebody wrote, that is, raised by a ``raise`` or ``assert`` (constructors and
  registries), and a call with arguments that a function does not take (a typo in the
  config). The same errors raised by the interpreter itself, or later, are bugs.

``TOKENREDUCE_TRACEBACK=1`` in the environment shows the traceback of every error.
"""
import errno
import linecache
import os
import pickle
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..datasets import BadVideoError
from ..layers import SelectionError

TRACEBACK_VARIABLE = 'TOKENREDUCE_TRACEBACK'
EXIT_STATUS = 2  # as argparse's
FILE_ERRORS = (FileNotFoundError, IsADirectoryError, NotADirectoryError,
               PermissionError)
WRITTEN_ERRORS = (ValueError, TypeError, KeyError, AssertionError)
CALL_ERRORS = re.compile(r'unexpected keyword argument|multiple values for|missing \d+ '
                         r'required|takes (from )?\d+ .*positional')


class ConfigError(ValueError):
    """A config, or an option given with it, that cannot be used."""


class SetUpDoneHook(Hook):
    """Remembers that everything is built and training or testing begins."""

    # after the same methods of all others, which still belong to setting up
    priority = 'LOWEST'

    def __init__(self) -> None:
        self.done = False

    def before_train(self, runner: Runner) -> None:
        """Note that training begins.

        Args:
            runner (Runner): The runner.
        """
        self.done = True

    def before_test(self, runner: Runner) -> None:
        """Note that testing begins.

        Args:
            runner (Runner): The runner.
        """
        self.done = True


def one_line(error: BaseException) -> str:
    """The message of an error on one line.

    Of an error in a data loader's worker process, which carries a traceback as its
    message, only the original message is kept.

    Args:
        error (BaseException): The error.

    Returns:
        str: Its message, or its class where it has none.
    """
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f'{error.strerror}: {error.filename}'
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else (
        str(error))
    if text.startswith('Caught ') and 'worker process' in text:
        text = text.strip().splitlines()[-1].partition(': ')[2]
    # older mmengine registries add the class and its file at every level
    text = re.sub(r'^(class `\w+` in \S+: )+(?=class `)', '', text)
    return ' '.join(text.split()) or type(error).__name__


def is_written(error: BaseException) -> bool:
    """Whether a ``raise`` or ``assert`` statement with a message made the error."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not str(error):
        return False
    line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip()
    return line.startswith(('raise ', 'assert '))


def users_mistake(error: BaseException, setting_up: bool) -> str | None:
    """The line to show for an error.

    Args:
        error (BaseException): The error.
        setting_up (bool): Whether it came before training or testing began.

    Returns:
        str, optional: The line; None where the error is not a user's mistake.
    """
    if isinstance(error, ConfigError | BadVideoError | SelectionError):
        return one_line(error)
    if isinstance(error, FILE_ERRORS) or (
            isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return one_line(error)
    if _in_checkpoint_loading(error):
        return _unreadable_checkpoint(error)
    if not setting_up or not isinstance(error, WRITTEN_ERRORS):
        return None
    if isinstance(error, TypeError) and CALL_ERRORS.search(str(error)):
        return one_line(error)
    return one_line(error) if is_written(error) else None


@contextmanager
def report_mistakes(stage: SetUpDoneHook | None = None) -> Iterator[None]:
    """Turn a user's mistake into one line on stderr and exit status 2.

    Args:
        stage (SetUpDoneHook, optional): Tells when setting up is over; without it all
            that is done in the context is setting up.

    Yields:
        None: The context.

    Raises:
        SystemExit: With status 2, for a user's mistake.
    """
    try:
        yield
    except Exception as error:
        line = users_mistake(error, stage is None or not stage.done)
        if line is None or os.environ.get(TRACEBACK_VARIABLE, '0') not in ('', '0'):
            raise
        rank = os.environ.get('RANK', '0')
        prefix = 'error' if rank == '0' else f'error on rank {rank}'
        sys.stdout.flush()
        print(f'{prefix}: {line}', file=sys.stderr, flush=True)
        raise SystemExit(EXIT_STATUS) from None


def _in_checkpoint_loading(error: BaseException) -> bool:
    """Whether ``torch.load`` raised it, called by one of mmengine's loaders."""
    if not isinstance(error, pickle.UnpicklingError | RuntimeError | EOFError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name.startswith('load_from_') and 'mmengine' in frame.filename
               for frame in frames)


def _unreadable_checkpoint(error: BaseException) -> str:
    """The line for a checkpoint that is damaged or holds more than weights."""
    filename = '?'
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name.startswith('load_from_'):
            filename = frame.f_locals.get('filename', filename)
    reason = str(error).strip()
    refused = re.search(r'Unsupported \w+: .*?(?= by default| was not)', reason)
    if refused:
        return (f'checkpoint {filename} holds more than weights, and loading it could '
                f'run any code: {refused.group(0)}; save its state_dict alone')
    first = reason.splitlines()[0] if reason else type(error).__name__
    return (f'checkpoint {filename} cannot be read, it is damaged or no checkpoint: '
            f'{first}')
