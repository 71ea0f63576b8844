# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""EpicKitchensMetric against sorting all pairs, and over two processes."""
import itertools
from datetime import timedelta

import pytest
import torch
import torch.multiprocessing as mp
from mmaction.registry import METRICS
from mmaction.structures import ActionDataSample

from mmaction_tokenreduce.evaluation import EpicKitchensMetric


def predictions(count, verbs=6, nouns=9):
    samples = []
    for _ in range(count):
        sample = ActionDataSample().set_gt_label([
            int(torch.randint(verbs, ())), int(torch.randint(nouns, ()))])
        sample.set_pred_score(dict(verb=torch.randn(verbs).mul(2).softmax(0),
                                   noun=torch.randn(nouns).mul(2).softmax(0)))
        samples.append(sample.to_dict())
    return samples


def by_hand(samples, k):
    """Shares of videos whose action, verb and noun is among the k likeliest."""
    right = torch.zeros(3)
    for sample in samples:
        verb, noun = (sample['pred_score'][task].tolist() for task in ('verb', 'noun'))
        label = tuple(sample['gt_label'].tolist())
        pairs = sorted(itertools.product(range(len(verb)), range(len(noun))),
                       key=lambda pair: -verb[pair[0]] * noun[pair[1]])  # noqa: B023
        right += torch.tensor([
            label in pairs[:k],
            label[0] in sorted(range(len(verb)), key=lambda v: -verb[v])[:k],  # noqa: B023
            label[1] in sorted(range(len(noun)), key=lambda n: -noun[n])[:k],  # noqa: B023
        ])
    return (right / len(samples)).tolist()


def test_accuracy_against_sorting_all_pairs():
    samples = predictions(200)
    metric = METRICS.build(dict(type='EpicKitchensMetric', topk=(1, 3, 5)))
    for start in range(0, 200, 7):
        metric.process(None, samples[start:start + 7])
    found = metric.evaluate(200)
    assert list(found)[0] == 'acc/action_top1'  # what save_best='auto' goes by
    for k in (1, 3, 5):
        wanted = by_hand(samples, k)
        assert 0 < wanted[0] < wanted[1] < 1
        for name, share in zip(('action', 'verb', 'noun'), wanted, strict=True):
            assert found[f'acc/{name}_top{k}'] == pytest.approx(share)
    assert len(found) == 9


def one(verb, noun, label):
    metric = EpicKitchensMetric()
    metric.process(None, [dict(
        pred_score=dict(verb=torch.tensor(verb), noun=torch.tensor(noun)),
        gt_label=torch.tensor(label))])
    return {key.removeprefix('acc/'): value
            for key, value in metric.evaluate(1).items()}


def test_a_worked_example():
    """The pairs' products, sorted: .54 .27 .09 .036 .024 .018 .012 .006 .004."""
    # .018 is sixth, though verb and noun are second
    found = one([0.6, 0.3, 0.1], [0.9, 0.06, 0.04], [1, 1])
    assert found == dict(action_top1=0, verb_top1=0, noun_top1=0,
                         action_top5=0, verb_top5=1, noun_top5=1)
    # .036 is fourth
    assert one([0.6, 0.3, 0.1], [0.9, 0.06, 0.04], [0, 1]) == dict(
        action_top1=0, verb_top1=1, noun_top1=0,
        action_top5=1, verb_top5=1, noun_top5=1)
    assert set(one([0.6, 0.3, 0.1], [0.9, 0.06, 0.04], [0, 0]).values()) == {1}


def test_ties_and_nan_are_not_right():
    assert set(one([0.25] * 4, [0.125] * 8, [0, 0]).values()) == {0, 1}
    found = one([1 / 6] * 6, [0.125] * 8, [0, 0])
    assert set(found.values()) == {0}
    nan = float('nan')
    assert set(one([nan] * 6, [nan] * 6, [0, 0]).values()) == {0}
    found = one([0.5, nan, 0.5, 0, 0, 0], [1.0, 0, 0, 0, 0, 0], [0, 0])
    assert found['noun_top1'] == 1 and found['verb_top1'] == found['action_top1'] == 0


def _rank(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2,
        timeout=timedelta(seconds=60))
    torch.manual_seed(0)
    samples = predictions(7)
    samples.append(samples[0])  # as a sampler pads the last process's share
    metric = EpicKitchensMetric()
    metric.process(None, samples[rank::2])
    found = metric.evaluate(7)
    torch.save(found, f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


def test_two_processes_count_every_video_once(tmp_path, monkeypatch):
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', 'lo')
    # forked, they need not import everything again
    mp.start_processes(_rank, (str(tmp_path), ), nprocs=2, start_method='fork')
    torch.manual_seed(0)
    metric = EpicKitchensMetric()
    metric.process(None, predictions(7))
    wanted = metric.evaluate(7)
    assert len(set(wanted.values())) > 3
    for rank in range(2):
        assert torch.load(tmp_path / f'{rank}.pth') == wanted


def test_a_prefix():
    metric = EpicKitchensMetric(prefix='epic')
    metric.process(None, predictions(2))
    assert 'epic/noun_top5' in metric.evaluate(2)


@pytest.mark.parametrize('change,words', [
    (dict(pred_score=torch.rand(6)), 'pred_score with verb and noun.* got Tensor'),
    (dict(pred_score=dict(verb=torch.rand(6))), 'pred_score with verb and noun'),
    (dict(pred_score=dict(verb=torch.rand(2, 6), noun=torch.rand(2, 9))),
     r'one row .* got shapes \[2, 6\] and \[2, 9\]'),
    (dict(gt_label=torch.tensor([6, 0])), 'verb label 6 must be 0 to 5'),
    (dict(gt_label=torch.tensor([0, 9])), 'noun label 9 must be 0 to 8'),
    (dict(gt_label=torch.tensor([3])), r'two whole numbers.* got torch.int64 \[1\]'),
    (dict(gt_label=torch.rand(2)), 'two whole numbers.* got torch.float32'),
    (dict(gt_label=None), 'two whole numbers, verb and noun, got nothing'),
])
def test_other_forms_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        EpicKitchensMetric().process(None, [predictions(1)[0] | change])


@pytest.mark.parametrize('topk', [(), (0, 5)])
def test_topk_is_checked(topk):
    with pytest.raises(ValueError, match='topk of EpicKitchensMetric'):
        EpicKitchensMetric(topk=topk)
