# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Training EVAD in two processes."""
import torch
from tiny_evad import detector, random_boxes, sample
from torch import nn
from two_ranks import assert_same, gradients_of_two

from mmaction_tokenreduce.models import sparse_localizer


class Summed(nn.Module):
    """A detector and the actors of some clips; maps the clips to their loss."""

    def __init__(self, counts):
        super().__init__()
        torch.manual_seed(0)
        self.model = detector(average_losses=False)
        for name, parameter in self.model.named_parameters():
            if 'proposal_bboxes' not in name:
                nn.init.normal_(parameter, std=0.1)
        generator = torch.Generator().manual_seed(1)
        self.samples = []
        for count in counts:
            torch.manual_seed(int(torch.randint(1000, (), generator=generator)))
            self.samples.append(sample(random_boxes(count), img_shape=(64, 96)))

    def forward(self, clips):
        return sum(self.model(clips, self.samples, mode='loss').values())


def make(first, count):
    whole = Summed([3, 2, 0, 0])  # none for the second process
    whole.samples = whole.samples[first:first + count]
    return whole


def test_a_process_without_actors_keeps_up(tmp_path, monkeypatch):
    """Both processes divide box losses by the actors of a process on average, 5 / 2."""
    clips = torch.randn(4, 3, 8, 64, 96)
    two = gradients_of_two(make, clips, tmp_path)
    monkeypatch.setattr(sparse_localizer, 'all_reduce',
                        lambda count, op: count.fill_(2.5))
    halves = []
    for first in (0, 2):
        model = make(first, 2)
        model(clips[first:first + 2]).backward()
        halves.append({name: p.grad for name, p in model.named_parameters()})
    assert all(grad is not None for grad in halves[1].values())
    assert_same({name: (grad + halves[1][name]) / 2
                 for name, grad in halves[0].items()}, two)
