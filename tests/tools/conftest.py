# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The fixture that the tests of tools/demo.py share."""
import importlib

import pytest
from tiny_demo import write_video
from tiny_run import forget_runs


@pytest.fixture
def demo(repo_dir, monkeypatch, tmp_path):
    """The module tools/demo.py, in an empty folder with a video in it."""
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    monkeypatch.chdir(tmp_path)
    write_video('clip.mp4')
    yield importlib.import_module('demo')
    forget_runs()
