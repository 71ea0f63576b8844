# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What tools/benchmark.py found, as a table and as a picture; accuracies beside it."""
import _checkout  # noqa: F401, I001

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmaction_tokenreduce.engine.user_errors import ConfigError
from mmaction_tokenreduce.evaluation import align_columns, machine_line
from mmaction_tokenreduce.whole_file import whole_file

Result = dict[str, Any]
Row = dict[str, Any]


def known_accuracies(paths: Mapping[str, str],
                     given: Sequence[str] | None) -> dict[str, Any]:
    """Accuracies of models: those that were given, or else of the metafiles.

    Args:
        paths: The config files by name.
        given: NAME=VALUE of configs, or None.

    Returns:
        ``metric``, what is meant, and ``values`` by name. Of a metafile the first
        metric counts, and with it those of models that have the same one.

    Raises:
        ConfigError: If what was given is no number, or of no config.
    """
    if given is not None:
        return dict(metric='accuracy', values=dict(_given(paths, given)))
    found = {name: entry for name, path in paths.items()
             if (entry := _published(Path(path))) is not None}
    metric = next((entry[0] for entry in found.values()), None)
    return dict(metric=metric, values={
        name: value for name, (kind, value) in found.items() if kind == metric})


def _given(paths: Mapping[str, str],
           given: Sequence[str]) -> Iterator[tuple[str, float]]:
    for word in given:
        name, _, value = word.partition('=')
        if name not in paths:
            raise ConfigError(f'--accuracy {word}: NAME must be one of '
                              f'{", ".join(paths)}')
        try:
            yield name, float(value)
        except ValueError:
            raise ConfigError(f'--accuracy {word}: VALUE must be a number') from None


def _published(config: Path) -> tuple[str, float] | None:
    """Name and value of the first metric of a config in the metafile beside it."""
    index = config.with_name('metafile.yml')
    if not index.is_file():
        return None
    models = yaml.safe_load(index.read_text())['Models']
    results = [result for model in models if model['Name'] == config.stem
               for result in model.get('Results') or ()]
    return next(iter(results[0]['Metrics'].items())) if results else None


def as_table(result: Result) -> str:
    """The measurements as text."""
    blocks = [_heading(result)]
    parts = sorted({part for row in result['rows'] for part in row['part_shares']},
                   reverse=True)
    cells = [_cells(row, result, parts) for row in result['rows']]
    if _one_size(result):
        for row in cells:
            row['clips'] = ''
    titles = [title for title in cells[0] if any(row[title] for row in cells)]
    blocks.append(align_columns([tuple(titles), *(
        tuple(row[title] or '-' for title in titles) for row in cells)]))
    if result['data']:
        blocks.append(align_columns([
            ('loading a sample, one process', 'ms', 'quartiles', 'samples/s', 'views'),
            *((name, f'{row["ms"]:.1f}', _between(row['ms_quartiles']),
               f'{row["samples_per_s"]:.1f}', str(row['views']))
              for name, row in result['data'].items())]))
    return '\n\n'.join(blocks)


def _heading(result: Result) -> str:
    size = f'{_size(result["rows"][0])}, ' if _one_size(result) else ''
    lines = [f'{result["task"]}, {size}{", ".join(precisions(result))}, medians of '
             f'{result["turns"]} turns', machine_line(result['machine'])]
    if result['warning']:
        lines.append(f'warning: {result["warning"]}')
    return '\n'.join(lines)


def _one_size(result: Result) -> bool:
    """Whether all models had batches of one size."""
    return len({_size(row) for row in result['rows']}) == 1


def _size(row: Row) -> str:
    return 'x'.join(map(str, (row['batch'], *row['shape'])))


def precisions(result: Result) -> list[str]:
    """The types that products were computed in."""
    return sorted({row['precision'] for row in result['rows']})


