# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Turn JHMDB-GT.pkl or UCF101v2-GT.pkl into JSON, without running what is in it:
python tools/data/convert_tube_pickle.py JHMDB-GT.pkl JHMDB-GT.json
"""
import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's package

from mmaction_tokenreduce.datasets.action_tubes import read_tubes  # noqa: E402
from mmaction_tokenreduce.datasets.tube_pickle import load_tubes  # noqa: E402
from mmaction_tokenreduce.engine.user_errors import report_mistakes  # noqa: E402
from mmaction_tokenreduce.whole_file import whole_file  # noqa: E402


def convert(source: Path, target: Path) -> str:
    """Write the JSON file and return what is in it.

    Raises:
        ValueError: If the pickle is refused or faulty.
    """
    if target.suffix != '.json':
        raise ValueError(f'{target}: the name must end in .json')
    try:
        tubes = load_tubes(source.read_bytes())
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from None
    with whole_file(target) as part:
        part.write_text(json.dumps(tubes))
        found = read_tubes(str(part))
    return (f'{target}: {len(found.labels)} classes, {len(found.nframes)} videos, '
            f'{len(found.train_videos)} splits')


def main(argv: Sequence[str] | None = None) -> None:
    """Run tools/data/convert_tube_pickle.py.

    Args:
        argv: Options; the command line's unless given.

    Raises:
        SystemExit: With status 2 for a user's mistake.
    """
    parser = argparse.ArgumentParser(
        prog='convert_tube_pickle.py',
        description='Turn the annotations of JHMDB or UCF101-24 from pickle to JSON.')
    parser.add_argument('pickle', type=Path, help='JHMDB-GT.pkl or UCF101v2-GT.pkl')
    parser.add_argument('json', type=Path, help='the file to write')
    args = parser.parse_args(argv)
    with report_mistakes():
        print(convert(args.pickle, args.json))


if __name__ == '__main__':
    main()
