# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Released checkpoints to ours:
python tools/convert_checkpoint.py SRC DST --source NAME."""
import _checkout  # noqa: F401, I001

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmaction_tokenreduce.convert import CONVERTERS, read_checkpoint, write_checkpoint
from mmaction_tokenreduce.engine.cli import EPILOG, load_config
from mmaction_tokenreduce.engine.user_errors import ConfigError, report_mistakes

from _model import build_model

ROOT = Path(__file__).resolve().parents[1]


def parser() -> argparse.ArgumentParser:
    """The options of tools/convert_checkpoint.py."""
    known = '; '.join(f'{name}: {converter.about} ({converter.config})'
                      for name, converter in CONVERTERS.items())
    result = argparse.ArgumentParser(
        prog='convert_checkpoint.py', epilog=EPILOG,
        description='Write the weights of a released checkpoint under our names. Every '
        'weight must find its place in the model, and every place its weight; what is '
        'left out on purpose is named.')
    result.add_argument('src', metavar='SRC',
                        help='released file: .pyth, .pth, .pt or .safetensors')
    result.add_argument('dst', metavar='DST',
                        help='checkpoint to write, for load_from or tools/test.py')
    result.add_argument('--source', required=True, choices=list(CONVERTERS),
                        help=f'where SRC comes from, and its config: {known}')
    result.add_argument('--config', help='config of the model that SRC must fit, where '
                        'it is not the one named for the source')
    result.add_argument('--verbose', action='store_true',
                        help='print the old and new name of every weight')
    return result


def convert(args: argparse.Namespace) -> None:
    """Convert a file and print what became of its weights.

    Raises:
        ConfigError: If DST is a folder or SRC itself, or the config cannot be used.
        FileNotFoundError: If SRC or the config does not exist.
        ValueError: If SRC is no checkpoint, or does not fit the model.
    """
    src, dst = Path(args.src), Path(args.dst)
    if dst.is_dir():
        raise ConfigError(f'DST {dst} is a directory: name a file')
    if src.exists() and dst.exists() and src.samefile(dst):
        raise ConfigError(f'DST {dst} is SRC itself: name another file')
    converter = CONVERTERS[args.source]
    state_dict = read_checkpoint(src)
    config = load_config(args.config or str(ROOT / converter.config), None, ('model', ))
    options = {}
    if converter.takes_reducers:
        options['reducers'] = config.model.get('backbone', {}).get('reducers', [])
    result = converter.convert(state_dict, build_model(config), **options)
    used = args.config or converter.config
    write_checkpoint(dst, result.state_dict, dict(source=args.source, config=used))
    if args.verbose:
        print(result.listing() + '\n')
    print(f'{result.summary()}\n{src} -> {dst}, for {used}')


def main(argv: Sequence[str] | None = None) -> None:
    """Run tools/convert_checkpoint.py.

    Args:
        argv: Options; the command line's unless given.

    Raises:
        SystemExit: With status 2, for a user's mistake.
    """
    args = parser().parse_args(argv)
    with report_mistakes():
        convert(args)


if __name__ == '__main__':
    main()