def _cells(row: Row, result: Result, parts: Sequence[str]) -> dict[str, str]:
    """A row by title; empty where nothing was measured."""
    accuracy = result['accuracy']['values'].get(row['model'])
    cells = {
        'model': row['model'],
        'clips': _size(row),
        'ms': f'{row["ms"]:.1f}',
        'quartiles': _between(row['ms_quartiles']),
        'clips/s': f'{row["clips_per_s"]:.2f}',
        'times as fast': f'{row["times_as_fast"]:.2f}',
        'quartiles of that': _between(row['times_as_fast_quartiles'], 2),
        'GFLOPs': f'{row["gflops"]:.2f}',
        'GFLOPs promise': f'{row["gflops_promise"]:.2f}',
        'reached': f'{row["promise_reached"]:.2f}',
        'floor ms': '', 'floor times as fast': '', 'floor reaches': '',
        'MiB': '', 'share of memory': '',
        'fused attention': str(row['fused_attention']),
        'accuracy': '' if accuracy is None else f'{accuracy:g}',
        'reducers': f'{row["selector_share"]:.1%}' if row['selector_share'] else ''}
    if 'floor_ms' in row:
        cells |= {'floor ms': f'{row["floor_ms"]:.1f}',
                  'floor times as fast': f'{row["floor_times_as_fast"]:.2f}',
                  'floor reaches': f'{row["floor_reached"]:.2f}'}
    if 'mb' in row:
        cells |= {'MiB': f'{row["mb"]:.0f}',
                  'share of memory': f'{row["share_of_memory"]:.3f}'}
    for part in parts:
        share = row['part_shares'].get(part)
        cells[part] = ('' if share is None
                       else f'{row["ms"] * share:.1f} ms ({share:.1%})')
    return cells


def _between(quartiles: Sequence[float], digits: int = 1) -> str:
    return '-'.join(f'{value:.{digits}f}' for value in quartiles)


def draw(result: Result, path: str) -> None:
    """Write a picture: time against GFLOPs, and accuracy against time if there is any.

    Args:
        result: The measurements.
        path: A file whose ending matplotlib knows.
    """
    known = result['accuracy']['values']
    panels = 2 if known else 1
    figure = Figure(figsize=(5.6 * panels, 4.6), layout='constrained')
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _draw_rows(axes[0], result['rows'], 'gflops')
    _draw_promise(axes[0], result['rows'])
    axes[0].set(ylabel='GFLOPs of a clip, forward pass', ylim=(0, None))
    if known:
        rows = [dict(row, accuracy=known[row['model']]) for row in result['rows']
                if row['model'] in known]
        _draw_rows(axes[1], rows, 'accuracy')
        axes[1].set(ylabel=result['accuracy']['metric'])
        axes[1].margins(y=0.2)
    longest = max(row['ms_quartiles'][1] / row['batch'] for row in result['rows'])
    for ax in axes:  # names stand to the right of their points
        ax.set(xlabel='ms a clip, medians and quartiles', xlim=(0, 1.45 * longest))
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.suptitle(f'{result["task"]}, {", ".join(precisions(result))}\n'
                    f'{machine_line(result["machine"])}', fontsize=8)
    with whole_file(path) as part:
        figure.savefig(part, dpi=130)


def _draw_rows(ax: Axes, rows: Sequence[Row], key: str) -> None:
    """A point for each row with its quartiles, a colour for each batch size."""
    for number, batch in enumerate(dict.fromkeys(row['batch'] for row in rows)):
        chosen = [row for row in rows if row['batch'] == batch]
        times = [row['ms'] / batch for row in chosen]
        spread = [[time - row['ms_quartiles'][0] / batch for time, row
                   in zip(times, chosen, strict=True)],
                  [row['ms_quartiles'][1] / batch - time for time, row
                   in zip(times, chosen, strict=True)]]
        ax.errorbar(times, [row[key] for row in chosen], xerr=spread, fmt='o',
                    color=f'C{number}', capsize=3, label=f'batch {batch}')
        if number == 0:
            for time, row in zip(times, chosen, strict=True):
                ax.annotate(row['model'], (time, row[key]), (5, -9), fontsize=7,
                            textcoords='offset points')


def _draw_promise(ax: Axes, rows: Sequence[Row]) -> None:
    """The line on which models would lie whose time is proportional to GFLOPs."""
    for number, batch in enumerate(dict.fromkeys(row['batch'] for row in rows)):
        first = next(row for row in rows if row['batch'] == batch)
        ax.plot([0, first['ms'] / batch], [0, first['gflops']], '--', linewidth=1,
                color=f'C{number}', label=f'promised by {first["model"]}'
                if number == 0 else None)
