# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What the tests of configs share."""
import pytest
import torch


@pytest.fixture(autouse=True, scope='module')
def one_thread():
    """Models this small are no faster with more, and far slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
