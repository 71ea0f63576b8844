# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Every command in README and docs is one that the tools would accept.

Each is handed to its tool, which stops once it has read its options. `make commands`
runs them whole (`whole_commands.py`).
"""
import argparse
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / 'README.md', *ROOT.glob('docs/*.md'),
                *ROOT.glob('configs/*/README.md')])
BLOCK = re.compile(r'^ *```(\w*)\n(.*?)^ *```', re.MULTILINE | re.DOTALL)
SHELL = ('', 'bash', 'sh')
SETTING = re.compile('[A-Z_]+=')  # of the environment, before a command
BRACES = re.compile(r'(\S*?){([^{}\s]*,[^{}\s]*)}(\S*)')
# Not of this checkout: shell, pip, and what starts several processes or machines.
OTHERS = ('apt-get', 'cd', 'do', 'done', 'export', 'for', 'git', 'pip', 'sbatch',
          'source', 'srun', 'sudo', 'torchrun')


def expand(line):
    """A line with a{b,c} written out as ab ac, as bash does."""
    while found := BRACES.search(line):
        head, parts, tail = found.groups()
        words = ' '.join(f'{head}{part}{tail}' for part in parts.split(','))
        line = line[:found.start()] + words + line[found.end():]
    return line


def commands(page):
    """Commands in the blocks of a page, without settings and comments."""
    for language, text in BLOCK.findall(page.read_text()):
        if language not in SHELL:
            continue
        for line in text.replace('\\\n', ' ').replace('../', '').splitlines():
            words = shlex.split(expand(line), comments=True)
            while words and SETTING.match(words[0]):
                words.pop(0)
            if words:
                yield words


COMMANDS = {f'{page.relative_to(ROOT)}: {" ".join(words)}': words
            for page in PAGES for words in commands(page)}


class AcceptedError(Exception):
    """The tool has read its options."""


@pytest.fixture
def stop_after_options(monkeypatch):
    parse = argparse.ArgumentParser.parse_args

    def parse_args(self, args=None, namespace=None):
        parse(self, args, namespace)
        raise AcceptedError

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
    monkeypatch.setattr(sys, 'path', sys.path[:])


def test_there_are_commands():
    assert len(COMMANDS) > 30


@pytest.mark.parametrize('words', COMMANDS.values(), ids=COMMANDS)
def test_a_command(words, stop_after_options, monkeypatch, capsys):
    program, *rest = words
    if program == 'make':
        targets = re.search(r'^\.PHONY: (.*)$', (ROOT / 'Makefile').read_text(),
                            re.MULTILINE)[1].split()
        assert all('=' in word or word in targets for word in rest)
    elif program in ('bash', 'sh'):
        assert (ROOT / rest[0]).is_file()
    elif program == 'python' and rest[0] != '-m':
        monkeypatch.setattr(sys, 'argv', rest)
        monkeypatch.chdir(ROOT)
        monkeypatch.syspath_prepend(str((ROOT / rest[0]).parent))
        try:
            with pytest.raises(AcceptedError):
                runpy.run_path(rest[0], run_name='__main__')
        except SystemExit:
            pytest.fail(capsys.readouterr().err)
    else:
        assert program in OTHERS or program == 'python', words
    for word in rest:
        if word.startswith(('configs/', 'tools/', 'tests/', 'docs/')):
            assert (ROOT / word).exists(), word
