# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Files that are written whole or not at all."""
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Write to a temporary name in the file's folder, then rename it.

    Args:
        path: The file; folders above it are made, an older file is replaced.

    Yields:
        Where to write; it becomes ``path`` unless the block raises, and has the same
        suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
