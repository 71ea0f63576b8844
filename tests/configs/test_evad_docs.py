# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""docs/evad.md: its recipe builds, and its figures are those of the configs' table."""
import torch
from config_files import ROOT, build, shrink_detector, table_rows, tables
from mmengine.config import Config
from tiny_evad import clip, random_boxes, sample

PAGE = 'docs/evad.md'


def test_the_recipe_for_classes_of_ones_own(tmp_path):
    text = (ROOT / PAGE).read_text().split('```python\n')[1].split('```')[0]
    path = tmp_path / 'mine.py'
    path.write_text(text.replace("'configs/", f"'{ROOT.as_posix()}/configs/"))
    cfg = Config.fromfile(path)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.type == 'CheckedAVADataset' and dataset.num_classes == 6
        assert dataset.ann_file == f'data/mine/{split.replace("test", "val")}.csv'
        assert bool(dataset.get('test_mode')) == (split != 'train')
    assert cfg.test_evaluator.num_classes == 6
    assert cfg.test_evaluator.type == 'CheckedAVAMetric'
    shrink_detector(cfg)
    model = build(cfg).eval()
    with torch.no_grad():
        (result, ) = model.test_step(dict(
            inputs=[clip(frames=16)], data_samples=[sample(random_boxes(1))]))
    assert result.pred_instances.scores.shape[1] == 6


def test_the_table_of_costs_is_that_of_the_configs():
    column = 'config in `configs/evad/`'
    rows = [row for row in tables(PAGE) if '`' in row.get(column, '')]
    assert len(rows) == 10
    for row in rows:
        known = table_rows('evad')[row[column].strip('`')]
        assert (row['here'], row['released']) == (known['here'], known['paper'])
        assert row['keep'] == known['keep']
