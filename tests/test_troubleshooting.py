# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Messages that docs/troubleshooting.md quotes are those of the files it names."""
import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs/troubleshooting.md'


def rows():
    """Message and source of every row that names a file."""
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split(' | ')]
        if line.startswith('| `') and cells[1].endswith('.py'):
            yield cells[0].removeprefix('| ').strip()[1:-1], cells[1]


@cache
def literals(source):
    """String literals of a file on one line each, with … for what is formatted in."""
    path = ROOT / source
    if not path.is_file():
        package, _, rest = source.partition('/')
        spec = importlib.util.find_spec(package)
        if spec is None:
            return None
        path = Path(spec.submodule_search_locations[0]) / rest
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            found.append(''.join(str(part.value) if isinstance(part, ast.Constant)
                                 else '…' for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return [' '.join(text.split()) for text in found]


def is_said(message, texts):
    """Whether the parts of a message come in order in one text, or each in some.

    The second where a message is put together of several literals.
    """
    parts = [part for part in re.split(r'\s*…\s*', message) if len(part) > 2]
    in_order = re.compile('.*'.join(map(re.escape, parts)))
    return any(map(in_order.search, texts)) or all(
        any(part in text for text in texts) for part in parts if part)


@pytest.mark.parametrize('message, source', list(rows()), ids=lambda text: text[:40])
def test_the_message_is_in_the_source(message, source):
    texts = literals(source)
    if texts is None:
        pytest.skip(f'{source} is of a package that is not installed')
    assert is_said(message, texts)


def test_a_message_that_is_nowhere_is_noticed():
    assert len(list(rows())) > 20
    assert not is_said('keep=… is beyond (0, 1]', literals(
        'mmaction_tokenreduce/layers/grid_reducer.py'))


def test_the_page_names_what_exists():
    text = PAGE.read_text()
    for name in re.findall(r'tools/\w+(?:/\w+)*\.(?:py|sh)', text):
        assert (ROOT / name).is_file(), name
    for name in re.findall(r'\]\((\w+\.md)\)', text):
        assert (ROOT / 'docs' / name).is_file(), name
